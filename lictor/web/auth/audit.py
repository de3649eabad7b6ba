"""The audit log: who did what, from where, and what came of it. Lines are only added, and trimmed.

Each line also goes into the agent's journal, so that it stands in order with what it caused. It is
kept for a year and up to a hundred thousand lines, the newest. It holds no body of any request: only
the names that an action was about.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lictor.web.auth.peopledb import PeopleDb
from lictor.web.auth.records import AuditLine

KEEP_SECONDS = 365 * 86_400.0
KEEP_LINES = 100_000
MAX_LINES = 1_000  # of one answer
OUTCOMES = ("ok", "denied", "refused", "failed")

_TRIM_EVERY = 1_000  # lines
_COLUMNS = (
    *("id", "at", "who", "role", "via", "remote"),
    *("action", "target", "outcome", "status", "detail"),
)
_LONGEST = 300  # characters of one field


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which lines; empty means any. `action`, `target` and `search` are found as parts of a text.

    `since` and `until` are Unix seconds; `before` is an id, for the page before.
    """

    who: str = ""
    action: str = ""
    target: str = ""
    outcome: str = ""
    search: str = ""
    since: float | None = None
    until: float | None = None
    before: int | None = None
    limit: int = 100

    def where(self) -> tuple[str, list[object]]:
        """As SQL: a condition and its values."""
        parts, values = ["1"], list[object]()
        exact = (("who = ?", self.who), ("outcome = ?", self.outcome))
        contained = (("instr(action, ?)", self.action), ("instr(target, ?)", self.target))
        ranges = (("at >= ?", self.since), ("at <= ?", self.until), ("id < ?", self.before))
        for condition, value in (*exact, *contained):
            if value:
                parts.append(condition)
                values.append(value)
        for condition, number in ranges:
            if number is not None:
                parts.append(condition)
                values.append(number)
        if self.search:
            text = "who || ' ' || action || ' ' || target || ' ' || remote || ' ' || detail"
            parts.append(f"instr(lower({text}), lower(?))")
            values.append(self.search)
        return " AND ".join(parts), values


class Audit:
    """The log of one agent. `journal` is told each line as well."""

    def __init__(
        self,
        db: PeopleDb,
        journal: Callable[[AuditLine], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._journal = journal
        self._now = now
        self._untrimmed = _TRIM_EVERY  # many short lives must not let it grow either

    def note(self, line: AuditLine) -> None:
        """Add a line; returns at once. Long or unprintable texts are cut and escaped."""
        line = replace(
            line,
            who=_plain(line.who),
            action=_plain(line.action),
            target=_plain(line.target),
            detail=_plain(line.detail),
        )
        self._db.soon(lambda connection: _insert(connection, line))
        if self._journal is not None:
            self._journal(line)
        self._untrimmed += 1
        if self._untrimmed >= _TRIM_EVERY:
            self._untrimmed = 0
            self._db.soon(self._trim)

    async def lines(self, query: AuditQuery) -> list[AuditLine]:
        """The lines that fit, the newest first; at most `MAX_LINES`."""
        limit = max(1, min(MAX_LINES, query.limit))
        return await self._db.run(lambda connection: list(_select(connection, query, limit)))

    async def cleanup(self, older_than: float) -> int:
        """Delete what is older than so many seconds; returns how many lines went."""
        end = self._now() - older_than
        return await self._db.run(
            lambda c: c.execute("DELETE FROM audit WHERE at < ?", (end,)).rowcount
        )

    def _trim(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM audit WHERE at < ?", (self._now() - KEEP_SECONDS,))
        connection.execute(
            "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (KEEP_LINES,)
        )


def as_json_lines(lines: list[AuditLine]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(line.plain(), ensure_ascii=False) + "\n" for line in lines)


def as_csv(lines: list[AuditLine], *, heading: bool = True) -> str:
    """CSV (RFC 4180). A text that a spreadsheet would take for a formula gets a `'` before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    if heading:
        writer.writerow(_COLUMNS)
    for line in lines:
        plain = line.plain()
        writer.writerow([_unformula(plain[name]) for name in _COLUMNS])
    return out.getvalue()


def _unformula(value: object) -> object:
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return value


def _insert(connection: sqlite3.Connection, line: AuditLine) -> None:
    plain = line.plain()
    names = _COLUMNS[1:]
    marks = ", ".join("?" * len(names))
    connection.execute(
        f"INSERT INTO audit ({', '.join(names)}) VALUES ({marks})",  # noqa: S608 - our own names
        [plain[name] for name in names],
    )


def _select(connection: sqlite3.Connection, query: AuditQuery, limit: int) -> Iterator[AuditLine]:
    where, values = query.where()
    statement = f"SELECT {', '.join(_COLUMNS)} FROM audit WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - values are bound
    for row in connection.execute(statement, [*values, limit]):
        yield AuditLine(**dict(zip(_COLUMNS, row, strict=True)))


def _plain(text: str) -> str:
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)
