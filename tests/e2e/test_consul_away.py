"""Consul dies, comes back, comes back empty, freezes: what runs goes on running."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, web
from tests.support.agent import RunningAgent, argv_of, unique, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def _pids(agent: RunningAgent) -> dict[str, int | None]:
    return {row["name"]: row["pid"] for row in agent.status()}


def _all_passing(agent: RunningAgent, consul: ConsulServer, *names: str) -> None:
    for name in (*names, "lictor"):
        Catalog(consul).wait_passing(name, agent.entry_id(name))


def test_a_consul_that_died_and_came_back_restarts_nothing_and_hears_what_was_ordered(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    stays, stops, cold, touched = (unique(word) for word in ("stays", "stops", "cold", "touched"))
    typed = {**web(), "params": {"model": {"default": "small", "choices": ["small", "large"]}}}
    typed["command"] = [*typed["command"], "--file", "{param.model}"]
    services = {
        **{name: web() for name in (stays, stops)},
        cold: web(activation="manual"),
        touched: typed,
    }
    agent = make_agent(services, consul=own_consul.http).start()
    agent.wait_ready(stays, stops, touched)
    _all_passing(agent, own_consul, stays, stops, touched)
    wait_until(lambda: own_consul.get_kv(f"lictor/desired/{agent.node}/_lictor"))
    # A slip that nobody mended yet: an order that is not read back is not refused with it.
    own_consul.put_kv(f"lictor/desired/{agent.node}/{touched}", {"params": {"nobody": 1}})
    wait_until(lambda: "nobody" in agent.row(touched)["sentence"], what="the slip is refused")
    pids = _pids(agent)
    assert agent.cli("discover", stays).err == ""

    own_consul.kill()
    wait_until(lambda: agent.consul_state() != "ok", what="the loss is noticed")
    said = agent.cli("status")
    assert said.code == 0
    assert "Consul" in said.err
    assert _pids(agent) == pids
    remembered = agent.cli("discover", stays)
    assert remembered.code == 0
    assert "this is what it said" in remembered.err

    # Verbs take effect now, and are written down for later.
    assert agent.cli("stop", stops, "--wait").code == 0
    assert agent.cli("start", cold, "--wait").code == 0
    assert agent.cli("set", touched, "model=evil").code == 2  # nor past the config's choices
    assert agent.cli("set", touched, "model=large").code == 0
    wait_until(
        lambda: (row := agent.row(touched))["phase"] == "ready" and "large" in argv_of(row["pid"]),
        what="the parameter in force",
    )
    assert agent.cli("stop", touched).code == 0
    agent.wait_phase(touched, "stopped")
    assert stops in str(agent.ask("overview")["warnings"])
    # A crash is mended without Consul, too.
    os.kill(agent.service_pid(stays), signal.SIGKILL)
    wait_until(lambda: agent.row(stays)["restarts"] == 1)
    agent.wait_ready(stays)
    pids = _pids(agent)

    own_consul.restart()
    _all_passing(agent, own_consul, stays, cold)
    wait_until(lambda: agent.consul_state() == "ok")

    def state_of(name: str) -> Any:
        text = own_consul.get_kv(f"lictor/desired/{agent.node}/{name}")
        return json.loads(text)["state"] if text else None

    for name, state in ((stops, "stopped"), (cold, "running"), (touched, "stopped")):
        wait_until(lambda n=name, s=state: state_of(n) == s, what=f"{name} is pushed")
    document = json.loads(own_consul.get_kv(f"lictor/desired/{agent.node}/{touched}") or "{}")
    assert document["params"] == {"model": "large"}
    wait_until(lambda: Catalog(own_consul).entries(stops) == {}, what="its old entry is gone")
    wait_until(lambda: agent.ask("overview")["warnings"] == [], what="no warnings are left")
    time.sleep(0.5)
    assert _pids(agent) == pids


def test_a_consul_that_came_back_empty_stops_nothing_and_is_filled_again(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    kept, held = unique("kept"), unique("held")
    command = {**web(), "params": {"model": {"default": "small"}}}
    command["command"] = [*command["command"], "--file", "{param.model}"]
    agent = make_agent({kept: command, held: web()}, consul=own_consul.http).start()
    agent.wait_ready(kept, held)
    own_consul.put_kv(f"lictor/desired/{agent.node}/{kept}", {"params": {"model": "large"}})
    assert agent.cli("stop", held, "--wait").code == 0
    wait_until(
        lambda: (row := agent.row(kept))["phase"] == "ready" and "large" in argv_of(row["pid"]),
        what="the parameter in force",
    )
    _all_passing(agent, own_consul, kept)
    folder = f"lictor/desired/{agent.node}"
    wait_until(lambda: own_consul.get_kv(f"lictor/actual/{agent.node}/{kept}"))
    documents = {name: own_consul.get_kv(f"{folder}/{name}") for name in (kept, held)}
    assert None not in documents.values()
    pids = _pids(agent)

    own_consul.restart(wipe=True)
    _all_passing(agent, own_consul, kept)
    for key in (f"{folder}/_lictor", "lictor/desired/_all/_lictor"):
        wait_until(lambda k=key: own_consul.get_kv(k), what=f"the sentinel {key}")
    assert {name: own_consul.get_kv(f"{folder}/{name}") for name in documents} == documents
    wait_until(lambda: agent.consul_state() == "ok")
    assert _pids(agent) == pids
    assert agent.row(held)["phase"] == "stopped"
    assert Catalog(own_consul).entries(held) == {}
    for name in (kept, held):
        wait_until(
            lambda n=name: own_consul.get_kv(f"lictor/actual/{agent.node}/{n}"),
            what=f"the actual state of {name} is published again",
        )
    assert agent.cli("start", held, "--wait").code == 0  # and it is still in command
    _all_passing(agent, own_consul, kept, held)
    assert _pids(agent)[kept] == pids[kept]


@pytest.mark.checklist(
    11,
    "an agent that stands still (SIGSTOP), services and documents in Consul",
    "meanwhile Consul is restarted empty: no call of the agent ever fails",
    "entries, documents, actual state and the lease are all written again; nothing stopped",
)
def test_a_consul_that_was_emptied_while_nobody_looked_is_filled_again(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    names = [unique("kept") for _ in range(3)]
    agent = make_agent({name: web() for name in names}, consul=own_consul.http).start()
    agent.wait_ready(*names)
    _all_passing(agent, own_consul, *names)
    order = f"lictor/desired/{agent.node}/{names[0]}"
    own_consul.put_kv(order, {"state": "running", "by": "anna"})
    actual = [f"lictor/actual/{agent.node}/{name}" for name in names]
    for key in (*actual, f"lictor/nodes/{agent.node}"):
        wait_until(lambda k=key: own_consul.get_kv(k), what=key)
    wait_until(lambda: '"anna"' in (own_consul.get_kv(actual[0]) or ""), what="the order is read")
    pids = _pids(agent)
    agent.signal(signal.SIGSTOP)
    try:
        own_consul.restart(wipe=True)
    finally:
        agent.signal(signal.SIGCONT)
    _all_passing(agent, own_consul, *names)
    for key in (order, *actual, f"lictor/nodes/{agent.node}"):
        wait_until(lambda k=key: own_consul.get_kv(k), what=f"{key} is there again")
    assert json.loads(own_consul.get_kv(order) or "") == {"state": "running", "by": "anna"}
    assert _pids(agent) == pids
    told = [row["reason"] for row in agent.cli("events", "-o", "json").json]
    assert told.count("consul.emptied") == 1


def test_services_start_without_consul_and_are_registered_when_it_comes(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("early")
    own_consul.kill()
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    agent.wait_ready(name)
    pid = agent.service_pid(name)
    assert agent.row(name)["registered"] is not True
    own_consul.restart()
    _all_passing(agent, own_consul, name)
    assert agent.service_pid(name) == pid
    assert agent.row(name)["restarts"] == 0


def test_what_a_consul_said_that_came_late_is_remembered_soon(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("brief")
    own_consul.kill()
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    time.sleep(7)  # asked for everything in vain, and not to be asked again within the minute
    own_consul.restart()
    _all_passing(agent, own_consul, name)
    time.sleep(7)
    own_consul.kill()
    found = agent.cli("discover", name, "-o", "json")
    assert found.code == 0, found
    (row,) = found.json
    assert row["cached"] is True
    assert row["answer_age_s"] < 60


def test_a_frozen_consul_holds_up_no_verb_and_no_end(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("lively")
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    agent.wait_ready(name)
    _all_passing(agent, own_consul, name)
    pid = agent.service_pid(name)
    assert agent.cli("discover", name).code == 0
    own_consul.freeze()
    try:
        assert agent.cli("status", name, timeout=20).code == 0
        assert agent.cli("status", "--all-nodes", timeout=40).code == 6  # not: the agent is stuck
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: agent.row(name)["restarts"] == 1)
        agent.wait_ready(name)
        wait_until(lambda: agent.consul_state() != "ok")
        [found] = agent.cli("discover", name, "-o", "json", timeout=20).json
        assert (found["cached"], found["port"]) == (True, agent.row(name)["port"])
        assert agent.cli("stop", name, "--wait", timeout=40).code == 0
        assert agent.row(name)["phase"] == "stopped"
        everywhere = agent.cli("status", "--all-nodes", timeout=40)
        assert everywhere.code == 6, everywhere  # it is Consul that does not answer
        assert agent.down().code == 0
        assert agent.processes() == []
    finally:
        own_consul.thaw()
