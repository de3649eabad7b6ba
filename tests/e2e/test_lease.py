"""Two agents that want one node's name, with Consul away and back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from lictor.consul_integration.lease import LOCK_DELAY, TTL
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def lease(agent: RunningAgent) -> str:
    return str(agent.ask("overview")["lease"]["state"])


def facts(consul: ConsulServer, agent: RunningAgent) -> dict[str, Any]:
    """What the agent tells of its node."""
    return dict(json.loads(consul.get_kv(f"lictor/nodes/{agent.node}") or "{}"))


@pytest.mark.checklist(
    28,
    "two agents with a data_dir each and one node's name, the second started while Consul was away",
    "Consul comes back; later the first agent is killed",
    "the second writes nothing until the lease is free; then it has the same ids, none twice",
)
def test_an_agent_that_started_while_consul_was_away_runs_on_and_writes_nothing_until_it_may(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    node, catalog = unique("node"), Catalog(own_consul)
    first = make_agent({"piper": web(), "vosk": web()}, consul=own_consul.http, node=node).start()
    first.wait_ready("piper", "vosk")
    wait_until(lambda: lease(first) == "held" and len(catalog.owned_by(first.id)) >= 2)
    wait_until(lambda: catalog.passing("piper", first.entry_id("piper")))
    own_consul.kill()
    second = make_agent({"piper": web()}, consul=own_consul.http, node=node).start()
    second.wait_ready("piper")  # Consul's absence never keeps an agent from running
    pid = second.service_pid("piper")
    own_consul.restart()

    wait_until(lambda: second.consul_state() == "node.taken")
    wait_until(lambda: lease(first) == "held" and first.consul_state() == "ok")
    overview: dict[str, Any] = second.ask("overview")
    assert overview["lease"]["state"] == "taken"
    assert first.id in overview["lease"]["sentence"]
    assert "another agent" in second.cli("status").err.lower()
    assert "другим агентом" in second.cli("status", env={"LICTOR_LANG": "ru"}).err
    told = second.cli("stop", "piper", "-o", "json").json
    assert told[0]["result"] == "pending"  # it counts here, and is not written
    assert own_consul.get_kv(f"lictor/desired/{node}/piper") is None
    assert second.cli("start", "piper", "--wait").code == 0
    assert catalog.owned_by(second.id) == []
    assert first.row("piper")["phase"] == "ready"

    pid = second.service_pid("piper")
    first.kill9()
    died = time.monotonic()
    wait_until(lambda: lease(second) == "held", within=2 * TTL + LOCK_DELAY + 30)
    assert time.monotonic() - died < 2 * TTL + LOCK_DELAY + 10
    # What the dead agent left is taken over, under the same ids: no duplicate, no stale entry.
    wait_until(lambda: second.entry_id("piper") in catalog.owned_by(second.id))
    wait_until(lambda: catalog.owned_by(first.id) == [])
    assert list(catalog.entries("piper")) == [second.entry_id("piper")]
    wait_until(lambda: catalog.entries("vosk") == {})
    wait_until(lambda: own_consul.get_kv(f"lictor/actual/{node}/vosk") is None)
    assert second.service_pid("piper") == pid


@pytest.mark.checklist(
    28,
    "an agent that has the lease of its node",
    "somebody else takes the lease",
    "nothing is stopped and nothing written until it is free again; all of it is told",
)
def test_losing_the_lease_stops_nothing_and_is_told(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    agent = make_agent({"piper": web()}, consul=own_consul.http).start()
    agent.wait_ready("piper")
    wait_until(lambda: lease(agent) == "held" and agent.consul_state() == "ok")
    pid, key = agent.service_pid("piper"), f"lictor/nodes/{agent.node}"
    thief = {"Name": "thief", "TTL": "60s", "LockDelay": "0s", "NodeChecks": []}
    session = own_consul.raw("PUT", "session/create", thief).json["ID"]
    # In one transaction, as nobody could be quicker: the agent would take it again at once.
    moves = [{"KV": {"Verb": "delete", "Key": key}}]
    lock = {"Verb": "lock", "Key": key, "Session": session, "Value": "eyJhZ2VudCI6ICJ0aGllZiJ9"}
    assert own_consul.raw("PUT", "txn", [*moves, {"KV": lock}]).status == 200

    wait_until(lambda: lease(agent) == "taken")
    index = own_consul.raw("GET", "agent/service/" + agent.entry_id("piper")).json["Meta"]
    assert "thief" in agent.cli("status", "-v").err or "thief" in str(agent.ask("overview"))
    assert agent.cli("restart", "piper", "--wait").code == 0
    assert agent.service_pid("piper") != pid
    assert own_consul.raw("GET", "agent/service/" + agent.entry_id("piper")).json["Meta"] == index
    wait_until(lambda: agent.consul_state() == "node.taken")

    assert own_consul.raw("PUT", f"session/destroy/{session}").status == 200
    wait_until(lambda: lease(agent) == "held" and agent.consul_state() == "ok")
    codes = [line["reason"] for line in agent.cli("events", "-o", "json").json]
    assert "node.taken" in codes
    assert "lease.held" in codes


@pytest.mark.checklist(
    28,
    "an agent that is registered; another is started on the same data_dir",
    "the first one is killed",
    "the other refused at once and wrote nothing; the next has the lease at once, same processes",
)
def test_a_second_agent_on_one_data_dir_writes_nothing_and_the_next_takes_over_at_once(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    agent = make_agent({"piper": web()}, consul=own_consul.http).start()
    agent.wait_ready("piper")
    catalog = Catalog(own_consul)
    catalog.wait_passing("piper", agent.entry_id("piper"))
    wait_until(lambda: lease(agent) == "held")
    path, pid = f"kv/lictor/nodes/{agent.node}", agent.service_pid("piper")
    wait_until(lambda: facts(own_consul, agent)["ui"], what="all is told: its page opens last")
    before = own_consul.raw("GET", path).json[0]
    refused = agent.cli("up", "-c", str(agent.config))
    assert (refused.code, "already runs" in refused.err) == (1, True), refused
    assert own_consul.raw("GET", path).json[0] == before
    agent.kill9()
    agent.start()
    began = time.monotonic()
    wait_until(lambda: lease(agent) == "held")
    assert time.monotonic() - began < TTL / 2  # a second on a quiet machine
    after = own_consul.raw("GET", path).json[0]
    assert after["Session"] == before["Session"]  # it goes on with the session of the dead one
    assert catalog.owned_by(agent.id).count(agent.entry_id("piper")) == 1
    assert agent.service_pid("piper") == pid
