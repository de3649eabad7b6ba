"""API tokens: credentials of programs, shown once and kept only as a digest.

A token acts as a user (and ends with them) or alone in a role, may be limited to a few rights and
to a time, and is revoked by its name. Its text begins with `lictor_`, so that people and scanners
recognise it. Its 256 random bits need no slow hash; comparing takes the same time for every guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from lictor.core.errors import Refused, UsageError
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth import peopledb
from lictor.web.auth.errors import NoSuchPage, NotSignedIn
from lictor.web.auth.people import People
from lictor.web.auth.peopledb import PeopleDb
from lictor.web.auth.records import ApiToken
from lictor.web.auth.rights import Right, Role

PREFIX = "lictor_"
MAX_TOKENS = 1_000
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_SHAPE = re.compile(r"lictor_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOTE_USE = 600.0  # seconds between two writes of `used`


class Tokens:
    """All API tokens of one agent."""

    def __init__(self, db: PeopleDb, people: People, now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._people = people
        self._now = now
        self._tokens = {one.id: one for one in db.read(lambda c: list(peopledb.tokens(c)))}

    def all(self) -> list[ApiToken]:
        """Every token that still counts for something, the oldest first."""
        return sorted(
            (token for token in self._tokens.values() if self._stands(token)),
            key=lambda token: token.created,
        )

    async def create(
        self,
        name: str,
        *,
        user: str | None,
        role: Role | None,
        only: Iterable[Right] | None = None,
        lasts: float | None = None,
    ) -> tuple[ApiToken, str]:
        """A new token and its text, which is never shown again. `lasts` is in seconds.

        Raises `UsageError` for a bad name, `Refused` for a taken one, `NoSuchPage` for no such user.
        """
        if not _NAME.fullmatch(name):
            raise worded(UsageError, because("token.bad_name"), code="token.name")
        if (user is None) == (role is None):
            raise worded(UsageError, because("token.for_or_role"), code="token.for")
        if lasts is not None and lasts <= 0:
            raise worded(UsageError, because("token.no_time"), code="token.lasts")
        owner = None if user is None else self._people.named(user).name
        await self._forget_dead()
        if any(token.name == name for token in self._tokens.values()):
            raise worded(Refused, because("token.exists", name=name), code="token.taken")
        if len(self._tokens) >= MAX_TOKENS:
            raise worded(Refused, because("token.most", most=MAX_TOKENS), code="token.too_many")
        secret = secrets.token_urlsafe(32)
        now = self._now()
        token = ApiToken(
            id=secrets.token_hex(6),
            name=name,
            user=owner,
            role=role,
            only=None if only is None else frozenset(only),
            digest=_digest(secret),
            created=now,
            expires=None if lasts is None else now + lasts,
        )
        await self._db.run(lambda connection: peopledb.save_token(connection, token))
        self._tokens[token.id] = token
        return token, f"{PREFIX}{token.id}_{secret}"

    async def revoke(self, name: str) -> ApiToken:
        """End a token, by its name or its id. Raises `NoSuchPage`."""
        for token in self._tokens.values():
            if name in {token.name, token.id}:
                await self._remove(token)
                return token
        raise worded(NoSuchPage, because("token.none", name=name[:64]), code="token.unknown")

    def holder(self, text: str) -> ApiToken:
        """The token behind a text. Raises `NotSignedIn`."""
        match = _SHAPE.fullmatch(text)
        token = self._tokens.get(match[1]) if match else None
        kept = token.digest if token is not None else _digest("")
        given = _digest(match[2]) if match else ""
        if not hmac.compare_digest(kept, given) or token is None:
            raise worded(NotSignedIn, because("token.not_valid"))
        if not self._stands(token):
            raise worded(NotSignedIn, because("token.ended"))
        self._note_use(token)
        return token

    def standing(self, token_id: str) -> ApiToken:
        """A token that still counts. Raises `NotSignedIn`."""
        token = self._tokens.get(token_id)
        if token is None or not self._stands(token):
            raise worded(NotSignedIn, because("token.ended"))
        return token

    def role_of(self, token: ApiToken) -> Role:
        """Its own role, or what its user's role is now. Raises `NotSignedIn`."""
        if token.role is not None:
            return token.role
        user = self._people.user(token.user or "")
        if user is None or user.disabled:
            raise worded(NotSignedIn, because("token.ended"))
        return user.role

    # --- parts --------------------------------------------------------------------------

    def _stands(self, token: ApiToken) -> bool:
        if token.expires is not None and token.expires <= self._now():
            return False
        if token.user is None:
            return True
        user = self._people.user(token.user)
        # A user who was deleted and made again is somebody else.
        return user is not None and not user.disabled and user.created <= token.created

    def _note_use(self, token: ApiToken) -> None:
        now = self._now()
        if token.used is None or abs(now - token.used) > _NOTE_USE:
            fresh = replace(token, used=now)
            self._tokens[token.id] = fresh
            self._db.soon(
                lambda c: c.execute("UPDATE tokens SET used = ? WHERE id = ?", (now, token.id))
            )

    async def _forget_dead(self) -> None:
        """What has expired, or whose user is gone, leaves its name to others."""
        for token in list(self._tokens.values()):
            gone = token.user is not None and self._people.user(token.user) is None
            if gone or (token.expires is not None and token.expires <= self._now()):
                await self._remove(token)

    async def _remove(self, token: ApiToken) -> None:
        await self._db.run(lambda c: c.execute("DELETE FROM tokens WHERE id = ?", (token.id,)))
        self._tokens.pop(token.id, None)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
