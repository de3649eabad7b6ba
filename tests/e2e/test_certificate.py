"""A renewed certificate is served without a restart; one that is no good changes nothing."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import time
from pathlib import Path
from socket import create_connection

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, wait_until

pytestmark = pytest.mark.consul

ALONE = {"consul": {"embedded": "never", "address": "http://127.0.0.1:1"}}


class Authority:
    """Makes certificates of one authority, as `consul tls` does."""

    def __init__(self, consul_bin: str, folder: Path) -> None:
        self._bin, self._folder = consul_bin, folder
        self._made = 0
        self._run("ca create")
        self.file = folder / "consul-agent-ca.pem"

    def issue(self, cert: Path, key: Path) -> int:
        """Put a new pair where the agent looks for it; the answer tells it from others."""
        self._run("cert create -server -dc dc1")
        made = self._folder / f"dc1-server-consul-{self._made}"
        self._made += 1
        for source, target, mode in ((f"{made}-key.pem", key, 0o600), (f"{made}.pem", cert, 0o644)):
            fresh = target.with_suffix(".new")
            shutil.copy(source, fresh)
            fresh.chmod(mode)
            fresh.replace(target)  # as certbot does: one file after the other
        return self.mark_of(cert)

    def mark_of(self, cert: Path) -> int:
        der = ssl.PEM_cert_to_DER_cert(cert.read_text())
        return hash(der)

    def _run(self, words: str) -> None:
        command = [self._bin, "tls", *words.split()]
        subprocess.run(command, cwd=self._folder, check=True, timeout=60, capture_output=True)


class Pair:
    """A running agent with its certificate, and what it serves."""

    def __init__(self, agent: RunningAgent, authority: Authority, cert: Path, key: Path) -> None:
        self.agent, self.authority, self.cert, self.key = agent, authority, cert, key
        self.port = 0

    def served(self, *, name: str | None = "localhost") -> int:
        """Which certificate a new connection is shown, without trusting anything."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.check_hostname = False
        with (
            create_connection(("127.0.0.1", self.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=name) as line,
        ):
            shown = line.getpeercert(binary_form=True)
            assert shown is not None
            return hash(shown)

    def told(self, code: str) -> bool:
        events = self.agent.cli("events", "-o", "json", "-n", "200").json
        return any(one["reason"] == code for one in events)


@pytest.fixture
def pair(make_agent: MakeAgent, consul_bin: str, tmp_path: Path) -> Pair:
    authority = Authority(consul_bin, tmp_path)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.issue(cert, key)
    tls = {"cert": str(cert), "key": str(key)}
    agent = make_agent({}, sections={**ALONE, "web": {"port": 0, "tls": tls}}).start()
    made = Pair(agent, authority, cert, key)
    url = wait_until(lambda: agent.ask("overview")["web"], what="the web's address")
    made.port = int(url.rsplit(":", 1)[1])
    wait_until(lambda: _answers(made), what="https")
    return made


def _answers(pair: Pair) -> bool:
    try:
        return bool(pair.served())
    except OSError:
        return False


def test_a_renewed_certificate_is_served_soon_and_open_connections_stay(pair: Pair):
    context = ssl.create_default_context(cafile=pair.authority.file)
    context.check_hostname = False
    with (
        create_connection(("127.0.0.1", pair.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):

        def alive() -> bool:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            text = b""
            while not text.endswith(b"}"):
                text += line.recv(4096)
            return text.startswith(b"HTTP/1.1 200")

        assert alive()
        pid = pair.agent.pid
        fresh = pair.authority.issue(pair.cert, pair.key)
        wait_until(lambda: alive() and pair.served() == fresh, what="the new one is served")
        assert pair.served(name=None) == fresh  # to who gives no name, too
        assert alive()
    assert pair.agent.pid == pid
    wait_until(lambda: pair.told("web.certificate_renewed"))


@pytest.mark.parametrize("way", ["reload", "hangup"])
def test_a_reload_looks_at_once(pair: Pair, way: str):
    fresh = pair.authority.issue(pair.cert, pair.key)
    if way == "reload":
        assert pair.agent.cli("reload").code == 0
        assert pair.served() == fresh
    else:
        pair.agent.signal(signal.SIGHUP)
        wait_until(lambda: pair.served() == fresh)


def test_a_certificate_that_is_no_good_changes_nothing_and_is_told(pair: Pair):
    before = pair.served()
    good = pair.cert.read_text()
    pair.cert.write_text("no certificate at all\n")
    assert pair.agent.cli("reload").code == 0
    assert pair.served() == before
    wait_until(lambda: pair.told("web.certificate_kept"))
    pair.key.chmod(0o644)
    pair.cert.write_text(good)
    assert pair.agent.cli("reload").code == 0
    assert pair.served() == before  # a key that everybody can read is none
    fresh = pair.authority.issue(pair.cert, pair.key)
    wait_until(lambda: pair.served() == fresh, what="it heals by itself")


def test_files_that_do_not_fit_together_for_a_moment_are_not_told(pair: Pair):
    before = pair.served()
    other = pair.cert.with_name("other.pem")
    other_key = pair.key.with_name("other-key.pem")
    pair.authority.issue(other, other_key)
    other_key.replace(pair.key)  # the key first: it does not fit the old certificate
    assert pair.served() == before
    other.replace(pair.cert)
    fresh = pair.authority.mark_of(pair.cert)
    wait_until(lambda: pair.served() == fresh)
    time.sleep(0.2)
    assert not pair.told("web.certificate_kept")
