"""https to a real Consul whose certificates Consul itself made, with and without ours asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lictor.consul_integration.address import ConsulAddress, TlsOptions
from lictor.consul_integration.checkup import examine
from lictor.core.errors import ConsulError, ConsulUnreachable
from tests.support.consul import ConsulServer, free_ports

pytestmark = pytest.mark.consul


def certificates(consul_bin: str, folder: Path) -> Path:
    """A CA, a server's and a client's certificate in `folder`, made by the `consul` program."""
    for words in ("ca create", "cert create -server -dc dc1", "cert create -cli -dc dc1"):
        subprocess.run([consul_bin, "tls", *words.split()], cwd=folder, check=True, timeout=60)
    return folder


@dataclass(frozen=True)
class Pair:
    """A Consul that wants client certificates, and where its certificates lie."""

    server: ConsulServer
    folder: Path

    @property
    def address(self) -> ConsulAddress:
        return ConsulAddress("https", "127.0.0.1", self.server.ports["https"])

    def options(self, **changes: object) -> TlsOptions:
        files = {
            "ca_file": self.folder / "consul-agent-ca.pem",
            "client_cert": self.folder / "dc1-cli-consul-0.pem",
            "client_key": self.folder / "dc1-cli-consul-0-key.pem",
        }
        return TlsOptions(**({name: str(path) for name, path in files.items()} | changes))


def with_tls(consul_bin: str, folder: Path, **more: object) -> Iterator[Pair]:
    server = ConsulServer(
        consul_bin,
        extra={
            "ca_file": str(folder / "consul-agent-ca.pem"),
            "cert_file": str(folder / "dc1-server-consul-0.pem"),
            "key_file": str(folder / "dc1-server-consul-0-key.pem"),
            **more,
        },
    )
    (server.ports["https"],) = free_ports(1)
    try:
        server.start()
        yield Pair(server, folder)
    finally:
        server.close()


@pytest.fixture(scope="module")
def folder(consul_bin, tmp_path_factory) -> Path:
    return certificates(consul_bin, tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_consul(consul_bin, folder) -> Iterator[Pair]:
    yield from with_tls(consul_bin, folder)


@pytest.fixture(scope="module")
def strict(consul_bin, folder) -> Iterator[Pair]:
    """It takes nobody without a certificate of its CA (`verify_incoming`)."""
    yield from with_tls(consul_bin, folder, verify_incoming=True)


@pytest.fixture(scope="module")
def other(consul_bin, tmp_path_factory) -> Path:
    """The certificates of somebody else's CA."""
    return certificates(consul_bin, tmp_path_factory.mktemp("other"))


async def test_the_authority_and_the_server_name_that_were_given_are_what_counts(
    tls_consul, connect
):
    ca = str(tls_consul.folder / "consul-agent-ca.pem")
    for tls in (
        TlsOptions(ca_file=ca, server_name="server.dc1.consul"),
        TlsOptions(ca_file=ca),  # the certificate names 127.0.0.1 too
        TlsOptions(verify=False),
    ):
        assert await connect(tls_consul.address, tls=tls).leader()


async def test_a_client_certificate_of_the_right_ca_is_let_in(strict, connect):
    client = connect(strict.address, tls=strict.options())
    assert await client.leader()
    assert await client.kv_put("tls/written", "yes")


def _wrong(pair: Pair, other: Path) -> dict[str, tuple[TlsOptions, str, str]]:
    theirs = {
        "client_cert": str(other / "dc1-cli-consul-0.pem"),
        "client_key": str(other / "dc1-cli-consul-0-key.pem"),
    }
    none = {"client_cert": "", "client_key": ""}
    stranger = str(other / "consul-agent-ca.pem")
    return {
        "no certificate": (pair.options(**none), "consul.no_certificate", "was given none"),
        "a stranger's": (pair.options(**theirs), "consul.no_certificate", "does not accept"),
        "another CA": (pair.options(ca_file=stranger), "consul.untrusted", "is not trusted"),
        "no CA": (pair.options(ca_file=""), "consul.untrusted", "is not trusted"),
        "another name": (
            pair.options(server_name="other.example"),
            "consul.untrusted",
            "for another name",
        ),
    }


@pytest.mark.parametrize(
    "case", ["no certificate", "a stranger's", "another CA", "no CA", "another name"]
)
async def test_what_is_wrong_with_certificates_is_said_in_one_sentence(
    strict, other, connect, case
):
    tls, code, words = _wrong(strict, other)[case]
    client = connect(strict.address, tls=tls)
    with pytest.raises(ConsulUnreachable, match=words) as caught:
        await client.leader()
    assert caught.value.code == code
    assert "consul." in caught.value.hint
    assert "SSL" not in caught.value.message
    (finding,) = await examine(client, ())
    assert (finding.level, finding.reason.code) == ("fail", code)
    assert finding.step is not None
    assert finding.step.code == "next.tls"


async def test_http_where_https_is_spoken_and_the_other_way_round_is_said(strict, connect):
    plain = connect(f"http://127.0.0.1:{strict.server.ports['https']}")
    with pytest.raises(ConsulError, match="https there") as caught:
        await plain.leader()
    assert caught.value.code == "consul.bad_address"
    secure = connect(ConsulAddress("https", "127.0.0.1", strict.server.http_port))
    with pytest.raises(ConsulError, match="does not speak https") as caught:
        await secure.leader()
    assert caught.value.code == "consul.bad_address"
