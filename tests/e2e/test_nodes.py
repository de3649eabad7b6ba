"""Several nodes: three servers, three nodes with a Consul client each, one agent on each of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lictor.consul_integration.lease import LOCK_DELAY, TTL
from tests.e2e.world import plain, web
from tests.support.agent import Result, RunningAgent, wait_until
from tests.support.consul import ConsulServer
from tests.support.consul_cluster import Cluster

pytestmark = pytest.mark.consul


@dataclass
class World:
    """The cluster, and the agents of the nodes a, b and c. `piper` is on a and b."""

    cluster: Cluster
    agents: dict[str, RunningAgent]
    clients: dict[str, ConsulServer]

    def services(self, asked: str, *names: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The rows of `status --all-nodes` as one node tells them, by node and service."""
        rows = self.agents[asked].ask("nodes", {"names": list(names)})["services"]
        return {(row["node"], row["name"]): row for row in rows}

    def nodes(self, asked: str) -> dict[str, dict[str, Any]]:
        return {one["node"]: one for one in self.agents[asked].ask("nodes")["nodes"]}

    def put(self, key: str, document: dict[str, Any]) -> None:
        self.clients["a"].put_kv(f"lictor/desired/{key}", document)

    def forget(self, key: str) -> None:
        assert self.clients["a"].raw("DELETE", f"kv/lictor/desired/{key}").status == 200

    def wait_phase(self, asked: str, node: str, name: str, *phases: str) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            row = self.services(asked).get((node, name))
            return row if row is not None and row["phase"] in phases else None

        return wait_until(there, what=f"{name} on {node} is {phases}")


@pytest.fixture(scope="module")
def world(consul_bin: str) -> Iterator[World]:
    agents: dict[str, RunningAgent] = {}
    with Cluster(consul_bin) as cluster:
        clients: dict[str, ConsulServer] = {name: cluster.client(name) for name in "abc"}
        defined = {
            "a": {"piper": web(), "redis": web(), "brain": plain(depends_on=["redis"])},
            "b": {"piper": web(), "redis": web(), "brain": plain(depends_on=["redis"])},
            "c": {"vosk": plain()},
        }
        try:
            for name, client in clients.items():
                agents[name] = RunningAgent(defined[name], consul=client.http, node=name).start()
            for name, agent in agents.items():
                agent.wait_ready(*defined[name])
                wait_until(lambda agent=agent: agent.ask("overview")["lease"]["state"] == "held")
            made = World(cluster, agents, clients)
            wait_until(
                lambda: [row["phase"] for row in made.services("c").values()] == ["ready"] * 7,
                what="everything is published, and as ready",
            )
            yield made
        finally:
            for agent in agents.values():
                agent.close()


def test_every_node_shows_the_services_of_all_nodes(world: World):
    for asked in "abc":
        rows = world.services(asked)
        assert {key for key in rows if key[1] == "piper"} == {("a", "piper"), ("b", "piper")}
        assert {row["agent_state"] for row in rows.values()} == {"running"}
        wait_until(lambda a=asked: {r["phase"] for r in world.services(a).values()} == {"ready"})
        table = world.agents[asked].cli("status", "--all-nodes")
        assert table.code == 0
        assert [line.split()[:2] for line in table.out.splitlines() if " piper " in line] == [
            ["a", "piper"],
            ["b", "piper"],
        ]
    rows = world.agents["c"].cli("status", "piper", "--all-nodes", "-o", "json").json
    assert [(row["node"], row["name"], row["phase"]) for row in rows] == [
        ("a", "piper", "ready"),
        ("b", "piper", "ready"),
    ]
    assert {"desired", "health", "sentence", "pid", "address", "port", "uptime_s"} <= rows[0].keys()
    assert rows[0]["uptime_s"] is None  # not measured here
    assert world.agents["c"].cli("status", "nobody", "--all-nodes").code == 4
    assert world.agents["c"].cli("status", "--all-nodes", "--watch").code == 2


def test_a_node_tells_its_facts_and_its_key_is_locked(world: World):
    node = world.nodes("a")["b"]
    assert (node["state"], node["age_s"], node["services"]) == ("running", 0.0, 3)
    assert node["agent"] == world.agents["b"].id
    assert node["cpus"] >= 1
    assert node["memory_mb"] > 100
    assert node["version"]
    stored = world.clients["a"].raw("GET", "kv/lictor/nodes/b").json[0]
    assert stored["Session"]


