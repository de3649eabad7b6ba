"""What many watch at a time is made once: states, events and figures of the host.

A channel works while somebody listens and sleeps otherwise, so a page that nobody looks at costs
nothing. Each kind of reader (all, one owner, names only) has a channel of its own, and what leaves
it is bytes that all of them share. What a channel tells is always a change to a whole that a new
listener is sent first, so nobody depends on having heard everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lictor.core.errors import LictorError
from lictor.web import problems
from lictor.web.api.answer import encode
from lictor.web.api.gpu import nameless
from lictor.web.api.status import StatusPages
from lictor.web.api.streams import Mailbox, event
from lictor.web.door import Door

_CALM = 0.1  # seconds between two looks at the states
_FIGURES = 2.0  # seconds between two sets of figures

#: What changes without a change of state; it comes as `figures`, for all services at a time.
_MOVING = ("uptime", "cpu_percent", "memory_mb")

Tell = Callable[[bytes], None]


class Channel:
    """One source for any number of mailboxes. `work` runs while there are some."""

    def __init__(self, work: Callable[[Tell], Awaitable[None]]) -> None:
        self._work = work
        self._boxes: set[Mailbox] = set()
        self._task: asyncio.Future[None] | None = None

    @contextlib.contextmanager
    def heard_by(self, box: Mailbox) -> Any:
        """Put what comes into a mailbox until the block is left."""
        self._boxes.add(box)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._work(self._tell))
        try:
            yield
        finally:
            self._boxes.discard(box)
            if not self._boxes:
                self.close()

    def _tell(self, item: bytes) -> None:
        for box in self._boxes:
            box.put(item)

    def close(self) -> None:
        """Stop working."""
        if self._task is not None:
            self._task.cancel()
            self._task = None


class Watch:
    """The channels of one agent."""

    def __init__(self, door: Door, pages: StatusPages) -> None:
        self._door = door
        self._pages = pages
        self._channels: dict[str, Channel] = {}

    async def services(self, reader: str, box: Mailbox) -> None:
        """The whole, then each change, for ever: `services`, `service`, `gone`, `figures`."""

        async def work(tell: Tell) -> None:
            await self._states(reader, tell)

        with self._channel(f"services {reader}", work).heard_by(box):
            box.put(event("services", await self._pages.rows(reader)))
            await asyncio.Event().wait()

    async def monitor(self, kind: str, box: Mailbox) -> None:
        """Figures of the host every two seconds, for ever. `kind`: monitor or gpu."""

        async def work(tell: Tell) -> None:
            while True:
                tell(await self._figures(kind))
                await asyncio.sleep(_FIGURES)

        with self._channel(kind, work).heard_by(box):
            await asyncio.Event().wait()

    async def _figures(self, kind: str) -> bytes:
        try:
            found = await self._door.ask("monitor")
        except LictorError as error:
            return event("problem", problems.told(error))
        if kind == "gpu":
            found = gpu_only(found)
        return event(kind, found)

    def _channel(self, name: str, work: Callable[[Tell], Awaitable[None]]) -> Channel:
        return self._channels.setdefault(name, Channel(work))

    async def _states(self, reader: str, tell: Tell) -> None:
        known: dict[str, bytes] = {}
        figures = b""
        loop = asyncio.get_running_loop()
        due = loop.time()
        bell = self._door.agent.bell
        while True:
            rows = (await self._pages.rows(reader))["services"]
            fresh = {name: encode(_still(row)) for name, row in rows.items()}
            if known:
                for name, row in fresh.items():
                    if row != known.get(name):
                        tell(event("service", rows[name]))
                for name in known.keys() - fresh.keys():
                    tell(event("gone", {"name": name}))
            known = fresh
            if loop.time() >= due:
                due = loop.time() + _FIGURES
                figures, before = event("figures", _moving(rows)), figures
                if figures != before:
                    tell(figures)
            await asyncio.sleep(_CALM)
            if bell.rings == self._pages.rings:  # what rang since these rows were made woke nobody
                await bell.wait(max(0.0, due - loop.time()))

    def close(self) -> None:
        """Stop all work."""
        for channel in self._channels.values():
            channel.close()


def gpu_only(found: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the monitor that is about GPUs."""
    unknown = {name: why for name, why in found["unknown"].items() if name.startswith("gpu")}
    cards = nameless(found["gpu"])  # whoever may see totals may hear this
    return {"at": found["at"], "node": found["node"], "gpu": cards, "unknown": unknown}


def _still(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row changes only with the state. A sentence may count seconds, so its codes do."""
    out = (*_MOVING, "sentence", "reasons", "reason_params")
    kept = {name: value for name, value in row.items() if name not in out}
    codes = [reason["code"] for reason in row.get("reasons") or ()]
    return {**kept, "codes": codes}


def _moving(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        name: [row[part] for part in _MOVING]
        for name, row in rows.items()
        if not row["hidden"] and row["phase"] != "stopped"
    }
