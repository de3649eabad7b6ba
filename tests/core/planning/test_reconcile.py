"""Every row of the table in `planning.reconcile`, and the cases between the rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.model.desired import Source
from lictor.core.model.reason import because
from lictor.core.model.spec import HealthSpec
from lictor.core.model.state import Phase
from lictor.core.planning.reconcile import order_wall, plan
from tests.core.build import HTTP, NOW, WALL, desired, key, now_in, spec, steps, want

RUNNING = ("starting", "ready", "unhealthy")
AT_REST = ("stopped", "queued", "backoff", "failed", "blocked")

# --- gone from the config ---------------------------------------------------------------------


@pytest.mark.parametrize("phase", RUNNING)
def test_a_running_service_that_is_no_longer_defined_is_stopped(phase):
    assert steps({}, {"piper": now_in(phase)}) == {"piper": ("stop", "config.removed")}


@pytest.mark.parametrize("phase", AT_REST)
def test_a_resting_service_that_is_no_longer_defined_is_forgotten(phase):
    assert steps({}, {"piper": now_in(phase)}) == {"piper": ("forget", "config.removed")}


def test_a_service_that_nobody_knows_is_not_in_the_plan_even_when_asked_for():
    assert steps({}, {}, only=[key("ghost")]) == {}


# --- wanted stopped ---------------------------------------------------------------------------


@pytest.mark.parametrize("phase", RUNNING)
def test_a_running_service_that_is_wanted_stopped_is_stopped(phase):
    stop = want(state="stopped", source=Source.KV_NODE, by="anna")
    assert steps(desired(stop), {"piper": now_in(phase)}) == {"piper": ("stop", "stopped.ordered")}


@pytest.mark.parametrize("phase", ["queued", "backoff", "failed", "blocked"])
def test_a_waiting_service_that_is_wanted_stopped_comes_to_rest(phase):
    stop = want(state="stopped", activation="manual")
    expected = {"piper": ("rest", "stopped.activation")}
    assert steps(desired(stop), {"piper": now_in(phase)}) == expected


def test_a_stopped_service_that_is_wanted_stopped_is_left_alone():
    assert steps(desired(want(state="stopped")), {"piper": now_in("stopped")}) == {}


def test_a_service_that_was_done_forgets_it_when_it_is_wanted_stopped():
    actual = {"piper": now_in("stopped", done=True)}
    assert steps(desired(want(state="stopped")), actual)["piper"][0] == "rest"


def test_a_dependency_is_stopped_only_after_its_dependents_that_stop_too():
    wanted = desired(want("db", "stopped"), want("api", "stopped", needs=["db"]))
    up = {name: now_in("ready", wanted[key(name)].spec) for name in ("db", "api")}
    assert list(steps(wanted, up)) == ["api"]
    up["api"] = now_in("stopping")
    assert steps(wanted, up) == {}
    up["api"] = now_in("stopped")
    assert list(steps(wanted, up)) == ["db"]


def test_a_dependency_does_not_wait_for_dependents_that_go_on():
    wanted = desired(want("db", "stopped"), want("api", needs=["db"]))
    up = {name: now_in("ready", wanted[key(name)].spec) for name in ("db", "api")}
    assert list(steps(wanted, up)) == ["db"]


# --- wanted running, not running ------------------------------------------------------------


@pytest.mark.parametrize("phase", ["stopped", "queued", "blocked"])
def test_a_service_that_is_wanted_is_started(phase):
    expected = {"piper": ("start", "start.config")}
    assert steps(desired(want()), {"piper": now_in(phase)}) == expected


def test_the_reason_of_a_start_names_who_ordered_it_and_why():
    order = want(source=Source.KV_NODE, by="anna", why="demo")
    (action,) = plan(desired(order), {}, NOW).actions
    assert action.reason == because("start.ordered_because", by="anna", why="demo")


def test_a_service_that_cannot_run_here_is_blocked_once_with_the_reason():
    blocked = because("blocked.mode", mode="cloud", modes="full")
    wanted = desired(want(blocked=blocked))
    assert steps(wanted, {"piper": now_in("stopped")}) == {"piper": ("block", "blocked.mode")}
    assert steps(wanted, {"piper": now_in("blocked", reason=blocked)}) == {}
    other = because("blocked.driver", driver="docker")
    assert steps(wanted, {"piper": now_in("blocked", reason=other)})["piper"][0] == "block"


def test_a_running_service_that_cannot_run_here_any_more_is_stopped():
    wanted = desired(want(blocked=because("blocked.mode", mode="cloud", modes="full")))
    assert steps(wanted, {"piper": now_in("ready")}) == {"piper": ("stop", "blocked.mode")}


@pytest.mark.parametrize(
    ("now", "expected"), [(NOW - 0.1, {}), (NOW, {"piper": ("start", "start.again")})]
)
def test_a_service_in_backoff_is_started_when_its_time_has_come(now, expected):
    state = now_in("backoff", next_start=NOW, reason=because("exit.code", code=1))
    assert steps(desired(want()), {"piper": state}, now) == expected


def test_an_order_ends_a_backoff_at_once():
    order = want(restart_wall=WALL, source=Source.KV_NODE, by="anna")
    state = now_in("backoff", next_start=NOW + 300)
    assert steps(desired(order), {"piper": state}) == {"piper": ("start", "restart.ordered")}


def test_a_new_definition_ends_a_backoff_at_once():
    state = now_in("backoff", next_start=NOW + 300)
    assert steps(desired(want(command=("other",))), {"piper": state})["piper"][0] == "start"


def test_a_failed_service_is_not_started_again_by_itself():
    assert steps(desired(want()), {"piper": now_in("failed")}) == {}


def test_a_failed_service_is_started_on_a_newer_order_but_not_on_an_older_one():
    failed = {"piper": now_in("failed")}
    assert steps(desired(want(restart_wall=WALL)), failed)["piper"][0] == "start"
    assert steps(desired(want(restart_wall=WALL - 61)), failed) == {}


def test_a_failed_service_is_started_on_a_new_definition():
    failed = {"piper": now_in("failed")}
    assert steps(desired(want(command=("other",))), failed) == {
        "piper": ("start", "config.changed")
    }


@pytest.mark.parametrize("phase", ["stopped", "queued", "blocked"])
def test_a_start_of_what_only_waited_is_not_put_down_to_its_new_definition(phase):
    actual = {"piper": now_in(phase, fingerprint="of another definition")}
    assert steps(desired(want()), actual) == {"piper": ("start", "start.config")}


def test_a_job_that_ended_well_holds_nobody_up():
    wanted = desired(want("migrate"), want("api", needs=["migrate"]))
    done = {"migrate": now_in("stopped", wanted[key("migrate")].spec, done=True)}
    assert steps(wanted, done) == {"api": ("start", "start.config")}


def test_a_service_that_is_done_stays_done_until_an_order():
    done = {"piper": now_in("stopped", spec(), done=True, started_wall=WALL - 60)}
    assert steps(desired(want()), done) == {}
    assert steps(desired(want(restart_wall=WALL)), done)["piper"][0] == "start"


# --- dependencies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "code"),
    [
        ("stopped", "dependency.waiting"),
        ("queued", "dependency.waiting"),
        ("starting", "dependency.waiting"),
        ("unhealthy", "dependency.waiting"),
        ("stopping", "dependency.waiting"),
        ("backoff", "dependency.retrying"),
        ("failed", "dependency.failed"),
    ],
)
def test_a_service_is_queued_while_what_it_needs_is_not_ready(phase, code):
    wanted = desired(want("db"), want("api", needs=["db"]))
    actual = {"db": now_in(phase, spec("db"), next_start=NOW + 9)}
    assert steps(wanted, actual)["api"] == ("queue", code)


def test_a_service_starts_when_what_it_needs_is_ready():
    wanted = desired(want("db"), want("api", needs=["db"]))
    assert steps(wanted, {"db": now_in("ready", spec("db"))}) == {"api": ("start", "start.config")}


def test_a_service_whose_dependency_is_stopped_on_purpose_says_so():
    wanted = desired(want("db", "stopped"), want("api", needs=["db"]))
    (action,) = plan(wanted, {}, NOW).actions
    assert action.reason == because("dependency.stopped", dependency="db")


def test_a_service_is_queued_once_and_again_only_for_another_reason():
    wanted = desired(want("db"), want("api", needs=["db"]))
    waiting = because("dependency.waiting", dependency="db")
    loading = now_in("starting", spec("db"))
    assert steps(wanted, {"db": loading, "api": now_in("queued", reason=waiting)}) == {}
    failed = {"db": now_in("failed", spec("db")), "api": now_in("queued", reason=waiting)}
    assert steps(wanted, failed) == {"api": ("queue", "dependency.failed")}


def test_a_service_waits_for_every_instance_of_what_it_needs():
    wanted = desired(want("tts@a"), want("tts@b"), want("api", needs=["tts"]))
    one = {"tts@a": now_in("ready", spec("tts@a")), "tts@b": now_in("starting", spec("tts@b"))}
    (action,) = plan(wanted, {key(k): v for k, v in one.items()}, NOW).actions
    assert action.reason == because("dependency.waiting", dependency="tts@b")


@pytest.mark.parametrize("phase", ["stopped", "queued", "starting"])
def test_an_ordered_only_dependency_is_waited_for_while_it_is_on_its_way(phase):
    wanted = desired(want("db"), want("api", likes=["db"]))
    assert steps(wanted, {"db": now_in(phase, spec("db"))})["api"][0] == "queue"


@pytest.mark.parametrize("phase", ["backoff", "failed", "unhealthy", "stopping"])
def test_an_ordered_only_dependency_that_fails_holds_nobody_up(phase):
    wanted = desired(want("db"), want("api", likes=["db"]))
    db = now_in(phase, spec("db"), next_start=NOW + 9)
    assert steps(wanted, {"db": db})["api"][0] == "start"


def test_an_ordered_only_dependency_that_is_not_wanted_holds_nobody_up():
    wanted = desired(want("db", "stopped"), want("api", likes=["db"]))
    assert steps(wanted, {})["api"][0] == "start"


def test_a_service_that_runs_goes_on_when_its_dependency_ends():
    wanted = desired(want("db"), want("api", needs=["db"]))
    actual = {
        "db": now_in("backoff", spec("db"), next_start=NOW + 9),
        "api": now_in("ready", wanted[key("api")].spec),
    }
    assert steps(wanted, actual) == {}


# --- wanted running, running ------------------------------------------------------------------


@pytest.mark.parametrize("phase", RUNNING)
def test_a_running_service_restarts_on_a_new_definition(phase):
    expected = {"piper": ("restart", "config.changed")}
    assert steps(desired(want(command=("other",))), {"piper": now_in(phase)}) == expected


def test_a_change_that_needs_no_restart_restarts_nothing():
    relabelled = want(tags=("new",), description="new", meta={"a": "b"})
    assert steps(desired(relabelled), {"piper": now_in("ready")}) == {}


@pytest.mark.parametrize("phase", ["starting", "ready"])
def test_a_running_service_restarts_on_a_newer_order(phase):
    order = want(restart_wall=WALL, source=Source.KV_NODE, by="anna")
    assert steps(desired(order), {"piper": now_in(phase)}) == {
        "piper": ("restart", "restart.ordered")
    }


def test_an_order_older_than_the_last_start_restarts_nothing():
    assert steps(desired(want(restart_wall=WALL - 61)), {"piper": now_in("ready")}) == {}


def test_an_order_from_a_clock_that_runs_ahead_acts_once():
    ahead = WALL + 86_400
    order = desired(want(restart_wall=ahead))
    assert steps(order, {"piper": now_in("ready")})["piper"][0] == "restart"
    acted = now_in("ready", operator_restart_wall=ahead)
    assert steps(order, {"piper": acted}) == {}


@pytest.mark.parametrize("restarted", [None, WALL + 7200])
def test_an_order_renews_what_it_is_about_even_if_the_clock_went_back(restarted):
    before = want(restart_wall=restarted)
    state = now_in("ready", started_wall=WALL + 3600, operator_restart_wall=restarted)
    actual = {key("piper"): state}
    when = order_wall([key("piper")], desired(before), actual, WALL)
    again = desired(replace(before, restart_wall=when))
    assert steps(again, actual)["piper"][0] == "restart"
    assert when < WALL + 7201
    gone = {key("piper"): now_in("stopping", started_wall=WALL - 60)}
    assert order_wall([key("piper"), key("ghost")], {}, gone, WALL) == WALL


@pytest.mark.parametrize(
    ("on_unhealthy", "expected"), [("restart", {"piper": ("restart", "unhealthy")}), ("ignore", {})]
)
def test_an_unhealthy_service_restarts_if_it_is_to(on_unhealthy, expected):
    wanted = want(health=HealthSpec(probe=HTTP, on_unhealthy=on_unhealthy))
    assert steps(desired(wanted), {"piper": now_in("unhealthy")}) == expected


# --- hands off --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("phase", ["stopping", "unknown"])
def test_a_service_that_is_busy_or_unknown_is_left_alone(state, phase):
    assert steps(desired(want(state=state)), {"piper": now_in(phase)}) == {}
    assert steps({}, {"piper": now_in(phase)}) == {}


@pytest.mark.parametrize("phase", [phase.value for phase in Phase])
def test_maintenance_keeps_its_hands_off(phase):
    changed = want(state="maintenance", command=("other",), restart_wall=WALL)
    assert steps(desired(changed), {"piper": now_in(phase)}) == {}


# --- holds ------------------------------------------------------------------------------------


def held(state: str, **fields):
    return want(state=state, source=Source.HOLD, by="anna", why="driver update", **fields)


def test_a_held_service_says_who_holds_it_and_why():
    told = {"by": "anna", "why": "driver update"}
    (stop,) = plan(desired(held("stopped")), {key("piper"): now_in("ready")}, NOW).actions
    assert stop.reason == because("held.stopped", **told)
    (start,) = plan(desired(held("running")), {key("piper"): now_in("stopped")}, NOW).actions
    assert start.reason == because("held.running", **told)


def test_nobody_is_told_of_a_hold_that_is_over():
    stopped = now_in("stopped", reason=because("held.stopped", by="anna", why="driver update"))
    assert steps(desired(held("stopped")), {"piper": stopped}) == {}
    manual = want(state="stopped", activation="manual")
    assert steps(desired(manual), {"piper": stopped}) == {"piper": ("rest", "stopped.activation")}