def test_a_service_of_another_node_is_stopped_started_and_restarted(world: World):
    a, b = world.agents["a"], world.agents["b"]
    here, pid = a.service_pid("piper"), b.service_pid("piper")
    stopped = a.cli("stop", "piper", "--node", "b", "--wait", "--timeout", "40s", "-o", "json")
    assert stopped.code == 0, stopped
    assert [(r["node"], r["service"], r["result"]) for r in stopped.json] == [
        ("b", "piper", "done")
    ]
    assert b.row("piper")["phase"] == "stopped"
    document = json.loads(world.clients["c"].get_kv("lictor/desired/b/piper") or "{}")
    assert document["state"] == "stopped"

    started = a.cli("start", "piper", "--node", "b", "--wait", "--timeout", "40s")
    assert started.code == 0, started
    assert "b" in started.out.split()
    again = b.service_pid("piper")
    assert again != pid

    restarted = a.cli("restart", "piper", "--node", "b", "--wait", "--timeout", "40s")
    assert restarted.code == 0, restarted
    assert b.service_pid("piper") != again
    assert a.service_pid("piper") == here
    world.forget("b/piper")


def test_an_order_for_another_node_is_refused_as_it_would_be_there(world: World):
    a, b = world.agents["a"], world.agents["b"]
    hurt = a.cli("stop", "redis", "--node", "b")
    assert (hurt.code, "brain" in hurt.err) == (8, True), hurt
    assert b.cli("hold", "piper", "--reason", "mine", "--state", "running").code == 0
    try:
        wait_until(lambda: world.services("a")["b", "piper"].get("source") == "hold")
        held = a.cli("stop", "piper", "--node", "b", "-y")
        assert (held.code, "mine" in held.err) == (8, True), held
    finally:
        assert b.cli("release", "piper").code == 0
    for args, code, word in (
        (("stop", "piper", "--node", "nowhere"), 4, "nowhere"),
        (("stop", "vosk", "--node", "b"), 4, "vosk"),
        (("stop", "piper", "--node", "B!"), 2, "B!"),
    ):
        result = a.cli(*args)
        assert (result.code, word in result.err) == (code, True), result


def test_what_is_said_for_all_nodes_holds_where_a_node_says_nothing_itself(world: World):
    a, b, c = world.agents["a"], world.agents["b"], world.agents["c"]
    world.put("b/piper", {"state": "running", "by": "b"})
    wait_until(lambda: world.services("c")["b", "piper"].get("source") == "kv_node")
    result = c.cli("stop", "piper", "--node", "_all", "--wait", "--timeout", "40s", "-o", "json")
    assert {row["node"]: row["result"] for row in result.json} == {"a": "done", "b": "overtaken"}
    assert a.row("piper")["phase"] == "stopped"
    assert b.row("piper")["phase"] == "ready"
    world.forget("b/piper")
    b.wait_phase("piper", "stopped")
    world.forget("_all/piper")
    a.wait_ready("piper")
    b.wait_ready("piper")


def test_a_service_of_another_node_is_held_and_released_from_here(world: World):
    a, b = world.agents["a"], world.agents["b"]
    held = a.cli("hold", "piper", "--node", "b", "--reason", "new disk", "-o", "json")
    assert [(r["node"], r["service"], r["result"]) for r in held.json] == [("b", "piper", "done")]
    b.wait_phase("piper", "stopped")
    assert a.row("piper")["phase"] == "ready"
    row = world.services("c")["b", "piper"]
    assert (row["source"], row["why"], row["desired"]) == ("hold", "new disk", "stopped")
    assert b.cli("start", "piper").code == 8  # there it counts as any hold does
    assert world.clients["a"].raw("GET", "kv/lictor/desired/b/_holds/?keys").status == 404
    # It is over an order through KV, and it is the same person's to change.
    world.put("b/piper", {"state": "running", "by": "bert"})

    def hold_until(seconds: int) -> tuple[datetime, Result]:
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)
        until = ("--until", end.isoformat())
        what = ("hold", "piper", "--node", "b", "--reason", "new disk", *until)
        return end, a.cli(*what, "-o", "json")

    end, again = hold_until(3600)
    assert again.json[0]["result"] == "done", again
    assert round(world.services("c")["b", "piper"]["until"]) == round(end.timestamp())
    assert b.row("piper")["phase"] == "stopped"
    end, _ = hold_until(6)  # it may be over before anybody has looked at it
    b.wait_ready("piper")  # it ends by itself, at its time, on its own host
    assert datetime.now(UTC) >= end
    world.forget("b/piper")

    maintenance = ("--state", "maintenance", "--reason", "listen")
    assert a.cli("hold", "piper", "--node", "b", *maintenance).code == 0
    b.wait_phase("piper", "ready")
    wait_until(lambda: world.services("a")["b", "piper"]["desired"] == "maintenance")
    released = a.cli("release", "piper", "--node", "b", "-o", "json")
    assert [row["result"] for row in released.json] == ["done"]
    wait_until(lambda: b.row("piper")["desired"] == "running")
    kinds = {row["reason"] for row in b.cli("events", "--kind", "hold", "-o", "json").json}
    assert {"hold.placed", "hold.expired", "hold.released"} <= kinds


