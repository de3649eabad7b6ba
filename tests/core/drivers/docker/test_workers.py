"""Calls that hang cost a thread, and never the loop or whoever waits."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from lictor.core.drivers.docker.workers import Workers
from tests.support.patience import soon, until


@pytest.fixture
def release():
    """An event on which calls hang; set at the end."""
    event = threading.Event()
    yield event
    event.set()


async def test_results_and_errors_come_back(release):
    workers = Workers(2, "t")
    assert await soon(workers.run(lambda: 42, 5)) == 42
    with pytest.raises(KeyError):
        await soon(workers.run(lambda: {}["x"], 5))
    workers.close()


async def test_a_call_that_hangs_is_given_up_while_the_loop_goes_on(release):
    workers = Workers(2, "t")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    hanging = asyncio.create_task(workers.run(lambda: release.wait(60), None))
    await until(lambda: ticks > 5)
    assert not hanging.done()
    with pytest.raises(TimeoutError):
        await soon(workers.run(lambda: release.wait(60), 0.3))
    hanging.cancel()
    ticking.cancel()
    workers.close()


async def test_a_thread_comes_back_when_its_call_does(release):
    workers = Workers(1, "t")
    with pytest.raises(TimeoutError):
        await workers.run(lambda: release.wait(60), 0.1)
    release.set()
    assert await soon(workers.run(threading.get_ident, 20))
    workers.close()


async def test_there_are_never_more_threads_than_allowed_and_none_before_there_is_work():
    workers = Workers(3, "only-these")

    def mine() -> int:
        return sum(one.name == "only-these" for one in threading.enumerate())

    assert mine() == 0
    calls = [workers.run(lambda: time.sleep(0.1), 20) for _ in range(9)]
    waiting = asyncio.gather(*calls)
    await until(lambda: mine() == 3)
    await soon(waiting)
    assert mine() == 3
    workers.close()
    await until(lambda: mine() == 0)


async def test_each_thread_says_goodbye():
    said = []
    workers = Workers(2, "t", lambda: said.append(threading.get_ident()))
    await soon(workers.run(lambda: None, 5))
    workers.close()
    await until(lambda: len(said) == 1)
