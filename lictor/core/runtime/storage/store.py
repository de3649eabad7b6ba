"""The agent's memory: one SQLite file (WAL) with current rows and the journal.

All writing happens in one thread, in order, so that a slow or full disk never delays a restart. The
rows also live in memory: a database that is damaged, foreign, deleted or read-only is set aside or
waited for, and written whole as soon as that is possible; it is never fatal, and never read as
"nothing should run". What is lost when the power goes is at most the last moments of the journal:
processes are recognised by their own marks as well.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from lictor.core.model.reason import Param, Reason, because
from lictor.core.runtime.storage import database
from lictor.core.runtime.storage.journal import JournalLine, JournalQuery, select

log = logging.getLogger(__name__)

_INSERT_LINE = "INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SAVE_ROW = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)"
_DELETE_ROW = "DELETE FROM rows WHERE kind = ? AND key = ?"
_TRIM = "DELETE FROM journal WHERE id < (SELECT id FROM journal ORDER BY id DESC LIMIT 1 OFFSET ?)"
_KEEP_LINES = 20_000  # of the journal, on disk
_TRIM_EVERY = 2_000  # lines
_RECENT = 1_000  # lines in memory, for those who follow
_UNSAVED = 10_000  # lines that may wait for a disk; more of them are counted as lost
_BATCH = 1_000  # lines in one transaction
_RETRY = 1.0  # seconds between two tries on a disk that does not take it
_LINGER = 0.01  # seconds in which a burst gathers: a start of 200 is a few transactions
_MAX_ASIDE = 3  # files set aside in one life; then the disk is to blame, not the file
#: Tables whose rows are worth a wait for the platter (https://www.sqlite.org/pragma.html#pragma_synchronous).
_PRECIOUS = frozenset({"holds", "pending", "switches"})

_RowKey = tuple[str, str]


class SqliteStore:
    """A `Store` in `data_dir/state.db`.

    All methods may be called from any thread and return at once, but for `events` and `close`.
    """

    def __init__(self, path: Path, *, retry: float = _RETRY) -> None:
        self._path = path
        self._retry = retry
        self._lock = threading.Condition()
        self._unsaved: dict[_RowKey, str | None] = {}
        self._lines: deque[JournalLine] = deque()
        self._recent: deque[JournalLine] = deque(maxlen=_RECENT)
        self._lost = 0
        self._barriers: list[Future[bool]] = []
        self._listeners: set[Callable[[JournalLine], None]] = set()
        self._unwritable: Reason | None = None
        self._aside: Reason | None = None
        self._asides = 0
        self._untrimmed = _TRIM_EVERY  # many short lives must not let it grow either
        self._closing = False
        self._idle = False
        self._file: tuple[int, int] | None = None
        self._writer: sqlite3.Connection | None = None
        begun = self._begin()
        self._rows = begun.rows
        self._last_id = begun.last_id
        self._thread = threading.Thread(target=self._write_all, name="lictor-store", daemon=True)
        self._thread.start()

    # --- rows ---------------------------------------------------------------------------

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        """All rows of one table; a row that is not a JSON object is left out and logged."""
        with self._lock:
            found = dict(self._rows.get(table, {}))
        rows: dict[str, Mapping[str, object]] = {}
        for key, body in found.items():
            try:
                value = json.loads(body)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                rows[key] = value
            else:
                log.warning("state row ignored", extra={"table": table, "key": key})
        return rows

    def save(self, table: str, key: str, row: Mapping[str, object] | None) -> None:
        """Remember (None: forget) a row, now in memory and soon on disk."""
        body = None if row is None else json.dumps(row, separators=(",", ":"))
        with self._lock:
            rows = self._rows.setdefault(table, {})
            if body is None:
                rows.pop(key, None)
            else:
                rows[key] = body
            self._unsaved[table, key] = body
            self._wake_writer()

    def flushed(self) -> Future[bool]:
        """Done when all that was saved before is on disk (True), or the disk refused it (False)."""
        future: Future[bool] = Future()
        with self._lock:
            if self._closing:
                future.set_result(False)
                return future
            self._barriers.append(future)
            self._lock.notify_all()
        return future

    # --- journal ------------------------------------------------------------------------

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
        """Append one line to the journal; who listens hears of it in this thread."""
        with self._lock:
            # Near the time, so that ids go on rising even after a database that was lost.
            self._last_id = max(self._last_id + 1, time.time_ns() // 1_000_000)
            line = JournalLine(self._last_id, at, kind, subject, reason, who, dict(data))
            self._recent.append(line)
            self._lines.append(line)
            if len(self._lines) > _UNSAVED:
                self._lines.popleft()
                self._lost += 1
            self._wake_writer()
            listeners = list(self._listeners)
        for hear in listeners:
            hear(line)

    def listen(self, hear: Callable[[JournalLine], None]) -> Callable[[], None]:
        """Call `hear` with every new line, until the function that is returned is called."""
        with self._lock:
            self._listeners.add(hear)

        def stop() -> None:
            with self._lock:
                self._listeners.discard(hear)

        return stop

    def events(self, query: JournalQuery) -> list[JournalLine]:
        """The newest lines that fit, newest first; blocks on the disk (call it in a thread).

        Lines that are not on disk yet are there too. A database that cannot be read gives the lines
        that are in memory; `trouble` says why.
        """
        with self._lock:
            # What waits for a disk is more than what is recent only when the disk is in trouble.
            memory = {line.id: line for line in (*self._lines, *self._recent)}
        found = {line.id: line for line in memory.values() if query.fits(line)}
        if len(found) < query.limit:
            try:
                reader = database.read_only(self._path)
            except sqlite3.Error as error:
                log.warning("journal cannot be opened: %s", error)
            else:
                try:
                    found |= {line.id: line for line in select(reader, query)}
                except sqlite3.Error as error:
                    log.warning("journal cannot be read: %s", error)
                finally:
                    reader.close()
        newest = sorted(found, reverse=True)
        return [found[number] for number in newest[: query.limit]]

    # --- trouble ------------------------------------------------------------------------

    def trouble(self) -> Reason | None:
        """What is wrong with the disk at present, or what was found broken when it was opened."""
        return self._unwritable or self._aside

    def close(self) -> None:
        """Write what is queued, and close. Takes at most a few seconds on a hanging disk."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join(timeout=5)

    def _begin(self) -> database.Contents:
        """Open the file and read all rows, as far as it lets us."""
        try:
            return self._open()[1]
        except (sqlite3.Error, OSError) as error:
            if not database.damaged(error):
                self._refused(error)
                return database.salvage(self._path)
            kept = database.salvage(self._path)
            self._set_aside(error)
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._refused(error)
        for kind, rows in kept.rows.items():
            self._unsaved.update({(kind, key): body for key, body in rows.items()})
        return kept

    def _open(self) -> tuple[sqlite3.Connection, database.Contents]:
        writer = database.connect(self._path)
        try:
            found = database.contents(writer)
            place = self._path.stat()
        except BaseException:
            writer.close()
            raise
        self._writer, self._file = writer, (place.st_dev, place.st_ino)
        return writer, found

    def _set_aside(self, error: Exception) -> None:
        self._drop_writer()
        self._asides += 1
        try:
            name = database.set_aside(self._path)
        except OSError as why:
            self._refused(why)
            return
        log.error("state database set aside as %s: %s", name, error)
        self._aside = because("store.set_aside", file=name, error=str(error))

    def _refused(self, error: Exception) -> None:
        if self._unwritable is None:
            log.error("state cannot be written: %s", error)
        self._unwritable = because("store.unwritable", error=str(error))

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # --- the writer's thread ------------------------------------------------------------

    def _wake_writer(self) -> None:
        """With the lock held. One that gathers or writes looks again by itself."""
        if self._idle:
            self._lock.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._lock:
                self._idle = True
                self._lock.wait_for(lambda: self._waiting() or self._closing)
                self._idle = False
                self._lock.wait_for(lambda: self._barriers or self._closing, timeout=_LINGER)
                ending = self._closing
                rows, self._unsaved = self._unsaved, {}
                lines = [self._lines.popleft() for _ in range(min(_BATCH, len(self._lines)))]
                more, barriers = bool(self._lines), []
                if not more:
                    barriers, self._barriers = self._barriers, []
            done = not (rows or lines) or self._written(rows, lines)
            if not done:
                self._put_back(rows, lines)
            for barrier in barriers:
                barrier.set_result(done)
            if ending and (not done or not self._waiting()):
                break
            if not done:
                with self._lock:
                    self._lock.wait_for(lambda: self._closing, timeout=self._retry)
        with self._lock:
            left, self._barriers = self._barriers, []
        for barrier in left:
            barrier.set_result(False)
        self._drop_writer()

    def _waiting(self) -> bool:
        return bool(self._unsaved or self._lines or self._barriers)

    def _put_back(self, rows: dict[_RowKey, str | None], lines: list[JournalLine]) -> None:
        with self._lock:
            self._unsaved = {**rows, **self._unsaved}
            room = max(0, _UNSAVED - len(self._lines))
            self._lost += max(0, len(lines) - room)
            self._lines.extendleft(reversed(lines[len(lines) - min(room, len(lines)) :]))

    def _written(self, rows: dict[_RowKey, str | None], lines: list[JournalLine]) -> bool:
        for _ in range(2):
            try:
                writer, rows = self._reopened(rows)
                _transact(writer, rows, lines)
                self._trim(writer, len(lines))
            except (sqlite3.Error, OSError) as error:
                if not database.damaged(error) or self._asides >= _MAX_ASIDE:
                    self._drop_writer()
                    self._refused(error)
                    return False
                self._set_aside(error)
            else:
                self._fine_again()
                return True
        return False

    def _reopened(
        self, rows: dict[_RowKey, str | None]
    ) -> tuple[sqlite3.Connection, dict[_RowKey, str | None]]:
        """Make sure that the file that we write to is the one at the path; what to write to it."""
        if self._writer is not None:
            try:
                place = os.stat(self._path)  # noqa: PTH116 - asked before each transaction
            except FileNotFoundError:
                place = None
            if place is not None and (place.st_dev, place.st_ino) == self._file:
                return self._writer, rows
            log.error("the state database was taken away; it is written anew")
            self._drop_writer()
        writer, _ = self._open()
        with self._lock:
            whole = {(k, key): body for k, one in self._rows.items() for key, body in one.items()}
        return writer, {**whole, **rows}

    def _trim(self, writer: sqlite3.Connection, count: int) -> None:
        self._untrimmed += count
        if self._untrimmed >= _TRIM_EVERY:
            self._untrimmed = 0
            writer.execute(_TRIM, (_KEEP_LINES - 1,))

    def _fine_again(self) -> None:
        if self._unwritable is None:
            return
        self._unwritable = None
        log.info("state can be written again")
        with self._lock:
            lost, self._lost = self._lost, 0
        again = because("store.writable_again", lost=lost)
        self.record(at=time.time(), kind="store", subject="", reason=again, who="lictor", data={})


def _transact(
    writer: sqlite3.Connection, rows: dict[_RowKey, str | None], lines: list[JournalLine]
) -> None:
    precious = any(table in _PRECIOUS for table, _ in rows)
    if precious:
        writer.execute("PRAGMA synchronous=FULL")
    try:
        writer.execute("BEGIN IMMEDIATE")
        gone = [place for place, body in rows.items() if body is None]
        kept = [(*place, body) for place, body in rows.items() if body is not None]
        writer.executemany(_DELETE_ROW, gone)
        writer.executemany(_SAVE_ROW, kept)
        writer.executemany(_INSERT_LINE, [line.columns() for line in lines])
        writer.execute("COMMIT")
    finally:
        if writer.in_transaction:
            writer.rollback()
        if precious:
            writer.execute("PRAGMA synchronous=NORMAL")
