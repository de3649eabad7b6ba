"""A switch is carried out with real runners, in virtual time: prepared first where a driver can."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lictor.core.errors import StartFailed
from lictor.core.model.desired import DesiredChange, DesiredState
from lictor.core.model.spec import HealthSpec, ParamRef, ParamSpec, StopSpec
from lictor.core.planning.model_switch import Stage
from lictor.core.planning.overrides import Host, merge
from lictor.core.ports_prepare import Preparing
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.desired.keeper import DesiredKeeper
from lictor.core.runtime.models.switching import Models, switch_from, switch_row
from lictor.core.testing import FakeDriver
from tests.core.build import HTTP, key, want
from tests.core.virtual import virtual
from tests.core.world import CarefulDriver, World

KEY = key("vllm")
SERVICE = {
    "command": ("vllm", "serve", ParamRef("model")),
    "params": {"model": ParamSpec("org/a")},
    "stop": StopSpec(pause=0.0),
    "health": HealthSpec(probe=HTTP, startup=60.0),
}


class PreparingDriver(CarefulDriver):
    """Makes the next run beside the present one; `takes` seconds, or fails as told."""

    takes = 30.0
    problem: StartFailed | None = None

    def __init__(self) -> None:
        super().__init__()
        self.prepared: list[object] = []
        self.cards: list[object] = []
        self.ready: set[object] = set()  # made, and neither started nor forgone
        self.cut = 0

    async def prepare(self, spec) -> None:
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.cut += 1
            raise
        if self.problem is not None:
            raise self.problem
        self.prepared.append(spec.param("model"))
        self.cards.append(spec.env.get("CARD"))
        self.ready = {spec.param("model")}

    async def start(self, spec):
        self.ready.discard(spec.param("model"))
        return await super().start(spec)

    async def forgo(self, which) -> None:
        assert which == KEY
        self.ready.clear()


class House:
    """As much of an agent as a switch touches: real keeper, real reconciler, no Consul, no disk."""

    def __init__(self, driver: FakeDriver | None = None, after: House | None = None) -> None:
        self.world = World(want("vllm", **SERVICE), after=after.world if after else None)
        if driver is not None:
            self.world.driver = driver
            self.world["vllm"].use(driver)
        self.bell, self.recorded = Bell(), []
        self.spec = want("vllm", **SERVICE).spec
        self.keeper = DesiredKeeper(
            self.world.store,
            self.changed,
            lambda *_: None,
            self.merged,
        )
        self.keeper.load()
        self.world.store.flushed = self.flushed
        self.agent = SimpleNamespace(
            tools=SimpleNamespace(store=self.world.store, clock=self.world.clock),
            reconciler=self.world.reconciler,
            keeper=self.keeper,
            publisher=SimpleNamespace(touch=lambda *_: None),
            bell=self.bell,
            ending=False,
            record=lambda _kind, _subject, why, **_: self.recorded.append(why.code),
            dressed=lambda spec: replace(spec, env={**spec.env, "CARD": "GPU-1"}),
        )
        self.models = Models(self.agent)
        self.models.load()
        self.changed()
        self.work = asyncio.create_task(self.models.attend())

    def flushed(self):
        done: Future[bool] = Future()
        done.set_result(True)
        return done

    def merged(self, documents):
        wall = self.world.clock.wall()
        return merge([self.spec], documents, wall=wall, host=Host())

    def changed(self) -> None:
        self.world.reconciler.want(self.merged(self.keeper.documents))
        self.bell.ring()

    def order(self, model: str) -> None:
        self.models.begin(KEY, model, {"model": model}, "anna")

    @property
    def stage(self) -> Stage:
        return self.models.switch(KEY).stage

    async def until(self, stage: Stage, within: float = 900.0) -> None:
        async with asyncio.timeout(within):
            while self.stage is not stage:
                await asyncio.sleep(0.1)

    @property
    def models_started(self) -> list[object]:
        return [spec.param("model") for spec in self.world.driver.started]


async def serving(driver: FakeDriver | None = None) -> House:
    house = House(driver)
    await house.world.until("ready", "vllm")
    return house


@virtual
async def test_the_old_one_serves_until_the_new_one_is_prepared():
    driver = PreparingDriver()
    assert isinstance(driver, Preparing)
    house = await serving(driver)
    house.order("org/b")
    await asyncio.sleep(20)
    assert (house.stage, house.world.phase("vllm")) == (Stage.PREPARING, "ready")
    assert [part.code for part in house.models.parts(KEY)] == ["model.preparing"]
    await house.until(Stage.DONE)
    assert driver.prepared == ["org/b"]
    assert driver.ready == set()
    assert house.models_started == ["org/a", "org/b"]
    assert driver.doubled == []
    house.work.cancel()


@virtual
async def test_what_cannot_be_prepared_is_refused_and_the_old_one_never_notices():
    driver = PreparingDriver()
    driver.problem = StartFailed("no", reason_code="start.program_missing", params={"program": "x"})
    house = await serving(driver)
    run = house.world.running("vllm")
    house.order("org/b")
    await house.until(Stage.REFUSED)
    assert run.alive
    assert house.keeper.documents.node == {}
    (said,) = house.models.parts(KEY)
    assert said.code == "model.refused"
    assert said.params["why"] == "There is no program x."
    house.work.cancel()


@virtual
async def test_a_preparation_that_nobody_wants_any_more_is_cut():
    driver = PreparingDriver()
    house = await serving(driver)
    house.order("org/b")
    await asyncio.sleep(5)
    house.order("org/c")
    await house.until(Stage.DONE)
    assert driver.cut == 1
    assert driver.prepared == ["org/c"]
    assert house.models_started == ["org/a", "org/c"]
    house.work.cancel()


@virtual
async def test_it_is_prepared_as_the_next_run_will_have_it_and_goes_when_there_will_be_none():
    driver = PreparingDriver()
    house = await serving(driver)
    house.order("org/b")
    await house.keeper.change(KEY, DesiredChange(state=DesiredState.STOPPED, by="bob"))
    await house.until(Stage.LEFT)
    await asyncio.sleep(1)
    assert (driver.prepared, driver.cards) == (["org/b"], ["GPU-1"])
    assert house.models_started == ["org/a"]
    assert driver.ready == set()
    house.work.cancel()


@virtual
async def test_what_is_prepared_too_late_for_anybody_goes_as_well():
    driver = PreparingDriver()
    house = await serving(driver)
    house.order("org/b")
    await asyncio.sleep(5)
    await house.keeper.change(KEY, DesiredChange(params={"model": "org/c"}, by="bob"))
    await house.until(Stage.REPLACED, within=10)
    assert driver.prepared == []
    await asyncio.sleep(60)
    assert driver.prepared == ["org/b"]
    assert driver.ready == set()
    house.work.cancel()


@pytest.mark.parametrize("after", [10, 29.99])
@virtual
async def test_an_agent_that_ends_leaves_nothing_prepared_and_the_switch_to_the_next_one(after):
    driver = PreparingDriver()
    house = await serving(driver)
    house.agent.tools.store.flushed = Future  # the disk takes its time, so it stays at that stage
    house.order("org/b")
    await asyncio.sleep(after)
    assert house.stage is Stage.PREPARING
    if after > 29:
        await house.until(Stage.ORDERED)
        assert driver.ready == {"org/b"}
    house.agent.ending = True
    async with asyncio.timeout(1):
        await house.models.end()
    assert driver.cut == (after < 29)
    assert driver.ready == set()
    assert not house.models.switch(KEY).stage.over
    house.work.cancel()


@virtual
async def test_a_driver_without_that_step_just_switches_and_a_failure_goes_back():
    house = await serving()
    assert not isinstance(house.world.driver, Preparing)
    house.world.prober.passing = False
    house.order("org/b")
    await house.world.until("starting", "vllm")
    await asyncio.sleep(5)
    assert house.models_started == ["org/a", "org/b"]
    house.world.running("vllm").end()
    await house.until(Stage.GOING_BACK)
    house.world.prober.passing = True
    await house.until(Stage.BACK)
    assert house.models_started == ["org/a", "org/b", "org/a"]
    assert house.world.driver.doubled == []
    assert house.keeper.documents.node == {}
    assert house.recorded == ["model.ordered", "model.loading", "model.going_back", "model.back"]
    (said,) = house.models.parts(KEY)
    assert said.params["why"] == "It ended with exit code 1 while it was loading."
    house.order("org/b")
    await house.until(Stage.DONE)
    assert house.models.parts(KEY) == []
    house.work.cancel()


@virtual
async def test_an_agent_that_is_told_to_end_leaves_the_switch_to_the_next_one():
    house = await serving(PreparingDriver())
    house.order("org/b")
    await asyncio.sleep(1)
    house.agent.ending = True
    house.world.reconciler.halt(spare=frozenset())
    house.bell.ring()
    await asyncio.sleep(5)
    assert house.stage is Stage.PREPARING
    house.work.cancel()


def test_a_row_of_another_version_is_no_switch():
    assert switch_from({}) is None
    assert switch_from({"stage": "flying", "passing": []}) is None


@virtual
async def test_a_switch_outlives_its_row():
    house = await serving()
    house.order("org/b")
    switch = house.models.switch(KEY)
    assert switch_from(json.loads(json.dumps(switch_row(switch)))) == switch
    house.work.cancel()


@virtual
async def test_a_switch_of_an_earlier_agent_waits_for_a_look_into_kv_but_not_for_ever():
    house = await serving()
    house.order("org/b")
    house.work.cancel()  # before it could do anything
    assert house.keeper.unknown.code == "desired.not_read_yet"
    house.models = Models(house.agent)
    house.models.load()
    house.work = asyncio.create_task(house.models.attend())
    await asyncio.sleep(4)
    assert house.keeper.documents.node == {}
    await house.until(Stage.DONE, within=60)
    house.order("org/c")  # one that is given now is done now
    await asyncio.sleep(0.2)
    assert house.keeper.documents.node[KEY].params == {"model": "org/c"}
    house.work.cancel()
