"""What follows an exit nobody asked for."""

from __future__ import annotations

import pytest

from lictor.core.model.spec import RestartPolicy
from lictor.core.model.state import Exit
from lictor.core.planning.restart import Again, NotAgain, decide

FAILED, CLEAN, UNSEEN = Exit(code=1), Exit(code=0), Exit()


def after(policy=None, *, failures=0, ready_for=None, exit_=FAILED, jitter=0.0, spared=False):
    policy = policy or RestartPolicy(backoff=5.0, max_backoff=60.0)
    how = {"failures": failures, "ready_for": ready_for, "exit_": exit_, "jitter": jitter}
    return decide(policy, **how, spared=spared)


@pytest.mark.parametrize("ready_for", [10.0, 599.0, 600.0, 1e9])
def test_the_first_restart_of_a_service_that_was_ready_for_ten_seconds_is_immediate(ready_for):
    assert after(ready_for=ready_for) == Again(0.0, failures=1, spared=True)


def test_after_an_immediate_restart_the_delays_begin_at_the_backoff():
    delays = [after(failures=count, spared=True).delay for count in range(1, 6)]
    assert delays == [5, 10, 20, 40, 60]
    assert after(failures=1, spared=True).spared
    assert not after(failures=3, ready_for=600.0, exit_=FAILED, spared=True).delay


@pytest.mark.parametrize("ready_for", [None, 0.0, 9.9])
def test_a_service_that_was_never_really_ready_waits_from_the_first_failure_on(ready_for):
    assert after(ready_for=ready_for) == Again(5.0, failures=1)


def test_the_delay_doubles_up_to_its_cap():
    delays = [after(failures=count).delay for count in range(6)]
    assert delays == [5, 10, 20, 40, 60, 60]


def test_a_service_that_failed_ten_thousand_times_still_has_a_finite_delay():
    assert after(failures=10_000) == Again(60.0, failures=10_001)


@pytest.mark.parametrize(("jitter", "delay"), [(-1.0, 4.5), (0.0, 5.0), (1.0, 5.5)])
def test_jitter_spreads_by_a_tenth(jitter, delay):
    assert after(jitter=jitter).delay == pytest.approx(delay)


def test_failures_are_forgotten_after_a_long_good_run():
    assert after(failures=7, ready_for=600.0) == Again(0.0, failures=1, spared=True)
    assert after(failures=7, ready_for=599.0).failures == 8


def test_a_service_that_crashes_after_each_good_minute_does_not_restart_at_once_for_ever():
    assert after(failures=1, ready_for=60.0).delay > 0


def test_it_gives_up_only_after_the_allowed_restarts():
    policy = RestartPolicy(max_restarts=2)
    assert isinstance(after(policy, failures=1), Again)
    verdict = after(policy, failures=2)
    assert isinstance(verdict, NotAgain)
    assert (verdict.reason.code, verdict.done) == ("restart.gave_up", False)
    assert verdict.reason.params == {"failures": 3}


def test_without_a_number_it_never_gives_up():
    assert isinstance(after(failures=1_000_000), Again)


def test_no_restarts_at_all_can_be_asked_for():
    assert isinstance(after(RestartPolicy(max_restarts=0)), NotAgain)


@pytest.mark.parametrize("policy", ["never", "on-failure"])
def test_a_good_end_is_an_end_where_the_policy_says_so(policy):
    verdict = after(RestartPolicy(policy=policy), failures=3, exit_=CLEAN)
    assert verdict == NotAgain(verdict.reason, failures=0, done=True)


def test_a_good_end_is_restarted_where_the_service_shall_always_run():
    assert isinstance(after(exit_=CLEAN), Again)


@pytest.mark.parametrize("exit_", [FAILED, UNSEEN, Exit(signal=9), None])
def test_a_bad_or_unseen_end_is_a_failure(exit_):
    assert isinstance(after(RestartPolicy(policy="on-failure"), exit_=exit_), Again)
    never = after(RestartPolicy(policy="never"), exit_=exit_)
    assert isinstance(never, NotAgain)
    assert not never.done
