"""Whether waiting has come to its end: done, hopeless at once, or not yet."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lictor.core.errors import TimedOut
from lictor.core.model.reason import because
from lictor.core.model.spec import RestartPolicy
from lictor.core.model.state import Phase
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.supervision.waiting import Goal, outcome_of, wait_for
from tests.core.build import WALL, desired, key, now_in, want

READY = Goal(Phase.READY, order=False)
START = Goal(Phase.READY, order=True)
STOPPED = Goal(Phase.STOPPED, order=False)
STOP = Goal(Phase.STOPPED, order=True)
RESTART = Goal(Phase.READY, order=True, restart=WALL)


class Host:
    """What waiting looks at: what is wanted, and what is."""

    def __init__(self, *wants, **states) -> None:
        self.bell = Bell()
        runners = {
            key(name): SimpleNamespace(state=state, log_path=lambda: None)
            for name, state in states.items()
        }
        self.reconciler = SimpleNamespace(desired=desired(*wants), runners=runners)

    def view(self, which, _usage):
        phase = self.reconciler.runners[which].state.phase.value
        return {"phase": phase, "sentence": "", "reason": "", "reason_params": {}, "reasons": []}

    def set(self, name, state) -> None:
        self.reconciler.runners[key(name)].state = state
        self.bell.ring()

    def outcome(self, goal, name="piper") -> str:
        return outcome_of(self, key(name), goal)


def queued(code: str, dependency: str):
    return now_in("queued", reason=because(code, dependency=dependency))


@pytest.mark.parametrize(
    ("goal", "wanted", "state", "outcome"),
    [
        (READY, want(), now_in("ready"), "done"),
        (READY, want(), now_in("starting"), ""),
        (READY, want(), now_in("backoff"), ""),  # the next start may succeed
        (START, want(), now_in("backoff"), "failed"),  # but this one did not
        (READY, want(), now_in("failed"), "failed"),
        (READY, want(), now_in("blocked"), "failed"),
        (READY, want(state="stopped"), now_in("stopped"), "failed"),
        (READY, want(state="maintenance"), now_in("stopped"), "failed"),
        (READY, want(state="maintenance"), now_in("unhealthy"), ""),
        (READY, want(blocked=because("blocked.driver", driver="x")), now_in("stopping"), "failed"),
        (READY, want(), now_in("stopped", done=True), "done"),
        (STOPPED, want(state="stopped"), now_in("stopping"), ""),
        (STOPPED, want(state="stopped"), now_in("stopped"), "done"),
        (STOPPED, want(), now_in("ready"), "failed"),
        (STOPPED, want(), now_in("stopped", done=True), "done"),
        (STOP, want(state="stopped"), now_in("failed"), "done"),
        (STOP, want(), now_in("ready"), ""),  # Consul has not brought the order back yet
        # An order is written to the millisecond, and counts although it was given a moment later.
        (
            Goal(Phase.READY, order=True, restart=WALL + 0.0004),
            want(restart_wall=WALL),
            now_in("ready", operator_restart_wall=WALL),
            "done",
        ),
    ],
)
def test_what_may_still_come_is_waited_for_and_nothing_else(goal, wanted, state, outcome):
    assert Host(wanted, piper=state).outcome(goal) == outcome


def test_a_program_that_runs_to_its_end_may_be_waited_for():
    job = want(restart=RestartPolicy(policy="on-failure"))
    assert Host(job, piper=now_in("ready")).outcome(STOPPED) == ""
    assert Host(job, piper=now_in("failed")).outcome(STOPPED) == "failed"


def test_a_restart_is_not_done_before_the_order_was_acted_on():
    before = want(restart_wall=WALL - 50)
    old = now_in("ready", operator_restart_wall=WALL - 50)
    assert Host(before, piper=old).outcome(RESTART) == ""
    assert Host(want(restart_wall=WALL), piper=old).outcome(RESTART) == ""
    acted = now_in("ready", operator_restart_wall=WALL)
    assert Host(want(restart_wall=WALL), piper=acted).outcome(RESTART) == "done"


def test_an_order_in_a_document_that_is_refused_never_comes_into_force():
    refused = want(restart_wall=None, refused=because("kv.not_text"))
    assert Host(refused, piper=now_in("ready")).outcome(RESTART) == "failed"


def test_a_dependency_that_can_never_be_ready_is_found_however_far_down_it_is():
    host = Host(
        *(want(name) for name in ("web", "api", "db")),
        web=queued("dependency.waiting", "api"),
        api=queued("dependency.waiting", "db"),
        db=now_in("starting"),
    )
    assert host.outcome(READY, "web") == ""
    host.set("api", queued("dependency.failed", "db"))
    assert host.outcome(READY, "web") == "failed"


def test_services_that_wait_for_each_other_do_not_hang_the_look():
    host = Host(
        want("a"),
        want("b"),
        a=queued("dependency.waiting", "b"),
        b=queued("dependency.waiting", "a"),
    )
    assert host.outcome(READY, "a") == ""


def test_a_service_that_is_no_longer_defined_is_stopped_and_never_ready():
    assert Host().outcome(STOPPED) == "done"
    assert Host().outcome(READY) == "failed"


async def test_hopeless_ends_at_once_whatever_the_limit_is():
    host = Host(want(), want("db"), piper=queued("dependency.waiting", "db"), db=now_in("starting"))

    async def nothing(_item) -> None:
        host.set("piper", queued("dependency.failed", "db"))

    async with asyncio.timeout(10):
        (row,) = await wait_for(host, [key("piper")], READY, limit=3600, emit=nothing)
    assert row["outcome"] == "failed"


async def test_too_long_names_who_is_missing():
    host = Host(want(), want("db"), piper=now_in("starting"), db=now_in("ready"))

    async def nothing(_item) -> None: ...

    with pytest.raises(TimedOut, match=r"piper \(starting\)"):
        await wait_for(host, [key("piper"), key("db")], READY, limit=0.2, emit=nothing)
