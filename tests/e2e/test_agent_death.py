"""The agent is killed, upgraded, started again: services do not notice, nothing runs twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, diarist, plain, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, text_of
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def _facts(agent: RunningAgent) -> dict[str, Any]:
    return {row["name"]: (row["pid"], row["restarts"], row["phase"]) for row in agent.status()}


def test_a_killed_agent_finds_everything_again_and_nothing_runs_twice(
    make_agent: MakeAgent, consul: ConsulServer
):
    steady, crashed, bare, off = (unique(word) for word in ("steady", "crashed", "bare", "off"))
    services = {steady: web(), crashed: web(), bare: plain(), off: web()}
    agent = make_agent(services, consul=consul.http).start()
    catalog = Catalog(consul)
    agent.wait_ready(*services)
    for count in (1, 2):
        os.kill(agent.service_pid(crashed), signal.SIGKILL)
        wait_until(lambda n=count: agent.row(crashed)["restarts"] == n)
        agent.wait_ready(crashed)
    assert agent.cli("stop", off, "--wait").code == 0
    for name in (steady, crashed, bare):
        catalog.wait_passing(name, agent.entry_id(name))
    facts, marked = _facts(agent), sorted(agent.processes())
    entry = catalog.entries(steady)[agent.entry_id(steady)]["Service"]

    agent.kill9()
    assert sorted(agent.processes()) == marked
    assert agent.cli("status").code == 5
    agent.start()
    wait_until(lambda: _facts(agent) == facts, what="the same facts as before")
    assert sorted(agent.processes()) == marked
    for name in (steady, crashed, bare):
        catalog.wait_passing(name, agent.entry_id(name))
    catalog.wait_passing("lictor", agent.entry_id("lictor"))
    again = catalog.entries(steady)[agent.entry_id(steady)]["Service"]
    assert again["CreateIndex"] == entry["CreateIndex"]
    assert catalog.entries(off) == {}

    # What was adopted is supervised and obeys like what was started.
    os.kill(agent.service_pid(crashed), signal.SIGKILL)
    wait_until(lambda: agent.row(crashed)["restarts"] == 3)
    agent.wait_ready(crashed)
    pid = agent.service_pid(steady)
    assert agent.cli("stop", steady, "--wait").code == 0
    assert not alive(pid)
    catalog.wait_gone(steady, agent.entry_id(steady))
    assert agent.down().code == 0
    assert agent.processes() == []
    assert catalog.owned_by(agent.id) == []


def test_services_that_died_without_an_agent_are_noticed_once(
    make_agent: MakeAgent, consul: ConsulServer
):
    dead, fine = unique("dead"), unique("fine")
    agent = make_agent({dead: web(), fine: web()}, consul=consul.http).start()
    agent.wait_ready(dead, fine)
    pid, other = agent.service_pid(dead), agent.service_pid(fine)
    agent.kill9()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
    agent.start()
    wait_until(lambda: agent.row(dead)["restarts"] == 1, what="its death is counted")
    agent.wait_ready(dead)
    Catalog(consul).wait_passing(dead, agent.entry_id(dead))
    row = agent.row(dead)
    assert row["pid"] != pid
    assert "no agent was there to see it" in row["sentence"]  # an exit that nobody could see
    assert agent.service_pid(fine) == other
    time.sleep(0.5)
    agent.kill9()
    agent.start()
    agent.wait_ready(dead)
    assert agent.row(dead)["restarts"] == 1
    assert len(agent.processes()) == 2


@pytest.mark.checklist(
    26,
    "a service that loads for seconds",
    "the agent is killed meanwhile",
    "the same process is waited for, not started again",
)
def test_an_agent_killed_while_a_service_loads_waits_for_the_same_one(
    make_agent: MakeAgent, consul: ConsulServer, tmp_path: Any
):
    name, diary = unique("loads"), tmp_path / "diary"
    services = {name: diarist("loads", diary, "delay=4")}
    agent = make_agent(services, consul=consul.http).start()
    agent.wait_phase(name, "starting")
    wait_until(lambda: agent.row(name)["pid"])
    pid = agent.service_pid(name)
    agent.kill9()
    agent.start()
    assert agent.service_pid(name) == pid
    agent.wait_ready(name)
    assert agent.row(name)["restarts"] == 0
    assert text_of(diary).splitlines() == ["up loads", "open loads"]


def test_down_keep_leaves_services_running_and_registered_and_up_takes_them_over(
    make_agent: MakeAgent, consul: ConsulServer
):
    name, other = unique("keeper"), unique("keeper")
    agent = make_agent({name: web(), other: web()}, consul=consul.http).start()
    agent.wait_ready(name, other)
    catalog, entry_id = Catalog(consul), agent.entry_id(name)
    catalog.wait_passing(name, entry_id)
    catalog.wait_passing("lictor", agent.entry_id("lictor"))
    facts = _facts(agent)

    kept = agent.down("--keep")
    assert kept.code == 0
    assert agent.wait_exit() == 0
    assert sorted(agent.processes()) == sorted(pid for pid, _, _ in facts.values())
    assert catalog.passing(name, entry_id)
    catalog.wait_gone("lictor", agent.entry_id("lictor"))
    agent.start()
    agent.wait_ready(name, other)
    assert _facts(agent) == facts
    assert catalog.passing(name, entry_id)


def test_term_keeps_or_stops_services_as_the_config_says(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("term")
    agent = make_agent({name: web()}, consul=consul.http, agent={"on_term": "keep"}).start()
    agent.wait_ready(name)
    Catalog(consul).wait_passing(name, agent.entry_id(name))
    pid = agent.service_pid(name)
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert alive(pid)
    assert Catalog(consul).passing(name, agent.entry_id(name))
    agent.start()
    agent.wait_ready(name)
    assert agent.service_pid(name) == pid
    agent.signal(signal.SIGINT)  # of a person at a terminal: stop everything
    assert agent.wait_exit() == 0
    assert agent.processes() == []
    assert Catalog(consul).owned_by(agent.id) == []


def test_down_leaves_nothing_behind(make_agent: MakeAgent, consul: ConsulServer):
    names = [unique("gone") for _ in range(3)]
    agent = make_agent({name: web() for name in names}, consul=consul.http).start()
    agent.wait_ready(*names)
    for name in (*names, "lictor"):
        Catalog(consul).wait_passing(name, agent.entry_id(name))
    result = agent.down()
    assert result.code == 0
    assert agent.wait_exit() == 0
    assert agent.processes() == []
    assert Catalog(consul).owned_by(agent.id) == []
    assert not (agent.data_dir / "lictor.sock").exists()
    again = agent.cli("down")
    assert again.code == 0
    assert "No agent" in again.err
    assert agent.cli("status").code == 5


def test_a_second_int_does_not_wait_for_anybodys_grace(
    make_agent: MakeAgent, consul: ConsulServer, tmp_path: Any
):
    name, diary = unique("slow"), tmp_path / "diary"
    definition = diarist("slow", diary, "leave=60", stop={"timeout": "60s"})
    agent = make_agent({name: definition}, consul=consul.http).start()
    agent.wait_ready(name)
    begun = time.monotonic()
    agent.signal(signal.SIGINT)
    wait_until(lambda: "down slow" in text_of(diary), what="it was asked to go")
    while agent.running and time.monotonic() - begun < 30:
        time.sleep(0.7)  # a person presses again: not the same key press passed on twice
        if agent.running:
            agent.signal(signal.SIGINT)
    assert agent.wait_exit() == 0
    assert time.monotonic() - begun < 30
    assert agent.processes() == []


def test_a_key_held_down_to_the_very_end_does_not_make_the_end_a_death(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("held")
    agent = make_agent({name: web()}, consul=consul.http).start()
    agent.wait_ready(name)
    agent.signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    while agent.running and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            agent.signal(signal.SIGINT)
        time.sleep(0.002)
    assert agent.wait_exit() == 0
    assert agent.processes() == []


def test_up_detached_answers_before_it_returns_and_down_ends_it(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("detached")
    agent = make_agent({name: web()}, consul=consul.http)
    result = agent.cli("up", "-d", "-c", str(agent.config))
    assert result.code == 0
    agent.wait_ready(name)
    again = agent.cli("up", "-d", "-c", str(agent.config))
    assert again.code == 1
    assert "already runs" in again.err
    assert agent.cli("down").code == 0
    assert agent.processes() == []
    assert agent.cli("status").code == 5
