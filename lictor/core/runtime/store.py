"""The agent's memory: one SQLite file (WAL) with current rows and the journal.

All writing happens in one thread, in order, so that a slow or full disk never delays a restart; a
database that is damaged or foreign is set aside and reported, never fatal, and never read as
"nothing should run". What is lost when the power goes is at most the last moments of the journal:
processes are recognised by their own marks as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lictor.core.model.reason import Param, Reason, because

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)
) STRICT;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    code TEXT NOT NULL, params TEXT NOT NULL, who TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
"""
_INSERT_EVENT = (
    "INSERT INTO journal (at, kind, subject, code, params, who, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_KEEP_EVENTS = 20_000

_Job = tuple[str, tuple[object, ...]] | None


class SqliteStore:
    """A `Store` in `data_dir/state.db`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._trouble: Reason | None = None
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._reader = self._open()
        self._thread = threading.Thread(target=self._write_all, name="lictor-store", daemon=True)
        self._thread.start()

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        """All rows of one table; a row that is not JSON is left out and logged."""
        rows: dict[str, Mapping[str, object]] = {}
        if self._reader is None:
            return rows
        try:
            found = self._reader.execute("SELECT key, body FROM rows WHERE kind = ?", (table,))
            for key, body in found.fetchall():
                try:
                    value = json.loads(body)
                except ValueError:
                    log.warning("state row set aside", extra={"table": table, "key": key})
                    continue
                if isinstance(value, dict):
                    rows[key] = value
        except sqlite3.Error as error:
            self._broken(error)
        return rows

    def save(self, table: str, key: str, row: Mapping[str, object] | None) -> None:
        """Queue a write."""
        if row is None:
            self._jobs.put(("DELETE FROM rows WHERE kind = ? AND key = ?", (table, key)))
            return
        body = json.dumps(row, separators=(",", ":"))
        self._jobs.put(("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (table, key, body)))

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
        """Queue one line of the journal."""
        values = (at, kind, subject, reason.code, json.dumps(dict(reason.params)), who)
        self._jobs.put(
            (
                _INSERT_EVENT,
                (*values, json.dumps(dict(data))),
            )
        )

    def trouble(self) -> Reason | None:
        """What is wrong with the disk at present."""
        return self._trouble

    def close(self) -> None:
        """Write what is queued, and close. Takes at most a few seconds on a hanging disk."""
        self._jobs.put(None)
        self._thread.join(timeout=5)
        if self._reader is not None:
            self._reader.close()

    def _open(self) -> sqlite3.Connection | None:
        for attempt in range(2):
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if (
                    attempt
                    or not self._path.exists()
                    or isinstance(error, sqlite3.OperationalError)
                ):
                    self._broken(error)
                    return None
                aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
                log.warning("state database set aside", extra={"error": str(error)})
                with contextlib.suppress(OSError):
                    self._path.rename(aside)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._trouble = because("store.set_aside", file=aside.name)
        return None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        self._path.chmod(0o600)
        return connection

    def _write_all(self) -> None:
        writer: sqlite3.Connection | None = None
        count = 0
        while True:
            batch = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < 500:
                    batch.append(self._jobs.get_nowait())
            work = [job for job in batch if job is not None]
            try:
                if writer is None and self._reader is not None:
                    writer = self._connect()
                if writer is not None and work:
                    self._write_batch(writer, work)
                    count += len(work)
                    if count > 5_000:
                        count = 0
                        writer.execute(
                            "DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?",
                            (_KEEP_EVENTS,),
                        )
            except (sqlite3.Error, OSError) as error:
                self._broken(error)
                if writer is not None:
                    writer.close()
                    writer = None
            if len(work) < len(batch):
                if writer is not None:
                    writer.close()
                return

    def _write_batch(
        self, writer: sqlite3.Connection, work: list[tuple[str, tuple[object, ...]]]
    ) -> None:
        writer.execute("BEGIN")
        try:
            for statement, values in work:
                writer.execute(statement, values)
            writer.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                writer.execute("ROLLBACK")
            raise
        if self._trouble is not None and self._trouble.code == "store.unwritable":
            log.info("state can be written again")
            self._trouble = None

    def _broken(self, error: Exception) -> None:
        if self._trouble is None or self._trouble.code != "store.unwritable":
            log.error("state cannot be written: %s", error)
        self._trouble = because("store.unwritable", error=str(error))
