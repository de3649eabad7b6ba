"""Opening the agent's SQLite file, whatever has become of it.

Here it is decided whether what lies at the path is ours, somebody else's, or broken, and what to do
then: set it aside under another name (never delete it), or read what can be read of a file that may
not be written. It is here so that the store itself reads as if disks were good. It knows nothing of
what the rows mean.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

#: "Lict", in the file's header (https://www.sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x4C696374

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)
) STRICT;
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    code TEXT NOT NULL, params TEXT NOT NULL, who TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS journal_by_subject ON journal (subject, id);
"""
_COLUMNS = {
    "rows": ("kind", "key", "body"),
    "journal": ("id", "at", "kind", "subject", "code", "params", "who", "data"),
}
_KEEP_ASIDE = 3  # damaged files, the newest: enough to find the cause, too few to fill the disk
_MEMORY = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
_BUSY = 2.0  # seconds to wait for somebody else's lock (a person with a SQLite shell)

# https://www.sqlite.org/rescode.html
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF  # the low byte of an extended result code


class Foreign(sqlite3.DatabaseError):
    """A sound database that is somebody else's, or of a Lictor whose tables we do not know."""


def damaged(error: Exception) -> bool:
    """Whether the file itself is at fault, so that another attempt on it is of no use."""
    if isinstance(error, Foreign):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # SQLITE_ERROR for statements that never change: a table or a column of ours is gone.
    return code & _PRIMARY in _DAMAGE or code == sqlite3.SQLITE_ERROR


@dataclass(slots=True)
class Contents:
    """What was read when the file was opened: rows by kind and key, and the journal's last id."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    last_id: int = 0


def connect(path: Path) -> sqlite3.Connection:
    """Open for writing, made if missing. Raises `sqlite3.Error` (see `damaged`) or `OSError`."""
    with contextlib.suppress(OSError):
        # Made by us: SQLite asks the umask, and gives its write-ahead log the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        _claim(connection)
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _claim(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file; raise `Foreign` if they are not ours."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    # The first version of Lictor did not write its mark.
    if owner not in {0, APPLICATION_ID} or (owner == 0 and tables and "rows" not in tables):
        raise Foreign("the database belongs to another program")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(_SCHEMA)
    for table, wanted in _COLUMNS.items():
        columns = tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        if columns != wanted:
            raise Foreign(f"the table {table} has other columns than ours")
    if owner != APPLICATION_ID:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")


def read_only(path: Path) -> sqlite3.Connection:
    """Open without any right to write. Raises `sqlite3.Error` when there is nothing to read."""
    try:
        return _reader(path, "mode=ro")
    except sqlite3.Error:
        # A folder where nothing can be made has no room for the WAL's index: read past it.
        return _reader(path, "mode=ro&immutable=1")


def _reader(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=_BUSY, check_same_thread=False
    )
    try:
        connection.execute("SELECT 1 FROM rows LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def contents(connection: sqlite3.Connection) -> Contents:
    """Everything that the agent begins with. Raises `sqlite3.Error`."""
    found = Contents()
    _read_rows(connection, found)
    last = connection.execute("SELECT max(id) FROM journal").fetchone()[0]
    found.last_id = int(last or 0)
    return found


def salvage(path: Path) -> Contents:
    """What can still be read of a file; rows up to the first damaged page. Raises nothing."""
    found = Contents()
    try:
        with contextlib.closing(_reader(path, "mode=ro")) as old:
            _read_rows(old, found)
    except (sqlite3.Error, OSError) as error:
        if not damaged(error) and _read_copy(path, found):
            return found
        how = "mode=ro&immutable=1"
        with (
            contextlib.suppress(sqlite3.Error, OSError),
            contextlib.closing(_reader(path, how)) as old,
        ):
            _read_rows(old, found)
    return found


def _read_copy(path: Path, into: Contents) -> bool:
    """Read a copy in memory, with its write-ahead log; False if that cannot be done.

    Where the disk is full or may not be written there is no room for the index of the log, and the
    log has the last words of an agent that was killed: without it, a hold would be forgotten.
    """
    try:
        memory = _MEMORY if Path(_MEMORY).is_dir() else None
        with tempfile.TemporaryDirectory(prefix="lictor-", dir=memory) as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(f"{path.name}-wal"), f"{copy}-wal")
            with contextlib.closing(_reader(copy, "mode=rw")) as old:
                _read_rows(old, into)
    except (sqlite3.Error, OSError):
        return False
    return True


def _read_rows(connection: sqlite3.Connection, into: Contents) -> None:
    for kind, key, body in connection.execute("SELECT kind, key, body FROM rows"):
        if isinstance(kind, str) and isinstance(key, str) and isinstance(body, str):
            into.rows.setdefault(kind, {})[key] = body


def set_aside(path: Path) -> str:
    """Give a file that we cannot use another name; returns it. Raises `OSError`.

    The write-ahead log goes with it: a person who repairs the file needs both.
    """
    name = f"{path.name}.damaged-{time.time_ns() // 1_000_000}"
    path.rename(path.with_name(name))
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(name + suffix))
    older = [
        one
        for one in path.parent.glob(f"{path.name}.damaged-*")
        if not one.name.endswith(("-wal", "-shm"))
    ]
    for old in sorted(older)[:-_KEEP_ASIDE]:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                old.with_name(old.name + suffix).unlink()
    return name
