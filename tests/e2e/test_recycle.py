"""Services that are restarted although they run: too large, too old, or not well."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, child, free_port

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}
SOON = {"timeout": "2s", "pause": "0s"}


def checked(
    word: str, *, on_unhealthy: str, seconds: float, failures: int = 2
) -> dict[str, object]:
    port = free_port()
    return {
        "command": list(child(word, port=port, seconds=seconds)),
        "port": port,
        "health": {
            "http": "/health",
            "interval": "1s",
            "timeout": "1s",
            "failures": failures,
            "on_unhealthy": on_unhealthy,
        },
        "restart": {"backoff": "500ms"},
        "stop": SOON,
    }


def said(agent: RunningAgent, name: str) -> str:
    return str(agent.row(name)["sentence"])


# --- recycle ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_service_whose_whole_tree_grew_too_large_is_started_afresh(make_agent: MakeAgent):
    heavy, light = unique("heavy"), unique("light")
    rule = {"health": "none", "recycle": {"rss": "100MiB"}, "stop": SOON}
    # The memory is a grandchild's, as with a server that has workers.
    nested = " ".join(child("eat-memory", count=160))
    agent = make_agent(
        {
            heavy: {"command": ["sh", "-c", f"{nested} & wait"], **rule},
            light: {"command": list(child("eat-memory", count=16)), **rule},
        },
        sections=ALONE,
    ).start()
    agent.wait_ready(heavy, light)
    first, other = agent.service_pid(heavy), agent.service_pid(light)
    wait_until(lambda: agent.row(heavy)["restarts"] >= 1, within=60)
    assert not alive(first)
    agent.wait_ready(heavy)
    assert "recycle.rss" in said(agent, heavy)
    assert "100.0 MiB" in said(agent, heavy)
    assert agent.service_pid(light) == other
    (row,) = agent.cli("status", heavy, "--verbose", "-o", "json").json
    assert row["failures"] == 0


@pytest.mark.slow
def test_a_service_that_grew_too_old_is_started_afresh_and_not_while_it_starts(
    make_agent: MakeAgent,
):
    name, port = unique("old"), free_port()
    service = {
        "command": list(child("slow-start", port=port, seconds=4)),
        "port": port,
        "recycle": {"age": "2s"},
        "stop": SOON,
    }
    agent = make_agent({name: service}, sections=ALONE).start()
    wait_until(lambda: agent.row(name)["restarts"] == 1, within=60)
    # It was older than two seconds long before it was ready.
    told = agent.log()
    assert told.index(f"{name} is ready") < told.index("recycle.age")
    agent.wait_ready(name)
    assert "recycle.age" in said(agent, name)


# --- on_unhealthy -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["turn-bad", "turn-deaf"])
def test_a_service_that_fails_its_checks_is_restarted_and_says_why(
    make_agent: MakeAgent, word: str
):
    name = unique("sick")
    service = checked(word, on_unhealthy="restart", seconds=2)
    agent = make_agent({name: service}, sections=ALONE).start()
    agent.wait_ready(name)
    first = agent.service_pid(name)
    wait_until(lambda: agent.row(name)["restarts"] >= 1, within=60)
    assert not alive(first)
    agent.wait_ready(name)
    assert "health check failed" in said(agent, name)


@pytest.mark.parametrize("word", ["turn-bad", "turn-deaf"])
def test_a_service_whose_health_is_to_be_ignored_goes_on_and_is_shown_as_unhealthy(
    make_agent: MakeAgent, word: str
):
    name = unique("sick")
    service = checked(word, on_unhealthy="ignore", seconds=2)
    agent = make_agent({name: service}, sections=ALONE).start()
    agent.wait_ready(name)
    first = agent.service_pid(name)
    row = agent.wait_phase(name, "unhealthy")
    assert (row["health"], row["restarts"]) == ("critical", 0)
    time.sleep(3)
    row = agent.row(name)
    assert (row["phase"], row["pid"], row["restarts"]) == ("unhealthy", first, 0)


def test_a_service_that_flaps_less_than_its_failures_allow_is_left_alone(make_agent: MakeAgent):
    name = unique("flap")
    service = checked("flap-health", on_unhealthy="restart", seconds=2, failures=6)
    agent = make_agent({name: service}, sections=ALONE).start()
    agent.wait_ready(name)
    first = agent.service_pid(name)
    wait_until(lambda: agent.row(name)["health"] == "critical")
    wait_until(lambda: agent.row(name)["health"] == "passing")
    wait_until(lambda: agent.row(name)["health"] == "critical")
    row = agent.row(name)
    assert (row["phase"], row["pid"], row["restarts"]) == ("ready", first, 0)


def test_a_service_whose_health_is_ignored_recovers_by_itself(make_agent: MakeAgent):
    name = unique("flap")
    service = checked("flap-health", on_unhealthy="ignore", seconds=3, failures=1)
    agent = make_agent({name: service}, sections=ALONE).start()
    agent.wait_ready(name)
    first = agent.service_pid(name)
    agent.wait_phase(name, "unhealthy")
    row = agent.wait_phase(name, "ready")
    assert (row["pid"], row["restarts"]) == (first, 0)


@pytest.mark.parametrize("word", ["health-500", "hang-accept"])
def test_a_service_that_never_passes_is_never_ready_and_has_failed_to_start(
    make_agent: MakeAgent, word: str
):
    name = unique("sick")
    service = checked(word, on_unhealthy="restart", seconds=1)
    service["health"] = {**service["health"], "startup": "2s"}
    service["restart"] = {"backoff": "1h", "max_backoff": "1h"}
    agent = make_agent({name: service}, sections=ALONE).start()
    row = agent.wait_phase(name, "ready", "backoff")
    assert (row["phase"], row["reason"]) == ("backoff", "start.timeout")
    assert agent.processes() == []
