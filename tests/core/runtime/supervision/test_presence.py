"""An agent that stood still counts that time against nobody; a clock that jumps moves nothing."""

from __future__ import annotations

import asyncio

import pytest

from lictor.core.model.spec import HealthSpec, ProbeSpec, RecycleSpec, RestartPolicy
from lictor.core.ports import ProbeResult
from lictor.core.runtime.supervision.presence import ask, stood_still
from tests.core.build import want
from tests.core.virtual import virtual
from tests.core.world import World

URL = "http://127.0.0.1:5000/info"
PROBE = ProbeSpec("http", URL, interval=10.0, timeout=5.0)
NO = ProbeResult(passed=False, output="refused")
HOUR, DAY = 3600.0, 86400.0


def probed(**fields):
    health = HealthSpec(probe=PROBE, **fields.pop("health", {}))
    return want(health=health, **fields)


def stand_still(world: World, seconds: float) -> None:
    """Stop this agent for so long: the clock goes on, and every timer is late by that."""
    world.clock.boot_offset += seconds


# --- standing still -------------------------------------------------------------------------------


@virtual
async def test_a_wait_that_took_as_long_as_it_may_is_none():
    world = World()
    now = world.clock.now()
    stand_still(world, 5.5)
    assert stood_still(world.clock, now, 5.0) == 0.0
    stand_still(world, 10)
    assert stood_still(world.clock, now, 5.0) == 10.5


class Frozen:
    """A prober whose first answer is lost because the agent stood still meanwhile."""

    def __init__(self, world: World, *answers: bool) -> None:
        self.world, self.answers, self.asked = world, list(answers), 0

    async def probe(self, _spec):
        self.asked += 1
        if self.asked == 1:
            stand_still(self.world, 60)
        return ProbeResult(passed=self.answers.pop(0), output="")


@virtual
async def test_a_question_that_failed_while_we_stood_still_is_asked_again():
    world = World()
    prober = Frozen(world, False, True)
    assert (await ask(prober, world.clock, PROBE)).passed
    assert prober.asked == 2


@virtual
async def test_an_answer_is_an_answer_if_it_passed_or_we_did_not_stand_still():
    world = World()
    prober = Frozen(world, True)
    assert (await ask(prober, world.clock, PROBE)).passed
    world.prober.script(URL, NO)
    before = len(world.prober.asked)
    assert not (await ask(world.prober, world.clock, PROBE)).passed
    assert len(world.prober.asked) == before + 1


@virtual
async def test_failed_checks_that_nobody_saw_count_for_nothing():
    world = World(probed())
    await world.until("ready")
    await asyncio.sleep(60)
    world.prober.say(URL, passed=False)
    await asyncio.sleep(11)  # one failure was seen
    assert world.phase() == "ready"
    stand_still(world, 600)
    world.prober.say(URL, passed=True)
    await asyncio.sleep(120)
    assert world.phases() == ["starting", "ready"]
    assert world.state().failing_since is None


@virtual
async def test_a_service_that_still_fails_afterwards_gets_its_whole_window_and_no_more():
    world = World(probed())
    await world.until("ready")
    world.prober.say(URL, passed=False)
    await asyncio.sleep(11)
    stand_still(world, 600)
    resumed = world.clock.now()
    state = await world.until("unhealthy")
    assert 15 <= state.since - resumed <= 45


@virtual
async def test_a_service_that_loads_while_the_agent_stands_still_keeps_its_time():
    world = World(probed(health={"startup": 30.0}))
    world.prober.say(URL, passed=False)
    await asyncio.sleep(10)
    stand_still(world, 600)
    await asyncio.sleep(10)
    assert world.phase() == "starting"
    world.prober.say(URL, passed=True)
    assert (await world.until("ready")).restarts == 0


@virtual
async def test_half_a_second_in_which_nothing_ran_here_is_none_that_a_service_has_lived_through():
    world = World(want())
    await world.until("starting")
    begun = asyncio.get_running_loop().time()
    await asyncio.sleep(0.1)
    stand_still(world, 60)
    await world.until("ready", within=5)
    assert 0.9 < asyncio.get_running_loop().time() - begun < 1.5


@virtual
async def test_a_service_that_never_loads_has_failed_to_start_all_the_same():
    world = World(probed(health={"startup": 30.0}))
    world.prober.say(URL, passed=False)
    await asyncio.sleep(10)
    stand_still(world, 600)
    resumed = world.clock.now()
    state = await world.until("backoff")
    assert state.reason.code == "start.timeout"
    assert 15 <= state.since - resumed <= 35


@virtual
async def test_what_failed_before_the_agent_was_gone_is_judged_anew_by_the_next_one():
    world = World(probed(health={"failures": 3}))
    await world.until("ready")
    world.prober.say(URL, passed=False)
    await asyncio.sleep(11)
    world.die()
    stand_still(world, 3600)
    following = World(after=world)
    await asyncio.sleep(11)  # one more failure, the first that this agent saw
    assert following.phase() == "ready"
    following.prober.say(URL, passed=True)
    await asyncio.sleep(60)
    assert "unhealthy" not in following.phases()


# --- clocks that jump -----------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 2 * DAY, -2 * DAY])
@virtual
async def test_a_jump_of_the_wall_clock_restarts_nothing_and_moves_no_timer(jump):
    restart = RestartPolicy(backoff=100.0, max_backoff=100.0)
    steady = probed(recycle=RecycleSpec(age=3000.0))
    world = World(steady, want("crashed", restart=restart), want("ordered", restart_wall=1.0))
    for name in ("piper", "crashed", "ordered"):
        await world.until("ready", name)
    world.running("crashed").end()
    planned = (await world.until("backoff", "crashed")).next_start
    seen = len(world.history)
    world.clock.wall_offset += jump
    world.reconciler.wake(*world.reconciler.runners)
    await asyncio.sleep(50)
    assert world.history[seen:] == []
    state = await world.until("starting", "crashed")
    assert abs(state.since - planned) < 1
    await asyncio.sleep(2000)
    assert world.state("piper").restarts == 0
    assert world.state("ordered").restarts == 0
    world.clock.wall_offset -= jump
    world.reconciler.wake(*world.reconciler.runners)
    await asyncio.sleep(500)
    assert world.state("piper").restarts == 0
    assert world.state("crashed").restarts == 1
