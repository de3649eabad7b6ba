"""A load is followed by what its server prints and by what comes onto the disk, with real files."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Self
from unittest.mock import MagicMock

from lictor.core.model.spec import ParamRef, ParamSpec
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.models.loads import ModelLoads
from lictor.core.testing import FakeClock, MemoryStore
from tests.core.build import key, now_in, spec
from tests.support.children import eventually

KEY = key("vllm")


class House:
    """One service with a log and a cache, and who follows its loads."""

    def __init__(self, folder: Path, store: MemoryStore | None = None) -> None:
        self.log, self.hub = folder / "vllm.log", folder / "hub"
        self.store = store or MemoryStore()
        self.clock, self.bell = FakeClock(), Bell()
        self.spec = spec(
            "vllm",
            command=("vllm", ParamRef("model")),
            params={"model": ParamSpec("org/a")},
            env={"HF_HUB_CACHE": str(self.hub)},
        )
        self.runner = SimpleNamespace(
            key=KEY, spec=self.spec, state=now_in("stopped"), log_path=lambda: self.log
        )
        self.loads = ModelLoads(
            SimpleNamespace(
                reconciler=SimpleNamespace(runners={KEY: self.runner}),
                tools=SimpleNamespace(clock=self.clock, store=self.store),
                bell=self.bell,
            )
        )

    async def __aenter__(self) -> Self:
        self.work = asyncio.create_task(self.loads.attend())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.work.cancel()
        with suppress(asyncio.CancelledError):
            await self.work

    async def start(self) -> None:
        started = self.clock.now()
        self.runner.state = now_in("starting", self.spec, started=started)
        self.bell.ring()
        await eventually(lambda: self.loads.of(KEY) is not None)

    def say(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(text)

    def fetch(self, size: int) -> None:
        blobs = self.hub / "models--org--a" / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        with (blobs / "x.incomplete").open("ab") as file:
            file.write(b"x" * size)

    async def look(self) -> None:
        self.clock.advance(1.0)
        self.bell.ring()

    async def ready(self, *, adopted: bool = False) -> None:
        state = replace(self.runner.state, ready_since=self.clock.now(), adopted=adopted)
        self.runner.state = replace(state, phase=now_in("ready").phase)
        self.bell.ring()


async def shows(house: House, **wanted: object) -> None:
    async def there() -> bool:
        await house.look()
        await asyncio.sleep(0.02)
        found = house.loads.of(KEY)
        return found is not None and all(getattr(found, n) == v for n, v in wanted.items())

    for _ in range(300):
        if await there():
            return
    raise AssertionError(f"{house.loads.of(KEY)} is not {wanted}")


async def test_what_was_printed_before_the_start_does_not_count(tmp_path):
    house = House(tmp_path)
    house.say("INFO: Application startup complete.\n")
    async with house:
        await house.start()
        assert house.loads.of(KEY).percent is None
        house.say("Starting to load model org/a\n")
        await shows(house, percent=6)
        house.say("\rLoading safetensors checkpoint shards:  50% Completed | 2")
        await shows(house, percent=36)
        house.say("/4\nStarting to load model org/a\n")
        await asyncio.sleep(0.1)
        await shows(house, percent=36)  # never backwards


async def test_what_is_printed_before_the_first_look_counts_if_the_start_was_told(tmp_path):
    # (one thread: what is asked in it is answered in order)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    house = House(tmp_path)
    house.say("INFO: Application startup complete.\n")
    before = house.runner.state
    house.runner.state = now_in("starting", house.spec, started=house.clock.now())
    house.loads.changed(house.runner, before)
    await asyncio.to_thread(int)
    house.say("\rLoading safetensors checkpoint shards:  50% Completed | 2")
    async with house:
        await shows(house, percent=36)


def test_the_agent_tells_of_each_change_at_once():
    agent = MagicMock()
    runner, before = SimpleNamespace(key=KEY, state=now_in("starting")), now_in("stopped")
    Agent._changed(agent, runner, before)
    agent.models.loads.changed.assert_called_once_with(runner, before)


async def test_a_start_that_was_told_and_one_that_was_not_begin_where_their_log_ends(tmp_path):
    house = House(tmp_path)
    before = house.runner.state
    house.say("Loading safetensors checkpoint shards: 100% Completed\n")
    house.runner.state = now_in("starting", house.spec, started=house.clock.now())
    house.loads.changed(house.runner, before)
    house.clock.advance(5.0)  # nobody looked at that start; the next one was not told
    async with house:
        await house.start()
        await house.look()
        await asyncio.sleep(0.1)
        assert house.loads.of(KEY).percent is None


async def test_a_download_shows_as_bytes_that_came_in_this_start(tmp_path):
    house = House(tmp_path)
    house.fetch(5_000)
    async with house:
        await house.start()
        house.fetch(70_000)
        await shows(house, grown=70_000, percent=None)


async def test_the_next_agent_goes_on_where_the_killed_one_was(tmp_path):
    house = House(tmp_path)
    async with house:
        await house.start()
        house.say("Loading safetensors checkpoint shards: 100% Completed\n")
        await shows(house, percent=65)
    after = House(tmp_path, MemoryStore(house.store))
    after.runner.state = house.runner.state
    async with after:
        await shows(after, percent=65)


async def test_starts_that_got_ready_say_how_long_the_next_one_takes(tmp_path):
    house = House(tmp_path)
    async with house:
        for seconds in (50.0, 60.0, 400.0):
            await house.start()
            house.clock.advance(seconds)
            await house.ready()
            await eventually(lambda s=seconds: s in house.loads.history(KEY, "org/a").durations)
        assert house.loads.usual(KEY, "org/a") == 60.0
        assert house.loads.usual(KEY, "org/b") is None
        await house.start()
        house.clock.advance(30.0)
        loading = house.loads.of(KEY)
        assert (loading.percent, loading.eta) == (50, 30)
        await house.ready(adopted=True)  # nobody saw when it got ready
        await asyncio.sleep(0.1)
        assert len(house.loads.history(KEY, "org/a").durations) == 3


async def test_a_service_without_a_log_or_a_cache_is_no_trouble(tmp_path):
    house = House(tmp_path)
    house.log = None
    async with house:
        await house.start()
        await shows(house, percent=None, grown=0)
