"""`lictor generate dns`: a real dnsmasq, on port 53 of a loopback address, with the generated file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, web
from tests.support.agent import RunningAgent, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

HOST = "127.0.53.1"


@pytest.fixture
def dnsmasq() -> str:
    """The program; `scripts/bootstrap dev` brings it where it may."""
    found = shutil.which("dnsmasq", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        reason = "no dnsmasq (Debian and Ubuntu: package dnsmasq-base)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def port_for_names() -> int:
    """53 where we may have it, else some other one: then only the number is not the real one."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, 53))
        except OSError:
            probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(program: str, config: Path, port: int) -> Iterator[None]:
    """Run dnsmasq with this file and nothing else of the host's."""
    options = [
        *("--keep-in-foreground", f"--conf-file={config}", f"--port={port}"),
        *(f"--listen-address={HOST}", "--bind-interfaces", "--no-resolv", "--no-hosts"),
        *("--pid-file=", "--user=", "--group=", "--stop-dns-rebind", "--log-facility=-"),
    ]
    process = subprocess.Popen(
        [program, *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield
    except BaseException:
        process.terminate()
        print(process.communicate(timeout=20)[1])  # noqa: T201 - shown where the test failed
        raise
    finally:
        process.terminate()
        process.communicate(timeout=20)


def looked_up(name: str, kind: str, port: int) -> list[str]:
    """What a program gets from the resolver; empty also while it does not answer yet."""
    question = dns.message.make_query(name, kind)
    try:
        answer = dns.query.udp(question, HOST, port=port, timeout=2)
    except (dns.exception.Timeout, OSError):
        return []
    return [record.to_text() for rrset in answer.answer for record in rrset]


def generated(agent: RunningAgent, resolver: str) -> str:
    said = agent.cli("generate", "dns", "--for", resolver)
    assert (said.code, said.err) == (0, "")
    return said.out


def test_a_program_finds_a_service_through_dnsmasq(
    make_agent: MakeAgent, own_consul: ConsulServer, dnsmasq: str
):
    piper = web(group="voice", rank=1)
    agent = make_agent({"piper": piper}, consul=own_consul.http).start()
    agent.wait_ready("piper")
    Catalog(own_consul).wait_passing("piper", agent.entry_id("piper"))
    config = agent.dir / "10-consul.conf"
    config.write_text(generated(agent, "dnsmasq"))
    port = port_for_names()
    with serving(dnsmasq, config, port):
        found = wait_until(
            lambda: looked_up("piper.service.consul", "A", port), what="dnsmasq answers"
        )
        assert found == ["127.0.0.1"]
        (srv,) = looked_up("piper.service.consul", "SRV", port)
        assert srv.split()[2] == str(piper["port"])
        wait_until(lambda: looked_up("voice.query.consul", "A", port) == ["127.0.0.1"])
        # Others' names are not Consul's: this resolver has nobody else to ask.
        assert looked_up("piper.example", "A", port) == []
        # What is gone is gone at once, and back at once: nothing of it is kept in between.
        assert agent.cli("stop", "piper", "--wait").code == 0
        wait_until(lambda: looked_up("piper.service.consul", "A", port) == [])
        assert agent.cli("start", "piper", "--wait").code == 0
        wait_until(lambda: looked_up("piper.service.consul", "A", port) == ["127.0.0.1"])


def test_the_lines_name_the_place_of_this_consuls_dns(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    agent = make_agent({}, consul=own_consul.http).start()
    wait_until(lambda: agent.consul_state() == "ok")
    lines = generated(agent, "dnsmasq").splitlines()
    assert f"server=/consul/127.0.0.1#{own_consul.dns_port}" in lines
    text = generated(agent, "systemd-resolved")
    assert f"\nDNS=127.0.0.1:{own_consul.dns_port}\n" in text
    assert "\nDomains=~consul\n" in text
    assert agent.cli("generate", "dns").out in {text, "\n".join(lines) + "\n"}


def test_without_consul_it_is_the_usual_place_and_said_so(make_agent: MakeAgent):
    agent = make_agent({}, consul="http://127.0.0.1:1")
    said = agent.cli("generate", "dns", "--for", "dnsmasq")
    assert said.code == 0
    assert "server=/consul/127.0.0.1#8600" in said.out
    assert "the usual place" in said.err
    assert agent.cli("generate", "dns", "--for", "bind").code == 2
