"""Recycling with runners, in virtual time."""

from __future__ import annotations

import asyncio
import json

from lictor.core.model.spec import RecycleSpec, RestartPolicy, StopSpec
from lictor.core.ports import Usage
from lictor.core.runtime import views
from lictor.core.runtime.storage.codec import state_from, state_row
from lictor.core.runtime.supervision.recycler import Recycler
from tests.core.build import key, want
from tests.core.virtual import virtual
from tests.core.world import World

MIB = 1 << 20


class Scales:
    """What is weighed, and how often somebody looked."""

    def __init__(self, **weights: int) -> None:
        self.weights = {key(name): weight for name, weight in weights.items()}
        self.looks = 0

    def __call__(self):
        self.looks += 1
        return {name: Usage(memory_bytes=weight) for name, weight in self.weights.items()}


def leaking(**fields):
    fields.setdefault("recycle", RecycleSpec(rss=100 * MIB))
    return want(stop=StopSpec(pause=0.5), **fields)


@virtual
async def test_a_service_that_grew_too_large_is_started_afresh_and_says_why():
    world, scales = World(leaking()), Scales(piper=50 * MIB)
    watch = asyncio.create_task(Recycler(world.reconciler, scales).watch())
    first = (await world.until("ready")).identity
    await asyncio.sleep(600)
    assert world.state().identity == first
    scales.weights[key("piper")] = 101 * MIB
    stopping = await world.until("stopping", within=30)
    assert stopping.reason.code == "recycle.rss"
    scales.weights[key("piper")] = 50 * MIB
    again = await world.until("ready", within=30)
    assert again.identity != first
    assert (again.restarts, again.failures, again.recycles) == (1, 0, 1)
    (one,) = world.reconciler.desired.values()
    said = " ".join(views.say(part) for part in views.parts(again, one, now=world.clock.now()))
    assert "recycle.rss" in said
    assert "101.0 MiB" in said
    watch.cancel()


@virtual
async def test_nobody_looks_while_no_running_service_has_a_limit():
    world, scales = World(leaking(recycle=RecycleSpec(age=1e9))), Scales(piper=MIB)
    watch = asyncio.create_task(Recycler(world.reconciler, scales).watch())
    await world.until("ready")
    await asyncio.sleep(600)
    assert scales.looks == 0
    world.want(leaking())
    await asyncio.sleep(100)
    assert 9 <= scales.looks <= 11
    world.want(leaking(state="stopped"))
    await world.until("stopped")
    looks = scales.looks
    await asyncio.sleep(100)
    assert scales.looks == looks
    watch.cancel()


@virtual
async def test_what_was_weighed_says_nothing_about_the_next_run():
    world = World(leaking())
    heavy = (await world.until("ready")).identity
    world.running().end()
    await world.until("backoff")
    light = (await world.until("ready")).identity
    world.reconciler.weighed({key("piper"): (heavy, 101 * MIB)})
    world.reconciler.wake(key("piper"))
    await asyncio.sleep(60)
    assert world.state().identity == light
    world.reconciler.weighed({key("piper"): (light, 101 * MIB)})
    world.reconciler.wake(key("piper"))
    assert (await world.until("stopping", within=1)).reason.code == "recycle.rss"


@virtual
async def test_a_limit_below_what_it_always_uses_restarts_it_ever_less_often():
    restart = RestartPolicy(backoff=10.0, max_backoff=300.0)
    world, scales = World(leaking(restart=restart)), Scales(piper=200 * MIB)
    watch = asyncio.create_task(Recycler(world.reconciler, scales).watch())
    await asyncio.sleep(3600)
    assert 10 <= world.state().restarts <= 18
    assert "backoff" not in world.phases()
    watch.cancel()


@virtual
async def test_the_count_survives_the_agent():
    world = World(leaking(recycle=RecycleSpec(age=20.0)))
    world_full = asyncio.create_task(world.reconciler.keep_passing())
    await asyncio.sleep(45)
    assert world.state().recycles >= 1
    assert world.codes().count("recycle.age") >= 1
    row = json.loads(json.dumps(state_row(world.state())))
    assert state_from(row) == world.state()
    world_full.cancel()


@virtual
async def test_a_row_of_an_agent_that_knew_no_recycling_is_still_read():
    world = World(want())
    state = await world.until("ready")
    row = state_row(state)
    del row["recycles"], row["ended_because"]
    assert state_from(json.loads(json.dumps(row))) == state
