"""Three hosts with a network between them, one of which is cut off for a while."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from lictor.consul_integration.lease import LOCK_DELAY, TTL
from tests.e2e.world import web
from tests.support.agent import RunningAgent, wait_until
from tests.support.netns import FarMember, Network, members, why_not

pytestmark = pytest.mark.consul

HOSTS = ("a", "b", "c")


@dataclass
class World:
    network: Network
    servers: list[FarMember]
    clients: dict[str, FarMember]
    agents: dict[str, RunningAgent]

    def rows(self, asked: str) -> dict[str, dict[str, Any]]:
        """The rows of piper as one node tells them, by node."""
        rows = self.agents[asked].ask("nodes", {"names": ["piper"]})["services"]
        return {row["node"]: row for row in rows}


@pytest.fixture(scope="module")
def world(consul_bin: str) -> Iterator[World]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Network() as network:
        made = members(network, consul_bin, HOSTS)
        servers, clients = made[:3], dict(zip(HOSTS, made[3:], strict=True))
        agents: dict[str, RunningAgent] = {}
        try:
            for server in servers:
                server._spawn()
            for server in servers:
                assert server._wait_usable(), server.log()[-3000:]
            for name, client in clients.items():
                client.start()
                agents[name] = RunningAgent(
                    {"piper": web()},
                    consul=client.http,
                    node=name,
                    agent={"advertise": client.address},
                    under=network.under(name),
                ).start()
            for agent in agents.values():
                agent.wait_ready("piper")
                wait_until(lambda agent=agent: agent.ask("overview")["lease"]["state"] == "held")
            found = World(network, servers, clients, agents)
            wait_until(lambda: set(found.rows("c")) == set(HOSTS))
            yield found
        finally:
            for agent in agents.values():
                agent.close()
            for member in made:
                member.close()


def test_every_host_sees_all_and_may_order_on_each(world: World):
    for asked in HOSTS:
        wait_until(
            lambda asked=asked: {row["phase"] for row in world.rows(asked).values()} == {"ready"}
        )
    pids = {name: agent.service_pid("piper") for name, agent in world.agents.items()}
    done = world.agents["a"].cli("restart", "piper", "--node", "c", "--wait", "--timeout", "40s")
    assert done.code == 0, done
    assert world.agents["c"].service_pid("piper") != pids["c"]
    assert world.agents["b"].service_pid("piper") == pids["b"]
    found = world.agents["b"].cli("discover", "piper", "-o", "json").json
    assert {row["node"] for row in found} == set(HOSTS)


def test_a_host_that_is_cut_off_goes_on_and_takes_up_what_was_said_meanwhile(world: World):
    a, b = world.agents["a"], world.agents["b"]
    pids = {name: agent.service_pid("piper") for name, agent in world.agents.items()}
    world.network.cut("b")
    try:
        wait_until(lambda: b.consul_state() != "ok", within=60)
        wait_until(
            lambda: world.rows("a")["b"]["agent_state"] == "gone",
            within=2 * TTL + LOCK_DELAY + 60,
        )
        assert world.rows("c")["b"]["phase"] == "unknown"  # it runs, but nobody else can know
        assert {name: agent.service_pid("piper") for name, agent in world.agents.items()} == pids
        assert b.row("piper")["phase"] == "ready"
        told = a.cli("stop", "piper", "--node", "b", "-o", "json")
        assert [(row["node"], row["result"]) for row in told.json] == [("b", "pending")]
    finally:
        world.network.mend("b")
    b.wait_phase("piper", "stopped", within=60)
    wait_until(lambda: world.rows("a")["b"]["agent_state"] == "running", within=60)
    wait_until(lambda: world.rows("a")["b"]["phase"] == "stopped")
    assert a.cli("start", "piper", "--node", "b", "--wait", "--timeout", "40s").code == 0
    assert a.service_pid("piper") == pids["a"]
