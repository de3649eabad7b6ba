"""The steps from state to state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.model.reason import because
from lictor.core.model.spec import RestartPolicy
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState
from lictor.core.planning import lifecycle
from tests.core.build import NOW, WALL, now_in, spec

WHY = because("exit.code", code=1)
BAD = Exit(code=1)


def failed(state, exit_=BAD, detail=None, **policy):
    one = spec(restart=RestartPolicy(**policy))
    return lifecycle.failed_run(state, one, WHY, exit_, now=NOW, jitter=0.0, detail=detail)


def started(state) -> ServiceState:
    return lifecycle.starting(state, because("start.config"), fingerprint="new", now=NOW, wall=WALL)


def test_a_start_forgets_the_run_before():
    old = now_in(
        "backoff", next_start=NOW, health=Health.CRITICAL, health_output="no", failing_since=1.0
    )
    new = started(replace(old, done=True, adopted=True, identity=Identity(1, 1, "b")))
    assert (new.phase, new.started, new.started_wall) == (Phase.STARTING, NOW, WALL)
    assert (new.next_start, new.identity, new.health, new.failing_since) == (None,) * 4
    assert (new.done, new.adopted, new.health_output) == (False, False, "")
    assert new.fingerprint == "new"


def test_a_start_after_a_failed_run_counts_as_a_restart():
    assert started(now_in("backoff", restarts=2)).restarts == 3


@pytest.mark.parametrize("phase", ["stopped", "blocked", "failed"])
def test_any_other_start_is_no_restart(phase):
    assert started(now_in(phase, restarts=2)).restarts == 2


def test_a_restart_that_had_to_queue_for_a_dependency_counts_all_the_same():
    waiting = because("dependency.waiting", dependency="db")
    backoff = now_in("backoff", failures=1, next_start=NOW, restarts=2)
    queued = lifecycle.waiting(backoff, Phase.QUEUED, waiting, now=NOW)
    assert queued.next_start is None
    assert started(queued).restarts == 3
    first = lifecycle.waiting(ServiceState(), Phase.QUEUED, waiting, now=NOW)
    assert started(first).restarts == 0


def test_ready_means_passing_from_now_on():
    ready = lifecycle.ready(now_in("starting", failing_since=1.0), now=NOW, output="200")
    assert (ready.phase, ready.ready_since, ready.health) == (Phase.READY, NOW, Health.PASSING)
    assert (ready.failing_since, ready.health_output) == (None, "200")


def test_unhealthy_names_what_the_check_said_and_remembers_since_when_it_was_ready():
    sick = lifecycle.unhealthy(now_in("ready", health_output="503"), now=NOW)
    assert sick.reason == because("unhealthy", output="503")
    assert sick.ready_since == NOW - 50
    well = lifecycle.recovered(sick, now=NOW)
    assert (well.phase, well.ready_since) == (Phase.READY, NOW - 50)


def test_a_failed_run_backs_off_with_a_time_a_reason_and_a_last_error():
    after = failed(now_in("starting"), backoff=7.0, detail="CUDA out of memory")
    assert (after.phase, after.next_start, after.failures) == (Phase.BACKOFF, NOW + 7, 1)
    assert (after.reason, after.last_error) == (WHY, "CUDA out of memory")
    assert (after.identity, after.ready_since, after.last_exit) == (None, None, Exit(code=1))


def test_a_good_run_that_crashed_is_started_again_at_once():
    assert failed(now_in("ready")).next_start == NOW


def test_a_service_that_gives_up_is_failed_and_says_what_happened():
    after = failed(now_in("starting", failures=3), max_restarts=3)
    assert (after.phase, after.next_start, after.done) == (Phase.FAILED, None, False)
    assert (after.reason, after.last_error, after.failures) == (WHY, None, 4)


def test_a_service_that_ends_well_and_need_not_run_on_is_stopped_and_done():
    after = failed(now_in("ready", failures=2), Exit(code=0), policy="on-failure")
    assert (after.phase, after.done, after.reason.code) == (Phase.STOPPED, True, "exit.done")
    assert (after.failures, after.last_error) == (0, None)


def test_a_run_that_never_came_to_a_process_keeps_the_last_exit_there_was():
    before = now_in("starting", last_exit=Exit(signal=9))
    assert failed(before, exit_=None).last_exit == Exit(signal=9)


def test_an_ordered_stop_wipes_the_failures_and_keeps_the_restart_count():
    busy = now_in("stopping", failures=4, restarts=9)
    after = lifecycle.stopped(busy, because("stopped.ordered", by="anna"), Exit(signal=15), now=NOW)
    assert (after.phase, after.failures, after.restarts) == (Phase.STOPPED, 0, 9)
    # An ordered end explains no later restart.
    assert (after.identity, after.last_exit) == (None, None)


def test_coming_to_rest_forgets_queue_backoff_and_being_done():
    after = lifecycle.at_rest(
        now_in("backoff", next_start=NOW + 5, failures=3, done=True), WHY, now=NOW
    )
    assert (after.phase, after.next_start, after.failures, after.done) == (
        Phase.STOPPED,
        None,
        0,
        False,
    )


def test_waiting_for_another_reason_goes_on_since_the_same_moment():
    queued = lifecycle.waiting(now_in("stopped"), Phase.QUEUED, WHY, now=NOW)
    again = lifecycle.waiting(queued, Phase.QUEUED, because("other"), now=NOW + 5)
    assert (again.since, again.reason.code) == (NOW, "other")
    assert lifecycle.waiting(again, Phase.BLOCKED, WHY, now=NOW + 6).since == NOW + 6


def test_a_backoff_of_a_host_that_started_anew_is_over_and_any_other_goes_on():
    one = spec(restart=RestartPolicy(max_backoff=60.0))
    later = now_in("backoff", next_start=NOW + 50)
    assert lifecycle.still_waiting(later, one, now=NOW) == later
    ages = now_in("backoff", next_start=NOW + 5000)
    assert lifecycle.still_waiting(ages, one, now=NOW).next_start == NOW


def test_only_a_run_that_began_after_the_last_known_end_may_still_go_on():
    assert lifecycle.latest_run(now_in("ready", started=7.0, since=9.0), now=NOW) == 7.0
    assert lifecycle.latest_run(now_in("backoff", started=7.0, since=9.0), now=NOW) == 9.0
    assert lifecycle.latest_run(ServiceState(), now=NOW) == 0.0
    assert lifecycle.latest_run(now_in("failed", since=NOW + 1), now=NOW) == 0.0  # another boot's


def test_a_start_whose_program_went_into_the_background_says_so():
    left = Exit(code=0, left=2)
    assert lifecycle.exit_reason(left, loading=True) == because("exit.daemonised", left=2)
    assert lifecycle.exit_reason(Exit(code=0), loading=True).code == "start.exit_code"
