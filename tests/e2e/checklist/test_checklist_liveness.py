"""Checklist: a health URL is not the whole truth about a model server; its counters say more."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import free_port, text_of
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

FACE = Path(__file__).parents[2] / "support" / "children" / "counting.py"


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    path = tmp_path / "mood"
    path.write_text("1 works")
    return path


@pytest.fixture
def model(make_agent: MakeAgent, own_consul: ConsulServer, mood: Path) -> tuple[RunningAgent, str]:
    name, port = unique("model"), free_port()
    definition: dict[str, Any] = {
        "command": [sys.executable, "-S", "-E", str(FACE), str(port), str(mood)],
        "port": port,
        "health": {"http": "/health", "interval": "1s", "timeout": "1s", "failures": 2}
        | {"stalled": "4s"},
        "metrics": "/metrics",
        "stop": {"timeout": "2s", "pause": "0s"},
    }
    agent = make_agent({name: definition}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    return agent, name


@pytest.mark.checklist(
    27,
    "a model server whose health URL answers, with a request in flight",
    "its counters stand still",
    "it is unhealthy with the reason and started afresh; idle it would have been left alone",
)
def test_a_server_that_answers_and_gets_nothing_done_is_started_afresh(
    model: tuple[RunningAgent, str], mood: Path
):
    agent, name = model
    mood.write_text("0 stuck")
    time.sleep(7)
    assert (agent.row(name)["phase"], agent.row(name)["restarts"]) == ("ready", 0)
    pid = agent.service_pid(name)
    mood.write_text("2 stuck")
    wait_until(lambda: agent.row(name)["restarts"] >= 1, what="it is started afresh")
    told = agent.cli("events", name, "-o", "json").json
    said = [str(row["reason_params"].get("output")) for row in told if row["reason"] == "unhealthy"]
    assert any("2 requests wait" in one for one in said), told
    mood.write_text("2 works")
    agent.wait_ready(name)
    assert agent.service_pid(name) != pid


@pytest.mark.checklist(
    27,
    "a model server that works for others",
    "it is too busy to answer its health URL; later its counters stand still as well",
    "shown as critical and not restarted while they move, restarted once they do not",
)
def test_a_server_too_busy_to_answer_is_left_to_its_work(
    model: tuple[RunningAgent, str], mood: Path
):
    agent, name = model
    pid = agent.service_pid(name)
    # Two looks show that its counters move; before that its silence counts as any other's.
    asked = mood.with_name("mood.asked")
    wait_until(lambda: len(text_of(asked).splitlines()) >= 2, what="its counters are looked at")
    mood.write_text("3 deaf")
    wait_until(lambda: agent.row(name)["health"] == "critical", what="it is seen to be silent")
    time.sleep(8)
    row = agent.row(name)
    assert (row["phase"], row["pid"], row["restarts"]) == ("ready", pid, 0)
    mood.write_text("3 works")
    wait_until(lambda: agent.row(name)["health"] == "passing", what="it answers again")
    mood.write_text("3 stuck")
    wait_until(lambda: agent.row(name)["restarts"] >= 1, what="it is started afresh")