def test_a_hold_of_another_node_is_refused_as_it_would_be_there(world: World):
    a, b = world.agents["a"], world.agents["b"]
    hurt = a.cli("hold", "redis", "--node", "b", "--reason", "x")
    assert (hurt.code, "brain" in hurt.err) == (8, True), hurt
    assert a.cli("hold", "piper", "--node", "nowhere", "--reason", "x").code == 4
    assert a.cli("hold", "vosk", "--node", "b", "--reason", "x").code == 4
    assert a.cli("hold", "piper", "--node", "b").code == 2  # a hold has a reason
    # What got past the asking side is judged again where it is to count.
    order = {"state": "stopped", "by": "anna", "reason": "x", "id": "1"}
    world.clients["a"].put_kv("lictor/desired/b/_holds/redis", order)
    wait_until(
        lambda: (
            "outcome.refused"
            in {row["reason"] for row in b.cli("events", "redis", "-o", "json").json}
        )
    )
    assert b.row("redis")["phase"] == "ready"
    world.clients["a"].put_kv("lictor/desired/b/_holds/piper", {"state": "nonsense"})
    wait_until(lambda: "_holds/piper" in str(b.ask("overview")["warnings"]))
    world.forget("b/_holds/piper")
    wait_until(lambda: "_holds/piper" not in str(b.ask("overview")["warnings"]))


def _desired(row: dict[str, Any]) -> tuple[str, int]:
    return row["desired"], round(row["until"] or 0)


def test_a_word_for_all_nodes_ends_at_its_time_on_each_of_them(world: World):
    for state, phases in (("maintenance", ("ready",)), ("stopped", ("stopped", "stopping"))):
        order = {"state": state, "by": "anna"}
        end = datetime.now(UTC) + timedelta(hours=1)
        world.put("_all/piper", {**order, "until": end.isoformat()})
        for node in "ab":
            wait_until(
                lambda n=node, s=state: world.agents[n].row("piper")["desired"] == s,
                what=f"{node} follows",
            )
            assert world.agents[node].wait_phase("piper", *phases)
        ends = (state, round(end.timestamp()))
        wait_until(
            lambda wanted=ends: _desired(world.services("c")["a", "piper"]) == wanted,
            what="the end is shown on another node",
        )
        # Only now may it come near: it could overtake us.
        end = datetime.now(UTC) + timedelta(seconds=2)
        world.put("_all/piper", {**order, "until": end.isoformat()})
        for node in "ab":
            wait_until(lambda n=node: world.agents[n].row("piper")["desired"] == "running")
            world.agents[node].wait_ready("piper")
        assert datetime.now(UTC) >= end
    world.forget("_all/piper")


@pytest.mark.checklist(
    29,
    "three servers, three nodes with a Consul client each; one service on two of them",
    "the entry of one is withdrawn",
    "two instances with ids of their own; the other one stays",
)
def test_a_service_on_two_nodes_is_found_twice_and_removing_one_keeps_the_other(world: World):
    c = world.agents["c"]

    def found() -> dict[str, str]:
        rows = c.cli("discover", "piper", "-o", "json").json
        return {row["node"]: row["id"] for row in rows}

    wait_until(lambda: found() == {"a": "lictor:a:piper", "b": "lictor:b:piper"})
    assert world.agents["a"].cli("unregister", "piper").code == 0
    wait_until(lambda: found() == {"b": "lictor:b:piper"})
    assert world.agents["a"].cli("register", "piper").code == 0
    wait_until(lambda: set(found()) == {"a", "b"})


