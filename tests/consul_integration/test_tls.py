"""https to a real Consul whose certificates Consul itself made."""

import subprocess

import pytest

from lictor.consul_integration.address import ConsulAddress, TlsOptions
from lictor.core.errors import ConsulUnreachable
from tests.support.consul import ConsulServer, free_ports

pytestmark = pytest.mark.consul


@pytest.fixture(scope="module")
def tls_consul(consul_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    for words in ("ca create", "cert create -server -dc dc1"):
        subprocess.run([consul_bin, "tls", *words.split()], cwd=folder, check=True, timeout=60)
    server = ConsulServer(
        consul_bin,
        extra={
            "ca_file": str(folder / "consul-agent-ca.pem"),
            "cert_file": str(folder / "dc1-server-consul-0.pem"),
            "key_file": str(folder / "dc1-server-consul-0-key.pem"),
        },
    )
    (server.ports["https"],) = free_ports(1)
    try:
        yield server.start(), folder / "consul-agent-ca.pem"
    finally:
        server.close()


async def test_the_authority_and_the_server_name_that_were_given_are_what_counts(
    tls_consul, connect
):
    server, ca = tls_consul
    address = ConsulAddress("https", "127.0.0.1", server.ports["https"])
    for tls in (
        TlsOptions(ca_file=str(ca), server_name="server.dc1.consul"),
        TlsOptions(ca_file=str(ca)),  # the certificate names 127.0.0.1 too
        TlsOptions(verify=False),
    ):
        assert await connect(address, tls=tls).leader()


async def test_a_certificate_that_is_not_trusted_or_not_its_own_is_refused(tls_consul, connect):
    server, ca = tls_consul
    address = ConsulAddress("https", "127.0.0.1", server.ports["https"])
    for tls in (TlsOptions(), TlsOptions(ca_file=str(ca), server_name="other.example")):
        with pytest.raises(ConsulUnreachable, match="trusted"):
            await connect(address, tls=tls).leader()


async def test_plain_http_to_a_tls_port_is_an_error_and_not_a_hang(tls_consul, connect):
    server, _ = tls_consul
    from lictor.core.errors import ConsulError

    with pytest.raises(ConsulError):
        await connect(f"http://127.0.0.1:{server.ports['https']}").leader()
