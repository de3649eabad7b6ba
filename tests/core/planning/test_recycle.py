"""When a service is started afresh although nothing is wrong with it yet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.model.reason import because
from lictor.core.model.spec import HealthSpec, RecycleSpec, RestartPolicy
from lictor.core.model.state import Exit, Phase
from lictor.core.planning import lifecycle, recycle
from tests.core.build import HTTP, NOW, desired, key, now_in, spec, steps, want

GIB = 1 << 30
DAY = 86400.0


def rules(**fields):
    return {"recycle": RecycleSpec(**fields)}


def ready_for(seconds: float, phase: str = "ready", **fields):
    return now_in(phase, started=NOW - seconds, ready_since=NOW - seconds + 1, **fields)


def step(actual, memory=None, **fields):
    found = steps(desired(want(**fields)), {"piper": actual}, memory=memory or {})
    return found.get("piper")


def test_a_service_that_is_old_enough_is_restarted_for_its_age():
    assert step(ready_for(DAY), **rules(age=DAY)) == ("restart", "recycle.age")
    assert step(ready_for(DAY - 2), **rules(age=DAY)) is None


def test_a_service_whose_tree_is_too_large_is_restarted_for_its_memory():
    heavy = {key("piper"): 4 * GIB + 1}
    assert step(ready_for(60), heavy, **rules(rss=4 * GIB)) == ("restart", "recycle.rss")
    assert step(ready_for(60), {key("piper"): 4 * GIB}, **rules(rss=4 * GIB)) is None


def test_memory_that_was_not_measured_recycles_nothing():
    assert step(ready_for(60), {}, **rules(rss=1)) is None


def test_a_service_without_a_rule_may_grow_and_age():
    assert step(ready_for(1000 * DAY), {key("piper"): 1000 * GIB}) is None


@pytest.mark.parametrize("phase", ["starting", "stopping", "backoff", "stopped", "unknown"])
def test_only_a_service_that_was_ready_is_recycled(phase):
    state = now_in(phase, started=NOW - DAY, next_start=NOW + 60)
    found = step(state, {key("piper"): GIB}, **rules(rss=1, age=1.0))
    assert found is None or found[1] != "recycle.rss"
    assert recycle.due(spec(**rules(rss=1, age=1.0)), state, now=NOW, memory=GIB) is None


def test_an_unhealthy_service_is_restarted_for_its_health_before_its_size():
    state = ready_for(DAY, "unhealthy")
    health = HealthSpec(probe=HTTP)
    assert step(state, **rules(age=1.0), health=health) == ("restart", "unhealthy")
    ignored = HealthSpec(probe=HTTP, on_unhealthy="ignore")
    assert step(state, **rules(age=1.0), health=ignored) == ("restart", "recycle.age")


def test_hands_are_kept_off_what_is_in_maintenance():
    assert step(ready_for(DAY), state="maintenance", **rules(age=1.0)) is None


def test_a_limit_below_what_the_program_always_uses_is_no_restart_loop():
    one = spec(restart=RestartPolicy(backoff=5.0, max_backoff=60.0), **rules(rss=1))
    shortest = []
    for recycles in range(7):
        ages = range(1, 200)
        state = [ready_for(age, recycles=recycles) for age in ages]
        due = (recycle.due(one, each, now=NOW, memory=GIB) is not None for each in state)
        shortest.append(next(age for age, yes in zip(ages, due, strict=True) if yes))
    assert shortest == [1, 5, 10, 20, 40, 60, 60]


def test_a_recycling_is_no_failure_and_wipes_none():
    state = ready_for(30, "stopping", failures=2)
    why = because("recycle.rss", used=2, limit=1)
    after = lifecycle.recycled(state, spec(), why, Exit(code=0), now=NOW)
    assert (after.phase, after.reason, after.ended_because) == (Phase.STOPPED, why, why)
    assert (after.failures, after.recycles, after.next_start) == (2, 1, None)
    again = lifecycle.recycled(replace(state, recycles=3), spec(), why, Exit(code=0), now=NOW)
    assert again.recycles == 4


def test_a_run_that_lasted_long_begins_the_count_anew():
    state = replace(ready_for(DAY, recycles=5), phase=Phase.STOPPING)
    why = because("recycle.age", age=round(DAY), limit=DAY)
    assert lifecycle.recycled(state, spec(), why, None, now=NOW).recycles == 1


def test_why_a_run_ended_is_kept_through_the_next_start_and_forgotten_by_an_order():
    why = because("exit.signal", signal="KILL")
    ended = lifecycle.failed_run(
        ready_for(60), spec(), why, Exit(signal=9), now=NOW, jitter=0.0, detail=None
    )
    assert ended.ended_because == why
    begun = lifecycle.starting(
        ended, because("start.again"), fingerprint="f", now=NOW + 1, wall=0.0
    )
    assert lifecycle.ready(begun, now=NOW + 2).ended_because == why
    order = because("restart.ordered", by="anna")
    assert lifecycle.stopped(begun, order, None, now=NOW + 3).ended_because is None
