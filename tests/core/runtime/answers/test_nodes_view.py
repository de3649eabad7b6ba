"""All nodes as they are shown: what is claimed of an agent that is not there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.node import NodeSeen
from lictor.core.runtime.answers.nodes_view import agent_state, node_record, service_records

NOW = 1_800_000_000.0
PIPER, ONE = ServiceKey("piper"), ServiceKey("piper", "a")


def at(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat()


def record(phase: str = "ready", **others: Any) -> dict[str, Any]:
    said = {"sentence": "Ready.", "reason": "ready", "reason_params": {}}
    return {"phase": phase, "desired": "running", "health": "passing", **said, **others}


@pytest.mark.parametrize(
    ("seen", "state", "age"),
    [
        (NodeSeen("b", held=True, facts={"at": at(900)}), "running", 0.0),
        (NodeSeen("b", facts={"at": at(90)}), "gone", 90.0),
        (NodeSeen("b", facts={"at": at(9), "ended": at(9)}), "ended", 9.0),
        (NodeSeen("b", services={PIPER: record(at=at(60))}), "unknown", 60.0),
        (NodeSeen("b", facts={"at": at(90)}, services={PIPER: record(at=at(5))}), "gone", 5.0),
        (NodeSeen("b", facts={"at": at(-30)}), "gone", 0.0),
        (NodeSeen("b", facts={"at": "nonsense"}), "gone", None),
    ],
)
def test_an_agent_that_is_not_there_has_the_age_of_its_last_word(seen, state, age):
    assert agent_state(seen) == state
    shown = node_record(seen, NOW)
    assert (shown["state"], shown["age_s"]) == (state, age)
    assert bool(shown["sentence"]) is (state != "running")


def test_what_a_lost_agent_ran_is_unknown_and_what_it_had_stopped_is_stopped():
    services = {PIPER: record(), ServiceKey("vosk"): record("stopped", desired="stopped")}
    lost = NodeSeen("b", facts={"at": at(90)}, services=services)
    piper, vosk = service_records([lost], [], NOW)
    assert (piper["phase"], piper["last_phase"], piper["health"]) == ("unknown", "ready", None)
    assert (piper["reason"], piper["desired"]) == ("node.gone", "running")
    assert piper["sentence"].endswith("Ready.")
    assert (vosk["phase"], vosk["agent_state"]) == ("stopped", "gone")


def test_what_only_its_own_host_measures_is_null():
    here = NodeSeen("b", held=True, facts={"at": at(1)}, services={PIPER: record(pid=7)})
    row = service_records([here], [], NOW)[0]
    assert (row["pid"], row["phase"], row["sentence"]) == (7, "ready", "Ready.")
    assert [row[name] for name in ("uptime_s", "cpu_percent", "memory_mb")] == [None] * 3


def test_a_name_means_all_its_instances_and_an_instance_means_itself():
    services = {PIPER: record(), ONE: record(), ServiceKey("vosk"): record()}
    nodes = [NodeSeen("b", held=True, services=services)]
    named = [(row["name"], row["instance"]) for row in service_records(nodes, [PIPER], NOW)]
    assert named == [("piper", None), ("piper", "a")]
    assert [row["instance"] for row in service_records(nodes, [ONE], NOW)] == ["a"]


def test_what_does_not_run_uses_nothing_wherever_it_does_not_run():
    services = {PIPER: record("stopped"), ServiceKey("vosk"): record("unknown")}
    for held in (True, False):
        seen = NodeSeen("b", held=held, facts={"at": at(1)}, services=services)
        piper, vosk = service_records([seen], [], NOW)
        assert [piper[name] for name in ("uptime_s", "cpu_percent", "memory_mb")] == [0, 0, 0]
        assert vosk["memory_mb"] is None
