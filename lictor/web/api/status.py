"""The status of all services as bytes, made once for all who ask while nothing has changed.

Two hundred askers a second get the same bytes: rows are made again when a state changed or a second
went by (uptime, CPU and memory change without a state changing), and cut to size once for each kind
of reader. What a reader may not know is null in their copy, and `hidden` says so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lictor.web.api.answer import encode
from lictor.web.auth.gate import Person
from lictor.web.auth.rights import Right, Scope
from lictor.web.door import Door

_FRESH = 1.0  # seconds that figures may be old
_CALM = 0.02  # seconds between two passes, however fast states change
_MOST_READERS = 64  # copies that are kept; one for each owner

#: What is shown of a service that is not one's own.
SHOWN = frozenset({"status", "name", "instance", "display_name", "phase", "description"})

Rows = Mapping[str, Mapping[str, Any]]


def reader_of(person: Person) -> str:
    """People who see the same have the same word."""
    scope = person.scope(Right.SERVICES_LIST)
    if scope is Scope.OWN:
        return f"own:{person.name}"
    return scope.value if scope is not None else ""


def cut(row: Mapping[str, Any], reader: str) -> dict[str, Any]:
    """One row as that reader may see it."""
    owner = row.get("owner")
    mine = reader == Scope.ALL or (owner is not None and reader == f"own:{owner.lower()}")
    if mine:
        return {**row, "hidden": False}
    return {**{k: v if k in SHOWN else None for k, v in row.items()}, "hidden": True}


class StatusPages:
    """The rows, and the bytes for each kind of reader."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._stamp: tuple[int, int] | None = None
        self._made = 0.0
        self._page: dict[str, Any] = {}
        self._bytes: dict[str, bytes] = {}

    @property
    def rings(self) -> int:
        """How often the bell had rung when the rows were made; -1 before the first."""
        return self._stamp[0] if self._stamp is not None else -1

    async def page(self) -> dict[str, Any]:
        """Everything, as the operation `services` tells it."""
        now = time.monotonic()
        stamp = (self._door.agent.bell.rings, int(now / _FRESH))
        if stamp != self._stamp and now - self._made >= _CALM:
            # One pass in the loop without a pause: nobody else can come in between.
            page = await self._door.ask("services")
            self._page, self._stamp, self._made = page, stamp, now
            self._bytes.clear()
        return self._page

    async def rows(self, reader: str) -> dict[str, Any]:
        """The page as a kind of reader may see it."""
        page = await self.page()
        services = {name: cut(row, reader) for name, row in page["services"].items()}
        system = dict(page["system"])
        if reader == Scope.NAMES:
            system |= {"total_memory_mb": None, "total_cpu_percent": None}
        return {"services": services, "system": system}

    async def bytes_for(self, person: Person) -> bytes:
        """The same, encoded."""
        reader = reader_of(person)
        await self.page()
        found = self._bytes.get(reader)
        if found is None:
            found = encode(await self.rows(reader))
            if len(self._bytes) >= _MOST_READERS:
                self._bytes.clear()
            self._bytes[reader] = found
        return found
