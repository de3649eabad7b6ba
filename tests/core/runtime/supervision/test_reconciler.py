"""Events wake, snapshots decide: the reconciler over real runners in a world of fakes."""

from __future__ import annotations

import asyncio

from lictor.core.errors import StartFailed
from lictor.core.model.plan import Verb
from lictor.core.model.spec import RestartPolicy
from lictor.core.runtime.supervision.reconciler import FULL_PASS, Reconciler, keys_named
from tests.core.build import desired, key, want
from tests.core.virtual import LoopClock, virtual
from tests.core.world import World


def begun(world: World) -> list[str]:
    return [str(spec.key) for spec in world.driver.started]


@virtual
async def test_services_start_in_waves_each_when_what_it_needs_is_ready():
    world = World(want("web", needs=["api"]), want("api", needs=["db"]), want("db"))
    await world.until("ready", "web")
    assert begun(world) == ["db", "api", "web"]
    assert world.phases("web") == ["queued", "starting", "ready"]
    assert world.state("web").started >= world.state("api").ready_since


@virtual
async def test_services_stop_in_the_opposite_order():
    names = {"db": [], "api": ["db"], "web": ["api"]}
    world = World(*(want(name, needs=needs) for name, needs in names.items()))
    world.driver.stop_takes = 2.0
    await world.until("ready", "web")
    world.want(*(want(name, "stopped", needs=needs) for name, needs in names.items()))
    await world.until("stopped", "db")
    ended = [str(k) for k, _, after in world.history if after.phase.value == "stopped"]
    assert ended[-3:] == ["web", "api", "db"]


@virtual
async def test_a_service_without_ties_waits_for_nobody():
    world = World(want("slow", before=(("job",),)), want("quick"))
    world.driver.job_takes = 1000
    await world.until("ready", "quick", within=1)


@virtual
async def test_before_it_is_told_to_begin_it_only_shows_what_it_would_do():
    world = World()
    reconciler = Reconciler(LoopClock(), lambda _: None)
    reconciler.runners.update(world.reconciler.runners)
    reconciler.want(desired(want()))
    await asyncio.sleep(60)
    assert [a.verb for a in reconciler.preview().actions] == [Verb.START]
    assert world.driver.started == []


@virtual
async def test_once_halted_everything_stops_whatever_is_wanted_afterwards():
    world = World(want("consul"), want("piper"))
    await world.until("ready")
    spare = frozenset({key("consul")})
    world.reconciler.halt(spare=spare)
    world.want(want("consul"), want("piper"), want("late"))
    await world.until("stopped")
    await asyncio.sleep(60)
    assert (world.phase("consul"), world.phase("late")) == ("ready", "stopped")


@virtual
async def test_a_lost_event_costs_at_most_a_full_pass():
    world = World(want())
    await world.until("ready")
    passing = asyncio.create_task(world.reconciler.keep_passing())
    world.reconciler._desired = desired(want(state="stopped"))  # nobody was woken
    await world.until("stopped", within=FULL_PASS + 1)
    passing.cancel()


@virtual
async def test_one_broken_runner_does_not_stop_the_others(caplog):
    world = World(want("bad"), want("good"))

    def break_down(*_, **__):
        raise RuntimeError("a bug")

    world["bad"].act = break_down
    await world.until("ready", "good")
    assert "action failed" in caplog.text


@virtual
async def test_a_removed_service_is_stopped_and_then_forgotten():
    world = World(want("old"), want("new"))
    await world.until("ready", "old")
    world.want(want("new"))
    await world.until("stopped", "old")
    await asyncio.sleep(1)
    assert list(world.reconciler.runners) == [key("new")]
    assert world.driver.live(key("old")) == []


@virtual
async def test_a_service_that_returns_while_it_is_being_stopped_is_started_again():
    world = World(want())
    world.driver.stop_takes = 5.0
    await world.until("ready")
    world.want()
    await world.until("stopping")
    world.want(want())
    await world.until("ready")
    assert len(world.driver.runs) == 2


@virtual
async def test_a_new_definition_takes_effect_with_one_restart():
    world = World(want(command=("a",)))
    await world.until("ready")
    world.want(want(command=("b",)))
    await world.until("stopping")
    await world.until("ready")
    await asyncio.sleep(60)
    assert [spec.argv() for spec in world.driver.started] == [("a",), ("b",)]


@virtual
async def test_a_definition_that_changes_during_a_start_is_not_missed():
    world = World(want(command=("a",), before=(("job",),)))
    world.driver.job_takes = 10
    await world.until("starting")
    await asyncio.sleep(5)
    world.want(want(command=("b",), before=(("job",),)))
    await asyncio.sleep(120)
    assert world.phase() == "ready"
    assert [spec.argv() for spec in world.driver.started] == [("b",)]
    assert len(world.driver.jobs) == 2


def test_a_name_means_all_instances_of_a_service_and_nothing_unknown():
    known = [key("piper@a"), key("piper@b"), key("redis")]
    assert keys_named([key("piper")], known) == known[:2]
    assert keys_named([key("piper@b"), key("piper")], known) == [known[1], known[0]]
    assert keys_named([key("nobody"), key("redis@x")], known) == []


@virtual
async def test_a_failed_service_is_tried_again_when_its_definition_was_mended():
    world = World()
    never = RestartPolicy(policy="never")
    error = StartFailed("no such program", reason_code="start.no_program", params={"program": "a"})
    world.driver.fail(error)
    world.want(want(command=("a",), restart=never))
    await world.until("failed")
    await asyncio.sleep(60)
    assert world.phase() == "failed"
    world.want(want(command=("b",), restart=never))
    await world.until("ready")
