"""Waiting: done, hopeless and too long are three different ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lictor.core.errors import TimedOut
from lictor.core.model.state import Phase
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.supervision.waiting import Goal, wait_for
from tests.core.build import WALL, key, now_in, want
from tests.core.virtual import virtual

READY, STOPPED = Goal(Phase.READY, order=False), Goal(Phase.STOPPED, order=False)
START = Goal(Phase.READY, order=True)


class Agent:
    """As much of an agent as waiting looks at."""

    def __init__(self, wish, phase: str, **state) -> None:
        self.bell = Bell()
        self.reconciler = SimpleNamespace(runners={}, desired={wish.spec.key: wish})
        self.items: list[dict] = []
        self.be(phase, **state)

    def be(self, phase: str, **state) -> None:
        runner = SimpleNamespace(state=now_in(phase, **state), log_path=lambda: None)
        self.reconciler.runners[key("piper")] = runner
        self.bell.ring()

    def view(self, which, _usage):
        state = self.reconciler.runners[which].state
        words = dict.fromkeys(("sentence", "reason", "reason_params", "reasons"), "")
        return {"phase": state.phase.value, **words}

    async def emit(self, item):
        self.items.append(item)

    async def wait(self, goal, limit=None) -> str:
        (item,) = await wait_for(self, [key("piper")], goal, limit=limit, emit=self.emit)
        return item["outcome"]


@pytest.mark.parametrize(
    ("goal", "state", "phase", "outcome"),
    [
        (READY, "running", "ready", "done"),
        (READY, "running", "failed", "failed"),
        (READY, "running", "blocked", "failed"),
        (READY, "stopped", "stopped", "failed"),
        (START, "running", "backoff", "failed"),
        (STOPPED, "stopped", "stopped", "done"),
        (STOPPED, "stopped", "failed", "done"),
        (STOPPED, "running", "ready", "failed"),
    ],
)
@virtual
async def test_what_is_so_already_or_never_will_be_ends_the_wait_at_once(
    goal, state, phase, outcome
):
    assert await Agent(want(state=state), phase).wait(goal, 1.0) == outcome


@virtual
async def test_a_wait_ends_when_the_service_gets_there():
    agent = Agent(want(), "starting")
    waiting = asyncio.create_task(agent.wait(READY))
    await asyncio.sleep(100)
    assert not waiting.done()
    agent.be("ready")
    assert await waiting == "done"
    assert {item["phase"] for item in agent.items} == {"starting", "ready"}


@virtual
async def test_who_only_waits_waits_through_a_backoff():
    agent = Agent(want(), "backoff", next_start=1.0)
    waiting = asyncio.create_task(agent.wait(READY))
    await asyncio.sleep(100)
    assert not waiting.done()
    agent.be("ready")
    assert await waiting == "done"


@virtual
async def test_too_long_names_who_is_missing_and_where_he_is():
    agent = Agent(want(), "starting")
    begun = asyncio.get_running_loop().time()
    with pytest.raises(TimedOut, match=r"5 s .*ready: piper \(starting\)"):
        await agent.wait(READY, 5.0)
    assert 5.0 <= asyncio.get_running_loop().time() - begun < 5.6


@virtual
async def test_a_restart_is_not_done_before_it_was_acted_on():
    order = WALL + 5
    agent = Agent(want(restart_wall=order), "ready", operator_restart_wall=None)
    waiting = asyncio.create_task(agent.wait(START))
    await asyncio.sleep(5)
    assert not waiting.done()
    agent.be("ready", operator_restart_wall=order)
    assert await waiting == "done"


@virtual
async def test_what_was_removed_is_not_stopped_before_it_has_ended():
    agent = Agent(want(state="stopped"), "stopping")
    agent.reconciler.desired.clear()
    waiting = asyncio.create_task(agent.wait(STOPPED))
    await asyncio.sleep(5)
    assert not waiting.done()
    agent.be("stopped")
    assert await waiting == "done"


@pytest.mark.parametrize(("goal", "outcome"), [(STOPPED, "done"), (READY, "failed")])
@virtual
async def test_a_service_that_a_reload_removes_meanwhile_ends_the_wait(goal, outcome):
    agent = Agent(want(state="stopped" if goal is STOPPED else "running"), "stopping")
    waiting = asyncio.create_task(agent.wait(goal))
    await asyncio.sleep(5)
    agent.reconciler.runners.clear()
    agent.reconciler.desired.clear()
    agent.bell.ring()
    assert await waiting == outcome


@virtual
async def test_a_bell_wakes_everybody_who_waits_and_queues_nothing():
    bell = Bell()
    bell.ring()
    assert not await bell.wait(1.0)
    waiting = [asyncio.create_task(bell.wait()) for _ in range(3)]
    await asyncio.sleep(1)
    bell.ring()
    assert await asyncio.gather(*waiting) == [True] * 3
