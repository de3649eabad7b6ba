"""A person without a Consul: Lictor runs a real one, and it behaves as people need it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import dns.message
import dns.query
import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive

pytestmark = pytest.mark.consul

USUAL = (8500, 8600, 8300, 8301, 8302)


@pytest.fixture(scope="module", autouse=True)
def usual_ports_taken() -> Iterator[None]:
    """Somebody's Consul holds the usual ports: another one must do without."""
    with ExitStack() as stack:
        for port in USUAL:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                holder = stack.enter_context(socket.socket(socket.AF_INET, kind))
                with suppress(OSError):  # really taken: as well
                    holder.bind(("127.0.0.1", port))
        yield


class Answer(NamedTuple):
    status: int
    body: bytes


class Shell:
    """What a person does with `eval "$(lictor env)"`, and what a stranger can do without."""

    def __init__(self, agent: RunningAgent, binary: str) -> None:
        self._agent = agent
        self._binary = binary

    def exports(self) -> dict[str, str]:
        return dict(self._agent.cli("env", "-o", "json").json)

    def consul(self, *args: str) -> str:
        """Run the `consul` program in a shell that evaluated `lictor env`."""
        printed = self._agent.cli("env")
        assert printed.code == 0, printed
        done = subprocess.run(
            [
                "/bin/sh",
                "-c",
                'eval "$1"; shift; exec "$@"',
                "sh",
                printed.out,
                self._binary,
                *args,
            ],
            env={"PATH": os.defpath, "HOME": str(self._agent.dir)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout

    def anonymous(self, method: str, path: str, body: bytes | None = None) -> Answer:
        url = f"{self.exports()['CONSUL_HTTP_ADDR']}/v1/{path}"
        try:
            with urlopen(Request(url, body, method=method), timeout=10) as answer:
                return Answer(answer.status, answer.read())
        except HTTPError as error:
            with error:
                return Answer(error.code, error.read())


def _passing(shell: Shell, name: str, entry_id: str) -> bool:
    answer = shell.anonymous("GET", f"health/service/{name}?passing")
    return answer.status == 200 and any(
        one["Service"]["ID"] == entry_id for one in json.loads(answer.body)
    )


def _embedded(services: dict[str, Any], binary: str) -> dict[str, Any]:
    return {
        "services": services,
        "sections": {"consul": {"embedded": "always"}},
        "env": {"CONSUL_BIN": binary},
    }


def test_an_embedded_consul_serves_its_person_and_keeps_what_it_knows(
    make_agent: MakeAgent, consul_bin: str
):
    name = unique("local")
    agent = make_agent(**_embedded({name: web(tags=["tts"])}, consul_bin)).start()
    shell, entry_id = Shell(agent, consul_bin), agent.entry_id(name)
    agent.wait_ready(name)
    agent.wait_ready("consul")
    wait_until(lambda: agent.consul_state() == "ok")
    wait_until(lambda: _passing(shell, name, entry_id), what="passing, as everybody may read")

    exports = shell.exports()
    port = int(exports["CONSUL_HTTP_ADDR"].rpartition(":")[2])
    assert port not in USUAL
    assert exports["LICTOR_NODE"] == agent.node
    assert shell.anonymous("GET", "catalog/services").status == 200
    assert shell.anonymous("PUT", "kv/lictor/desired/x", b"{}").status == 403
    body = json.dumps({"ID": "evil", "Name": "evil"}).encode()
    assert shell.anonymous("PUT", "agent/service/register", body).status == 403
    path = f"agent/service/deregister/{entry_id}"
    assert shell.anonymous("PUT", path).status == 403
    assert _passing(shell, name, entry_id)

    shell.consul("kv", "put", "mine/note", "remember me")
    shell.consul("kv", "put", f"lictor/desired/{agent.node}/{name}", '{"state": "stopped"}')
    agent.wait_phase(name, "stopped")
    wait_until(
        lambda: name not in shell.consul("catalog", "services").split(), what="it left the catalog"
    )
    assert agent.cli("start", name, "--wait").code == 0
    wait_until(lambda: _passing(shell, name, entry_id), what="passing again")

    host, _, dns_port = wait_until(lambda: shell.exports().get("LICTOR_DNS")).rpartition(":")
    question = dns.message.make_query(f"tts.{name}.service.consul.", "SRV")
    answer = wait_until(
        lambda: dns.query.udp(question, host, port=int(dns_port), timeout=5).answer, what="DNS"
    )
    assert answer[0][0].port == agent.row(name)["port"]

    refused = agent.cli("stop", "consul")
    assert refused.code == 8
    foreseen = agent.ask("preview", {"verb": "stop", "names": ["consul"]})["refused"]
    assert foreseen["reasons"] == [
        {"code": "order.infrastructure", "params": {"service": "consul"}}
    ]
    assert foreseen["sentence"] in refused.err
    assert agent.row("consul")["phase"] == "ready"

    pids = (agent.service_pid("consul"), agent.service_pid(name))
    agent.kill9()
    agent.start()
    agent.wait_ready("consul", name)
    assert (agent.service_pid("consul"), agent.service_pid(name)) == pids
    wait_until(lambda: agent.consul_state() == "ok")

    assert agent.down().code == 0
    assert agent.processes() == []
    assert not any(alive(pid) for pid in pids)

    agent.start()
    agent.wait_ready("consul", name)
    wait_until(lambda: agent.consul_state() == "ok")
    assert shell.exports()["CONSUL_HTTP_ADDR"] == exports["CONSUL_HTTP_ADDR"]
    assert shell.consul("kv", "get", "mine/note").strip() == "remember me"
    wait_until(lambda: _passing(shell, name, entry_id), what="passing after down and up")

    pids = (agent.service_pid("consul"), agent.service_pid(name))
    assert agent.down("--keep").code == 0
    assert sorted(agent.processes()) == sorted(pids)


def test_an_embedded_consul_that_is_killed_comes_back_and_no_service_notices(
    make_agent: MakeAgent, consul_bin: str
):
    name = unique("unmoved")
    agent = make_agent(**_embedded({name: web()}, consul_bin)).start()
    shell = Shell(agent, consul_bin)
    agent.wait_ready(name)
    agent.wait_ready("consul")
    wait_until(lambda: agent.consul_state() == "ok")
    pid, first = agent.service_pid(name), agent.service_pid("consul")
    os.kill(first, 9)
    wait_until(lambda: agent.row("consul")["restarts"] == 1, what="its end is noticed")
    agent.wait_ready("consul")
    wait_until(lambda: _passing(shell, name, agent.entry_id(name)), what="registered again")
    assert agent.service_pid(name) == pid


def test_always_without_a_consul_program_is_one_sentence_and_exit_6(make_agent: MakeAgent):
    agent = make_agent(
        {"web": web()},
        sections={"consul": {"embedded": "always"}},
        env={"PATH": "/nonexistent"},
    )
    result = agent.cli("up", "-c", str(agent.config))
    assert result.code == 6
    errors = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "scripts/get-consul" in result.err
    assert "Traceback" not in result.err
    assert agent.processes() == []
