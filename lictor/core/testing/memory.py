"""A clock that stands still and a memory that is gone with the test: what the agent asks locally."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lictor.core.model.event import Event
from lictor.core.model.reason import Param, Reason


class FakeClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Monotonic seconds."""
        return self._now

    def wall(self) -> float:
        """Unix seconds."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += seconds
        self._wall += seconds

    def set(self, *, now: float | None = None, wall: float | None = None) -> None:
        """Set one clock without the other: a reboot (`now`), a corrected wall clock (`wall`)."""
        self._now = self._now if now is None else now
        self._wall = self._wall if wall is None else wall


class MemoryStore:
    """An agent's memory that is gone with the test; `MemoryStore(old)` is the next agent's."""

    def __init__(self, earlier: MemoryStore | None = None) -> None:
        self.events: list[Event] = [] if earlier is None else earlier.events
        self.reason: Reason | None = None
        self._tables: dict[str, dict[str, str]] = {} if earlier is None else earlier._tables  # noqa: SLF001 - one class

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        """All rows of one table."""
        return {key: json.loads(text) for key, text in self._tables.get(table, {}).items()}

    def save(self, table: str, key: str, row: Mapping[str, object] | None) -> None:
        """Remember (None: forget) a row, which must be plain JSON."""
        rows = self._tables.setdefault(table, {})
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = json.dumps(row)

    def record(
        self,
        *,
        at: float,
        kind: str,
        subject: str,
        reason: Reason,
        who: str,
        data: Mapping[str, Param],
    ) -> None:
        """Append one event to `events`."""
        words = {name: str(value) for name, value in data.items()}
        self.events.append(Event(at, kind, subject, reason, who, words))

    def trouble(self) -> Reason | None:
        """What the test put into `reason`."""
        return self.reason
