"""The doorkeeper: from the headers of a request to a person, or to a refusal.

Four credentials are taken: the strict cookie of a browser, a JWT or an API token as bearer, and HTTP
Basic for scripts. A header wins over the cookie, and one that is wrong is never passed over for the
other. Basic costs one argon2 per five minutes and password: what was right is remembered under a
keyed hash whose key lives only in this process. A credential in a URL is never looked at.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request

from lictor.core.errors import LictorError
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import NotSignedIn
from lictor.web.auth.gate import Person
from lictor.web.auth.guessing import Guesses
from lictor.web.auth.people import People
from lictor.web.auth.records import User
from lictor.web.auth.sessions import LONGEST_TOKEN, Sessions
from lictor.web.auth.tokens import PREFIX, Tokens

_REMEMBERED = 300.0  # seconds for which a Basic password needs no argon2
_MOST_REMEMBERED = 256
_LONGEST_BASIC = 2_048  # characters


class Keeper:
    """A `Doorkeeper` over one agent's people. `mode` is asked each time: a reload may change it."""

    def __init__(
        self,
        *,
        people: People,
        sessions: Sessions,
        tokens: Tokens,
        guesses: Guesses,
        cookie: str,
        mode: Callable[[], str],
    ) -> None:
        self._people = people
        self._sessions = sessions
        self._tokens = tokens
        self._guesses = guesses
        self._mode = mode
        #: The name of the session cookie: cookies know no ports, so each agent has its own.
        self.cookie = cookie
        self._key = secrets.token_bytes(32)
        self._checking: dict[bytes, asyncio.Task[User]] = {}
        self._basic: OrderedDict[bytes, tuple[str, int, float]] = OrderedDict()

    async def person(self, request: Request) -> Person | None:
        """Who asks; None without any credential. Raises `NotSignedIn`, `TooManyTries`."""
        remote = remote_of(request)
        given = request.headers.getlist("authorization")
        if not given:
            token = request.cookies.get(self.cookie)
            return None if token is None else self._by_session(token, "cookie", remote)
        if len(given) > 1:
            raise worded(NotSignedIn, because("auth.two_credentials"))
        scheme, _, value = given[0].partition(" ")
        value = value.strip()
        match scheme.lower():
            case "bearer" if len(value) > LONGEST_TOKEN:
                raise worded(NotSignedIn, because("token.not_valid"))
            case "bearer" if value.startswith(PREFIX):
                return self._by_token(value, remote)
            case "bearer":
                return self._by_session(value, "bearer", remote)
            case "basic":
                return await self._by_password(value, remote)
        raise worded(NotSignedIn, because("auth.strange_kind"))

    def still(self, person: Person) -> bool:
        """Whether a person of an earlier request would come in again, in the same role."""
        kind, _, rest = person.proof.partition(":")
        try:
            match kind:
                case "session":
                    role = self._sessions.standing(rest)[1].role
                case "token":
                    role = self._tokens.role_of(self._tokens.standing(rest))
                case "basic":
                    name, _, generation = rest.rpartition(":")
                    user = self._people.user(name)
                    if user is None or user.disabled or str(user.generation) != generation:
                        return False
                    role = user.role
                case _:
                    return False
        except NotSignedIn:
            return False
        return role is person.role and self._mode() == person.mode

    async def sign_in(self, name: str, password: str, remote: str) -> User:
        """The user behind a name and a password. Raises `NotSignedIn`, `TooManyTries`."""
        tried = name.lower()[:64]
        self._guesses.enter(remote, tried)
        user = await self._people.check(name[:64], password)
        if user is None:
            raise worded(NotSignedIn, because("auth.wrong"))
        self._guesses.forgive(remote, tried)
        return user

    # --- kinds of credential ------------------------------------------------------------

    def _by_session(self, token: str, via: str, remote: str) -> Person:
        user, session = self._sessions.holder(token)
        return self._person(user, via, remote, f"session:{session}")

    def _by_token(self, text: str, remote: str) -> Person:
        token = self._tokens.holder(text)
        return Person(
            name=token.user or token.name,
            role=self._tokens.role_of(token),
            via="token",
            remote=remote,
            only=token.only,
            mode=self._mode(),
            proof=f"token:{token.id}",
        )

    async def _by_password(self, value: str, remote: str) -> Person:
        name, password = _basic_pair(value)
        mark = hmac.digest(self._key, f"{name.lower()}\0{password}".encode(), hashlib.sha256)
        user = self._recalled(mark)
        if user is None:
            user = await self._checked_once(mark, name, password, remote)
            self._basic[mark] = (user.name, user.generation, time.monotonic())
            while len(self._basic) > _MOST_REMEMBERED:
                self._basic.popitem(last=False)
        return self._person(user, "basic", remote, f"basic:{user.name}:{user.generation}")

    async def _checked_once(self, mark: bytes, name: str, password: str, remote: str) -> User:
        """One check for all requests that bring the same at the same time."""
        task = self._checking.get(mark)
        if task is None:
            task = asyncio.ensure_future(self.sign_in(name, password, remote))
            self._checking[mark] = task
            task.add_done_callback(lambda _: self._checking.pop(mark, None))
        try:
            return await asyncio.shield(task)
        except LictorError as error:
            # Not a copy of it: some kinds are made of more than their text.
            raise error.with_traceback(None) from None

    def _recalled(self, mark: bytes) -> User | None:
        known = self._basic.get(mark)
        if known is None:
            return None
        name, generation, since = known
        user = self._people.user(name)
        fresh = time.monotonic() - since < _REMEMBERED
        if fresh and user is not None and not user.disabled and user.generation == generation:
            return user
        del self._basic[mark]
        return None

    def _person(self, user: User, via: str, remote: str, proof: str) -> Person:
        return Person(user.name, user.role, via, remote, None, self._mode(), proof)


def remote_of(request: Request) -> str:
    """The address a request came from, as the borders found it out (a proxy may stand between)."""
    known = request.scope.get("state", {}).get("remote")
    if isinstance(known, str):
        return known
    return request.client.host if request.client is not None else ""


def _basic_pair(value: str) -> tuple[str, str]:
    """Name and password of RFC 7617, in UTF-8."""
    try:
        if len(value) > _LONGEST_BASIC:
            raise ValueError
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        raise worded(NotSignedIn, because("auth.malformed")) from None
    name, colon, password = text.partition(":")
    if not colon:
        raise worded(NotSignedIn, because("auth.malformed"))
    return name, password
