"""The journal as it is asked for: which lines, and how a line is shown.

Who did what, why, and what came of it: each line holds a reason code with parameters, so that every
reader gets it in their own language. Lines are only ever appended (by the store) and trimmed by
age; nothing here changes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from lictor.core.locales import render
from lictor.core.model.reason import Param, Reason

if TYPE_CHECKING:
    from lictor.core.runtime.control import Emit
    from lictor.core.runtime.storage.store import SqliteStore

#: What a line can be about.
KINDS = (
    *("access", "agent", "config", "consul", "desired", "gpu", "group", "hold", "model"),
    *("outcome", "phase", "store"),
    "verb",
)

MAX_LINES = 1_000  # of one answer
_COLUMNS = "id, at, kind, subject, code, params, who, data"
_BEHIND = 1_000  # lines that a slow follower may lag behind before the oldest are dropped


class JournalLine(NamedTuple):
    """One line. `id` rises; `at` is Unix seconds; `subject` a service key or ""."""

    id: int
    at: float
    kind: str
    subject: str
    reason: Reason
    who: str
    data: Mapping[str, Param]

    def columns(self) -> tuple[object, ...]:
        """The line as a row of the table `journal`."""
        params, data = json.dumps(dict(self.reason.params)), json.dumps(dict(self.data))
        return (
            *(self.id, self.at, self.kind, self.subject),
            *(self.reason.code, params, self.who, data),
        )


@dataclass(frozen=True, slots=True)
class JournalQuery:
    """Which lines. `subjects`: these services, `piper` with all its instances (empty: all).

    `since` is Unix seconds; `before` an id, for the page before; `after` an id, for those that have
    read so far; `limit` at most `MAX_LINES`.
    """

    subjects: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since: float | None = None
    before: int | None = None
    after: int | None = None
    limit: int = 100
    _instances: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        whole = tuple(f"{name}@" for name in self.subjects if "@" not in name)
        object.__setattr__(self, "_instances", whole)

    def fits(self, line: JournalLine) -> bool:
        """Whether a line is asked for."""
        return (
            (not self.subjects or self._about(line.subject))
            and (not self.kinds or line.kind in self.kinds)
            and (self.since is None or line.at >= self.since)
            and (self.before is None or line.id < self.before)
            and (self.after is None or line.id > self.after)
        )

    def _about(self, subject: str) -> bool:
        return subject in self.subjects or subject.startswith(self._instances or ("\0",))

    def where(self) -> tuple[str, list[object]]:
        """The same as SQL: a condition and its values."""
        parts: list[str] = ["1"]
        values: list[object] = []
        if self.subjects:
            names = [f"subject IN ({_marks(self.subjects)})"]
            values += self.subjects
            for start in self._instances:
                # A range, which the index can answer; "A" follows "@" in ASCII.
                names.append("(subject >= ? AND subject < ?)")
                values += (start, start[:-1] + "A")
            parts.append(f"({' OR '.join(names)})")
        if self.kinds:
            parts.append(f"kind IN ({_marks(self.kinds)})")
            values += self.kinds
        tests = (("at >= ?", self.since), ("id < ?", self.before), ("id > ?", self.after))
        for test, value in tests:
            if value is not None:
                parts.append(test)
                values.append(value)
        return " AND ".join(parts), values


def select(reader: sqlite3.Connection, query: JournalQuery) -> Iterator[JournalLine]:
    """The newest lines that fit, newest first. A line that is none of ours is left out."""
    where, values = query.where()
    # Only question marks and names of columns are put together here.
    asked = f"SELECT {_COLUMNS} FROM journal WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
    rows = reader.execute(asked, (*values, query.limit))
    for number, at, kind, subject, code, params, who, data in rows:
        try:
            reason, more = Reason(str(code), dict(json.loads(params))), dict(json.loads(data))
        except (ValueError, TypeError):
            continue
        yield JournalLine(number, at, kind, subject, reason, who, more)


def shown(line: JournalLine) -> dict[str, Any]:
    """A line as it is sent: the sentence in English, its code beside it."""
    at = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
    return {
        "id": line.id,
        "at": at.replace("+00:00", "Z"),
        "kind": line.kind,
        "service": line.subject or None,
        "who": line.who,
        "phase": line.data.get("phase"),
        "outcome": line.data.get("outcome"),
        "sentence": render(line.reason.code, line.reason.params),
        "reason": line.reason.code,
        "reason_params": dict(line.reason.params),
    }


async def stream_events(
    store: SqliteStore, query: JournalQuery, *, follow: bool, emit: Emit
) -> dict[str, Any]:
    """Emit the lines that fit, oldest first, then (`follow`) each new one, for ever.

    Returns whether there are more before them, and the id with which to ask for those.
    """
    fresh: asyncio.Queue[JournalLine] = asyncio.Queue()
    stop = _listen(store, query, fresh) if follow else None
    try:
        lines = await asyncio.to_thread(store.events, query)
        for line in reversed(lines):
            await emit(shown(line))
        last = lines[0].id if lines else 0
        while follow:
            line = await fresh.get()
            if line.id > last:  # not one that was both read and heard of
                await emit(shown(line))
    finally:
        if stop is not None:
            stop()
    full = len(lines) == query.limit and bool(lines)
    return {"count": len(lines), "more": full, "next": lines[-1].id if full else None}


def _listen(
    store: SqliteStore, query: JournalQuery, fresh: asyncio.Queue[JournalLine]
) -> Callable[[], None]:
    loop = asyncio.get_running_loop()

    def put(line: JournalLine) -> None:
        if fresh.qsize() >= _BEHIND:
            fresh.get_nowait()
        fresh.put_nowait(line)

    def hear(line: JournalLine) -> None:
        if query.fits(line):
            # The store's own thread records as well, until the very end of the loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(put, line)

    return store.listen(hear)


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))
