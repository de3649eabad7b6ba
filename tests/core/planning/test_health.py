"""From answers to a judgement."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.spec import HealthSpec, ProbeSpec
from lictor.core.model.state import Health, Phase
from lictor.core.planning.health import judge, observe, unhealthy_at
from tests.core.build import NOW, now_in

JUDGED = HealthSpec(probe=ProbeSpec("tcp", "127.0.0.1:1", interval=10.0), failures=3)


def test_one_failed_answer_is_critical_at_once_but_not_unhealthy_yet():
    state = observe(now_in("ready"), passed=False, output="refused", now=NOW)
    assert (state.health, state.health_output) == (Health.CRITICAL, "refused")
    assert unhealthy_at(state, JUDGED) == NOW + 21


def test_further_failures_do_not_move_the_beginning():
    state = observe(now_in("ready"), passed=False, output="a", now=NOW)
    state = observe(state, passed=False, output="b", now=NOW + 15)
    assert (state.failing_since, state.health_output) == (NOW, "b")


def test_one_pass_forgets_all_failures():
    state = observe(now_in("ready"), passed=False, output="a", now=NOW)
    state = observe(state, passed=True, output="ok", now=NOW + 19)
    assert (state.health, state.failing_since) == (Health.PASSING, None)
    assert unhealthy_at(state, JUDGED) is None


def test_a_single_failure_is_enough_where_the_config_says_so():
    state = observe(now_in("ready"), passed=False, output="", now=NOW)
    assert unhealthy_at(state, HealthSpec(probe=JUDGED.probe, failures=1)) == NOW


def test_a_pass_that_comes_when_the_second_answer_is_due_comes_in_time():
    twice = HealthSpec(probe=JUDGED.probe, failures=2)
    state = observe(now_in("ready"), passed=False, output="refused", now=NOW)
    asked = NOW + 10  # Consul asks an interval after the last answer, and a timer may be late
    assert judge(state, twice, now=asked + 0.8).state.phase is Phase.READY
    assert judge(state, twice, now=asked + 1.5).state.phase is Phase.UNHEALTHY


@given(
    interval=st.floats(0.5, 60),
    timeout=st.floats(0.5, 60),
    failures=st.integers(2, 10),
    late=st.floats(0, 0.7),
)
def test_no_judgement_comes_when_the_answer_that_decides_is_only_just_due(
    interval, timeout, failures, late
):
    probe = ProbeSpec("tcp", "127.0.0.1:1", interval=interval, timeout=timeout)
    judged = HealthSpec(probe=probe, failures=failures)
    state = observe(now_in("ready"), passed=False, output="", now=NOW)
    due = NOW + (failures - 1) * interval
    found = judge(state, judged, now=due + late * min(1, timeout, interval / 2))
    assert (found.state.phase, found.look_at) == (Phase.READY, unhealthy_at(state, judged))
    assert found.look_at - due <= min(1, interval / 2) + 1e-6  # and none is waited for long


def test_without_a_probe_nothing_becomes_unhealthy():
    state = observe(now_in("ready"), passed=False, output="", now=NOW)
    assert unhealthy_at(state, HealthSpec()) is None


def test_a_time_in_which_nobody_looked_proves_nothing_and_the_count_begins_anew():
    failing = now_in("ready", failing_since=NOW - 1000, health=Health.CRITICAL)
    found = judge(failing, JUDGED, now=NOW)
    assert (found.state.phase, found.state.failing_since, found.look_at) == (
        Phase.READY,
        NOW,
        NOW + 21,
    )
