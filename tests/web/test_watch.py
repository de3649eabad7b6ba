"""What a page is told of changes that follow each other closely: all of them, and none late."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from lictor.core.runtime.bell import Bell
from lictor.web.api import watch
from lictor.web.api.status import StatusPages
from lictor.web.api.streams import Mailbox
from lictor.web.door import Door


class World:
    """One service whose phase a test turns, as an agent would tell of it."""

    def __init__(self) -> None:
        self.phase, self.bell = "ready", Bell()

    def turn(self, phase: str) -> None:
        self.phase = phase
        self.bell.ring()

    def knows(self, _op: str) -> bool:
        return True

    async def handle(self, *_: object) -> dict[str, Any]:
        row = {"name": "piper", "phase": self.phase, "uptime": 1, "owner": None}
        row |= {"cpu_percent": 0.0, "memory_mb": 1.0}
        return {"services": {"piper": row}, "system": {}}


async def phases(box: Mailbox, count: int) -> list[str]:
    """The phases in the next events about the service."""
    found: list[str] = []
    while len(found) < count:
        for event in (await box.take(5.0)).decode().split("\n\n"):
            if event.startswith("event: service\n"):
                found.append(json.loads(event.partition("data: ")[2])["phase"])
    return found


@pytest.mark.parametrize("asked", [False, True], ids=["alone", "while others ask"])
async def test_a_change_right_after_another_is_not_kept_until_the_next_figures(monkeypatch, asked):
    monkeypatch.setattr(watch, "_FIGURES", 3600.0)
    world = World()
    door = Door(SimpleNamespace(bell=world.bell), world)  # type: ignore[arg-type]
    pages = StatusPages(door)
    watched, box = watch.Watch(door, pages), Mailbox()
    listening = asyncio.ensure_future(watched.services("all", box))
    try:
        async with asyncio.timeout(20):
            await box.take(5.0)
            await asyncio.sleep(0.2)
            world.turn("stopping")
            assert await phases(box, 1) == ["stopping"]
            for phase in ("stopped", "starting", "ready"):
                if asked:
                    await pages.page()  # just before the change: others share these rows
                world.turn(phase)
                assert await phases(box, 1) == [phase]
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        watched.close()
