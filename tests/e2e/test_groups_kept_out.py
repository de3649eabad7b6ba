"""Members that work and that DNS does not give all the same: the next one has the place meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.consul import ConsulServer
from tests.support.sampling import srv_ports

pytestmark = pytest.mark.consul

Answers = Callable[[], frozenset[int]]


@pytest.fixture
def group() -> str:
    return unique("voice")


def start_pair(
    make_agent: MakeAgent, consul: ConsulServer, group: str, **keys: Any
) -> tuple[RunningAgent, dict[str, Any], Answers]:
    """`good` and `spare` of one group, `good` with `keys` and the place; and what the query gives."""
    services = {"good": web(group=group, rank=1, **keys), "spare": web(group=group, rank=2)}
    agent = make_agent(services, consul=consul.http).start()
    agent.wait_ready("good", "spare")

    def answers() -> frozenset[int]:
        return srv_ports(f"{group}.query.consul", consul.dns_port)

    wait_until(lambda: answers() == {services["good"]["port"]}, what="the best has the place")
    return agent, services, answers


@pytest.mark.parametrize("entry", ["good", "{group}:good"])
def test_whom_an_operator_puts_into_maintenance_in_consul_is_replaced_until_it_ends(
    make_agent: MakeAgent, own_consul: ConsulServer, group: str, entry: str
):
    agent, services, answers = start_pair(make_agent, own_consul, group)
    path = f"agent/service/maintenance/{agent.entry_id(entry.format(group=group))}"
    assert own_consul.raw("PUT", f"{path}?enable=true&reason=driver").status == 200
    wait_until(lambda: answers() == {services["spare"]["port"]}, what="the next has the place")
    assert agent.row("good")["phase"] == "ready"  # it runs as before
    assert own_consul.raw("PUT", f"{path}?enable=false").status == 200
    wait_until(lambda: answers() == {services["good"]["port"]}, what="it takes over again")


def test_who_fails_a_named_check_that_the_agent_asks_gives_the_place_away_first(
    make_agent: MakeAgent, own_consul: ConsulServer, group: str, tmp_path: Path
):
    sign = tmp_path / "sign"
    sign.touch()
    checks = {"sign": {"command": ["test", "-e", str(sign)], "interval": "1s"}}
    _, services, answers = start_pair(make_agent, own_consul, group, checks=checks)
    sign.unlink()
    seen = [answers()]

    def replaced() -> bool:
        seen.append(answers())
        return seen[-1] == {services["spare"]["port"]}

    wait_until(replaced, what="the next has the place")
    assert frozenset() not in seen, seen
    sign.touch()
    wait_until(lambda: answers() == {services["good"]["port"]}, what="it takes over again")


class _Changing(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_who_fails_a_named_check_that_consul_asks_is_replaced(
    make_agent: MakeAgent, own_consul: ConsulServer, group: str
):
    class Handler(_Changing):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            checks = {"store": {"http": url, "interval": "1s"}}
            _, services, answers = start_pair(make_agent, own_consul, group, checks=checks)
            Handler.status = 500
            spare = {services["spare"]["port"]}
            wait_until(lambda: answers() == spare, what="the next has the place")
            Handler.status = 200
            good = {services["good"]["port"]}
            wait_until(lambda: answers() == good, what="it takes over again")
        finally:
            server.shutdown()
            thread.join()
