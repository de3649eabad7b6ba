"""Five hundred pages that listen and two hundred that have stalled: nobody else is harmed.

Harm is measured beside the same agent without a crowd, before and after it, so a slow machine is slow
for both. A stalled caller asks for a long log and never reads it.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import psutil
import pytest

from tests.support.agent import PATIENCE, wait_until
from tests.support.scale import many
from tests.support.web import Site
from tests.web.test_streams import open_streams

pytestmark = pytest.mark.slow

LISTENERS, STALLED = 500, 200
ROUNDS = many(8, 100)
WINDOWS = 3
_WANTED = re.compile(rb'"desired": "(running|stopped)"')


@pytest.fixture(scope="module")
def site(make_module_site) -> Site:
    sleep = {"command": ["sleep", "1000"], "activation": "manual", "stop": {"pause": "0s"}}
    made: Site = make_module_site({"tts": sleep, "chatty": sleep})
    log = made.agent.data_dir / "logs" / "chatty.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(f"{number} {'x' * 100}\n" for number in range(4000)))
    return made


class Listener:
    """One page: it notes when it heard that `tts` shall run or stop, and whether it lost anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard: list[tuple[str, float]] = []
        self.lost = False
        self._reader = reader
        self._writer = writer  # a writer that nobody keeps closes its connection

    async def listen(self) -> None:
        name = b""
        while line := await self._reader.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip()
                self.lost = self.lost or name == b"dropped"
            elif name == b"service" and (told := _WANTED.search(line)):
                word = told[1].decode()
                if not self.heard or self.heard[-1][0] != word:
                    self.heard.append((word, time.monotonic()))


class Crowd:
    """Connections to one agent, as the people of a test."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._host, port = site.url.removeprefix("http://").split(":")
        self._port = int(port)

    async def open(self, path: str, *, limit: int = 2**20) -> tuple[Any, Any]:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=limit)
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Authorization: {self.site.admin.headers['Authorization']}\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        return reader, writer

    @asynccontextmanager
    async def listeners(self, count: int):
        """So many pages that listen; they have all been sent the whole when this returns."""
        async with AsyncExitStack() as stack:
            found = []
            for _ in range(count):
                reader, writer = await self.open("/admin/services/stream")
                stack.callback(writer.transport.abort)
                await asyncio.wait_for(reader.readuntil(b"event: services"), PATIENCE)
                found.append(Listener(reader, writer))
            tasks = [asyncio.ensure_future(one.listen()) for one in found]
            try:
                yield found
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def stalled(self, count: int):
        """So many that ask for a long log and read nothing of it."""
        writers = []
        for _ in range(count):
            _, writer = await self.open("/admin/logs/stream/chatty?from=0", limit=1)
            writer.transport.pause_reading()
            writers.append(writer)
        try:
            yield
        finally:
            for writer in writers:
                writer.transport.abort()

    async def are(self, count: int) -> None:
        """Wait until the agent has so many streams, no more and no less."""

        there = partial(open_streams, self.site)
        await asyncio.to_thread(wait_until, lambda: there() == count, what=f"{count} streams")

    async def deliveries(self, listeners: list[Listener]) -> float:
        """Seconds from an order until nearly each listener has heard of it, in the usual round."""
        took = []
        for number in range(ROUNDS):
            verb, word = (("start", "running"), ("stop", "stopped"))[number % 2]
            begun = time.monotonic()
            args = {"verb": verb, "names": ["tts"]}
            await asyncio.to_thread(self.site.agent.ask, "change", args)
            async with asyncio.timeout(PATIENCE):
                while not all(one.heard and one.heard[-1][0] == word for one in listeners):
                    await asyncio.sleep(0.005)
            heard = [one.heard[-1][1] - begun for one in listeners]
            took.append(p95(heard) if len(heard) > 1 else heard[0])
        # Not only wanted: who listens next is to hear nothing of this.
        await asyncio.to_thread(self.site.agent.wait_phase, "tts", "stopped")
        return statistics.median(took)

    async def answers(self) -> float:
        """Seconds within which nearly every request for the status was answered."""

        def ask() -> float:
            took = []
            for _ in range(many(60, 600)):
                begun = time.monotonic()
                assert self.site.admin.get("/supervisor/status").status_code == 200
                took.append(time.monotonic() - begun)
            return p95(took)

        return statistics.median([await asyncio.to_thread(ask) for _ in range(WINDOWS)])


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


async def test_a_crowd_that_listens_and_stalls_harms_nobody(site: Site):
    crowd = Crowd(site)
    agent = psutil.Process(site.agent.pid)

    async def alone() -> tuple[float, float]:
        async with crowd.listeners(1) as one:
            return await crowd.answers(), await crowd.deliveries(one)

    before = await alone()
    small = agent.memory_info().rss
    async with crowd.listeners(LISTENERS) as listeners, crowd.stalled(STALLED):
        await crowd.are(LISTENERS + STALLED)
        status, delivery = await crowd.answers(), await crowd.deliveries(listeners)
        large = agent.memory_info().rss
    await crowd.are(0)
    after = await alone()

    assert [one.lost for one in listeners] == [False] * LISTENERS
    assert [len(one.heard) for one in listeners] == [ROUNDS] * LISTENERS
    # This process reads for all of them, on the cores of the agent: most of the difference is its own.
    assert status < 10 * max(before[0], after[0]), (status, before, after)
    assert delivery < 10 * max(before[1], after[1]), (delivery, before, after)
    # A stalled caller's mailbox is half a megabyte at most; a listener's is empty.
    assert large - small < LISTENERS * 100_000 + STALLED * 1_000_000
