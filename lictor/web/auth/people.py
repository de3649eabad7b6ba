"""Users: who they are, and how they change. The truth is in people.db and, for reading, in memory.

Every request looks here whether its person still exists, so a demotion or a deletion counts at once.
The first start makes one admin whose password lies in a file that only the agent's user can read;
there is no default password. The last admin can be neither deleted, disabled nor demoted.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lictor.core.errors import Refused, UsageError
from lictor.core.model.reason import because
from lictor.core.runtime.storage.datadir import write_atomically
from lictor.core.worded import worded
from lictor.web.auth import peopledb
from lictor.web.auth.errors import NoSuchPage
from lictor.web.auth.passwords import Passwords, made_up, outdated
from lictor.web.auth.peopledb import PeopleDb
from lictor.web.auth.records import User
from lictor.web.auth.rights import Role

log = logging.getLogger(__name__)

FIRST_ADMIN = "admin"
PASSWORD_FILE = "admin-password"  # noqa: S105 - a file's name
MAX_USERS = 1_000
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


class People:
    """All users of one agent. `now` is the wall clock in Unix seconds.

    Methods that change something raise `OperationFailed` when the disk does not take it; then
    nothing has changed.
    """

    def __init__(self, db: PeopleDb, data_dir: Path, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._file = data_dir / PASSWORD_FILE
        self._now = now
        self._passwords = Passwords()
        self._users = {user.name: user for user in db.read(lambda c: list(peopledb.users(c)))}

    # --- asking -------------------------------------------------------------------------

    def user(self, name: str) -> User | None:
        """The user of that name, as it was typed."""
        return self._users.get(name.lower())

    def named(self, name: str) -> User:
        """The same; raises `NoSuchPage` for a name that nobody has."""
        user = self.user(name)
        if user is None:
            raise worded(NoSuchPage, because("user.none", name=name[:64]), code="user.unknown")
        return user

    def all(self) -> list[User]:
        """Everybody, by name."""
        return sorted(self._users.values(), key=lambda user: user.name)

    def some_admin(self, preferred: str = "") -> User | None:
        """An enabled admin: the preferred one if it is one, then the first one, then any."""
        admins = {user.name: user for user in self._admins()}
        for name in (preferred.lower(), FIRST_ADMIN, *sorted(admins)):
            if name in admins:
                return admins[name]
        return None

    async def check(self, name: str, password: str) -> User | None:
        """The user, if the password is theirs. Takes as long for a name that nobody has."""
        user = self.user(name)
        right = await self._passwords.check(password, None if user is None else user.hash)
        user = self.user(name)  # it may have changed meanwhile
        if not right or user is None or user.disabled:
            return None
        if outdated(user.hash):
            await self._save(replace(user, hash=await self._passwords.hash(password)))
        return self._users[user.name]

    # --- changing -----------------------------------------------------------------------

    async def first_start(self) -> bool:
        """Make the first admin if there is nobody yet; returns whether it did."""
        if self._users:
            return False
        password = made_up()
        # The file first: an admin whose password nobody can read would lock everybody out.
        write_atomically(self._file, f"{password}\n")
        await self._add(FIRST_ADMIN, Role.ADMIN, password)
        log.info("made the first admin; the password is in %s", self._file)
        return True

    async def create(self, name: str, role: Role, password: str) -> User:
        """Add somebody. Raises `UsageError` for a bad name or password, `Refused` for a taken one."""
        lower = name.lower()
        if not _NAME.fullmatch(lower):
            raise worded(UsageError, because("user.bad_name"), code="user.name")
        self._free(lower)
        if len(self._users) >= MAX_USERS:
            raise worded(Refused, because("user.most", most=MAX_USERS), code="user.too_many")
        return await self._add(lower, role, password)

    async def set_role(self, name: str, role: Role) -> User:
        """Give somebody another role; it counts from their next request on."""
        user = self.named(name)
        if role is not Role.ADMIN:
            self._spare_last_admin(user)
        return await self._save(replace(user, role=role))

    async def set_password(self, name: str, password: str) -> User:
        """Give somebody another password; all their sessions end."""
        user = self.named(name)
        hashed = await self._passwords.hash(password)
        user = self.named(name)
        changed = replace(user, hash=hashed, generation=user.generation + 1, changed=self._now())
        await self._save(changed)
        self._forget_file(changed.name)
        return changed

    async def set_disabled(self, name: str, *, disabled: bool) -> User:
        """Shut somebody out, or let them in again; all their sessions end."""
        user = self.named(name)
        if disabled:
            self._spare_last_admin(user)
        return await self._save(replace(user, disabled=disabled, generation=user.generation + 1))

    async def delete(self, name: str) -> User:
        """Remove somebody with their sessions and tokens."""
        user = self.named(name)
        self._spare_last_admin(user)

        def remove(connection: peopledb.Connection) -> None:
            connection.execute("DELETE FROM users WHERE name = ?", (user.name,))
            connection.execute("DELETE FROM sessions WHERE user = ?", (user.name,))
            connection.execute("DELETE FROM tokens WHERE user = ?", (user.name,))

        await self._db.run(remove)
        self._users.pop(user.name, None)
        self._forget_file(user.name)
        return user

    # --- parts --------------------------------------------------------------------------

    async def _add(self, name: str, role: Role, password: str) -> User:
        hashed = await self._passwords.hash(password)
        self._free(name)  # somebody else may have been quicker
        now = self._now()
        # A name that comes back must not revive what was given to its last owner.
        generation = int(now * 1000)
        user = User(name, role, hashed, created=now, changed=now, generation=generation)
        return await self._save(user)

    async def _save(self, user: User) -> User:
        await self._db.run(lambda connection: peopledb.save_user(connection, user))
        self._users[user.name] = user
        return user

    def _free(self, name: str) -> None:
        if name in self._users:
            raise worded(Refused, because("user.exists", name=name), code="user.taken")

    def _admins(self) -> list[User]:
        return [u for u in self._users.values() if u.role is Role.ADMIN and not u.disabled]

    def _spare_last_admin(self, user: User) -> None:
        if [admin.name for admin in self._admins()] == [user.name]:
            last = because("user.only_admin", user=user.name)
            another = because("next.other_admin")
            raise worded(Refused, last, hint=another, code="user.last_admin")

    def _forget_file(self, name: str) -> None:
        if name == FIRST_ADMIN:
            try:
                self._file.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s could not be deleted: %s", self._file, error)