def start(agent: RunningAgent) -> Result:
    """Run an agent that should end at once."""
    done = subprocess.run(
        [sys.executable, "-m", "lictor", "up", "-c", str(agent.config)],
        env=agent.env,
        cwd=agent.dir,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_a_second_agent_for_a_node_starts_nothing_and_says_whose_the_name_is(world: World):
    second = RunningAgent({"piper": plain()}, consul=world.clients["a"].http, node="b")
    try:
        refused = start(second)
        assert refused.code == 1
        assert world.agents["b"].id in refused.err
        assert "agent.node" in refused.err
        assert not second.processes()
    finally:
        second.close()
    assert world.agents["b"].ask("overview")["lease"]["state"] == "held"


def test_an_agent_that_dies_changes_nothing_for_the_others_and_is_shown_as_gone(world: World):
    a, b = world.agents["a"], world.agents["b"]
    pids = {name: a.service_pid(name) for name in ("piper", "redis")}
    running = b.service_pid("piper")
    world.wait_phase("c", "b", "piper", "ready")  # as published: it is the last word of the dead
    b.kill9()
    died = time.monotonic()
    gone = wait_until(
        lambda: (row := world.nodes("c")["b"])["state"] == "gone" and row,
        within=2 * TTL + LOCK_DELAY + 30,
    )
    assert time.monotonic() - died < 2 * TTL + 15  # Consul itself takes up to twice the time
    assert gone["age_s"] > 0
    row = world.services("c")["b", "piper"]
    assert (row["phase"], row["last_phase"], row["agent_state"]) == ("unknown", "ready", "gone")
    assert "gone" in row["sentence"]
    said = world.agents["c"].cli("status", "--all-nodes", env={"LICTOR_LANG": "ru"})
    assert "пропал" in said.out + said.err
    assert {name: a.service_pid(name) for name in pids} == pids
    assert world.agents["c"].row("vosk")["phase"] == "ready"

    waiting = a.cli("restart", "piper", "--node", "b", "--wait", "--timeout", "5s", "-o", "json")
    assert [row["result"] for row in waiting.json] == ["pending"]  # until its agent is back
    assert waiting.code == 124
    held = a.cli("hold", "redis", "--node", "b", "--reason", "later", "-y", "-o", "json")
    assert [row["result"] for row in held.json] == ["pending"]
    began = time.monotonic()
    b.start()
    wait_until(lambda: b.ask("overview")["lease"]["state"] == "held")
    assert time.monotonic() - began < TTL
    b.wait_phase("redis", "stopped")  # the hold that waited for it
    assert a.cli("release", "redis", "--node", "b").code == 0
    b.wait_ready("redis")
    wait_until(lambda: b.row("piper")["pid"] not in {None, running}, what="it was restarted")
    b.wait_ready("piper")
    world.forget("b/piper")


def test_an_orderly_end_gives_the_name_to_the_next_agent_at_once(world: World):
    c = world.agents["c"]
    assert c.down().code == 0
    assert wait_until(lambda: world.nodes("a")["c"]["state"] == "ended")
    heir = RunningAgent({"vosk": plain()}, consul=world.clients["c"].http, node="c")
    try:
        began = time.monotonic()
        heir.start()
        wait_until(lambda: heir.ask("overview")["lease"]["state"] == "held")
        assert time.monotonic() - began < TTL
        assert heir.down().code == 0
    finally:
        heir.close()
        c.start()
    wait_until(lambda: c.ask("overview")["lease"]["state"] == "held")


def test_without_an_agent_consul_itself_tells_of_all_nodes(world: World):
    nobody = RunningAgent({}, consul=world.clients["a"].http, node="d")
    try:
        env = {"LICTOR_CONFIG": str(nobody.config)}
        rows = nobody.cli("status", "--all-nodes", "-o", "json", env=env).json
        assert {"a", "b", "c"} == {row["node"] for row in rows}
    finally:
        nobody.close()
