"""people.db: the SQLite file with users, sessions, API tokens and the audit log.

Its own file (0600) beside the agent's memory, so that a copy of one does not carry the other. The
agent is its only writer, through one thread, so nothing here blocks the event loop; what is asked
on each request is held in memory by `people`. A file that is damaged is set aside and a new one
begun (the caller then makes a new admin): a broken disk must not lock its owner out, and must not
let anybody in either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import because
from lictor.core.runtime.storage.database import Foreign, damaged, set_aside
from lictor.core.worded import worded
from lictor.web.auth.records import ApiToken, Session, User
from lictor.web.auth.rights import Right, Role

log = logging.getLogger(__name__)

T = TypeVar("T")

Connection = sqlite3.Connection

#: "Lipe": https://www.sqlite.org/pragma.html#pragma_application_id
APPLICATION_ID = 0x4C697065

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL, created REAL NOT NULL,
    changed REAL NOT NULL, disabled INTEGER NOT NULL, generation INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, user TEXT NOT NULL, generation INTEGER NOT NULL, created REAL NOT NULL,
    renewed REAL NOT NULL, expires REAL NOT NULL, renewal TEXT NOT NULL, previous TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, user TEXT, role TEXT, only_rights TEXT,
    digest TEXT NOT NULL, created REAL NOT NULL, expires REAL, used REAL
) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
    via TEXT NOT NULL, remote TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
    outcome TEXT NOT NULL, status INTEGER NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS audit_by_time ON audit (at);
CREATE INDEX IF NOT EXISTS audit_by_who ON audit (who, id);
"""


class PeopleDb:
    """The open file. `run` does one piece of work in a transaction, in the file's own thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises `OperationFailed` when there is no way to keep anything."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lictor-people")
        #: The name under which a damaged file was set aside, or None.
        self.aside: str | None = None
        try:
            self._connection = self._open(path)
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            unusable = because("people.unusable", path=str(path), error=str(error))
            raise worded(OperationFailed, unusable, code="people.unusable") from error

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            return _connect(path)
        except sqlite3.Error as error:
            if not damaged(error):
                raise
            self.aside = set_aside(path)
            log.exception("people.db was damaged; it is now %s, and a new one is begun", self.aside)
            return _connect(path)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` as one transaction; raises `OperationFailed` when the disk does not take it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    def soon(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do `work` later; a failure is only logged. For what nobody waits for."""

        def quietly() -> None:
            try:
                self._do(work)
            except OperationFailed as error:
                log.warning("%s", error)

        with contextlib.suppress(RuntimeError):  # the file was closed: the agent ends
            self._thread.submit(quietly)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                found = work(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            unwritten = because("people.unwritten", error=str(error))
            raise worded(OperationFailed, unwritten, code="people.unwritten") from error
        return found

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read at the start, before there is a loop to wait in."""
        return self._thread.submit(work, self._connection).result()

    def close(self) -> None:
        """Finish what was asked, and close."""
        self._thread.shutdown(wait=True)
        self._connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    # Made by us first: SQLite would ask the umask, and its WAL takes the mode of the file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if owner != APPLICATION_ID and tables:
            raise Foreign(
                "the file belongs to another program"
            )  # it is set aside, never overwritten
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a password that was changed stays changed
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for table in ("users", "sessions", "tokens"):
            connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
    except BaseException:
        connection.close()
        raise
    return connection


# --- rows ------------------------------------------------------------------------------------


def users(connection: sqlite3.Connection) -> Iterator[User]:
    """Every user; a row with a role that this version does not know is left out (deny)."""
    columns = "name, role, hash, created, changed, disabled, generation"
    for row in connection.execute(f"SELECT {columns} FROM users ORDER BY name"):  # noqa: S608
        if row[1] in set(Role):
            yield User(row[0], Role(row[1]), row[2], row[3], row[4], bool(row[5]), row[6])


def save_user(connection: sqlite3.Connection, user: User) -> None:
    """Write or replace one user."""
    connection.execute(
        "INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(user.name, user.role.value, user.hash, user.created, user.changed),
            *(int(user.disabled), user.generation),
        ),
    )


def sessions(connection: sqlite3.Connection) -> Iterator[Session]:
    """Every session, the oldest first."""
    columns = "id, user, generation, created, renewed, expires, renewal, previous"
    for row in connection.execute(f"SELECT {columns} FROM sessions ORDER BY created"):  # noqa: S608
        yield Session(*row)


def save_session(connection: sqlite3.Connection, session: Session) -> None:
    """Write or replace one session."""
    connection.execute(
        "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(session.id, session.user, session.generation, session.created),
            *(session.renewed, session.expires, session.renewal, session.previous),
        ),
    )


def tokens(connection: sqlite3.Connection) -> Iterator[ApiToken]:
    """Every API token; one with a role or rights that this version does not know is left out."""
    columns = "id, name, user, role, only_rights, digest, created, expires, used"
    for row in connection.execute(f"SELECT {columns} FROM tokens ORDER BY created"):  # noqa: S608
        only = None if row[4] is None else json.loads(row[4])
        if (row[3] is not None and row[3] not in set(Role)) or not set(only or ()) <= set(Right):
            continue
        yield ApiToken(
            id=row[0],
            name=row[1],
            user=row[2],
            role=None if row[3] is None else Role(row[3]),
            only=None if only is None else frozenset(Right(right) for right in only),
            digest=row[5],
            created=row[6],
            expires=row[7],
            used=row[8],
        )


def save_token(connection: sqlite3.Connection, token: ApiToken) -> None:
    """Write or replace one API token."""
    only = None if token.only is None else json.dumps(sorted(right.value for right in token.only))
    role = None if token.role is None else token.role.value
    connection.execute(
        "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(token.id, token.name, token.user, role, only),
            *(token.digest, token.created, token.expires, token.used),
        ),
    )
