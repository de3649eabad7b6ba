"""Sessions: what a sign-in gives out, how it is renewed, and how it ends. The door to PyJWT.

An access token is a JWT of fifteen minutes: HS256, fixed here and never read from the token (RFC
8725 section 3.1). It only names a session; whether that session and its user still stand is looked
up on each request, so a logout or a new password counts at once. The cookie that renews it is a
random text of which only a digest is kept; each use gives out another, and an old one that turns up
again ends the session (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jwt

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth import peopledb
from lictor.web.auth.errors import NotSignedIn
from lictor.web.auth.people import People
from lictor.web.auth.peopledb import PeopleDb
from lictor.web.auth.records import Session, User

ACCESS_SECONDS = 900
SESSION_SECONDS = 30 * 86_400.0  # without any use
LONGEST_TOKEN = 4_096  # characters; ours have about 300

_ALGORITHM = "HS256"
_MOST_PROVED = 512  # tokens of which the signature need not be computed again
_LEEWAY = 10.0  # seconds by which the clock may be set back between signing and reading
_GRACE = 30.0  # seconds in which two tabs may renew with the same cookie
_PER_USER = 50
_ID_BYTES = 12


@dataclass(frozen=True, slots=True)
class Granted:
    """What a sign-in gives out: the JWT, and the text of the cookie that renews it."""

    user: User
    session: str
    access: str = field(repr=False)
    renewal: str = field(repr=False)


class Sessions:
    """All sessions of one agent. `issuer` is the agent's id: another agent's tokens are not ours."""

    def __init__(
        self,
        db: PeopleDb,
        people: People,
        *,
        secret: bytes,
        issuer: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._people = people
        self._secret = secret
        self._issuer = issuer
        self._now = now
        self._proved: dict[str, dict[str, Any]] = {}
        found = db.read(lambda c: list(peopledb.sessions(c)))
        self._sessions = {one.id: one for one in found if one.expires > now()}

    async def begin(self, user: User) -> Granted:
        """A new session for somebody who has shown who they are."""
        now = self._now()
        renewal = secrets.token_urlsafe(32)
        session = Session(
            id=secrets.token_urlsafe(_ID_BYTES),
            user=user.name,
            generation=user.generation,
            created=now,
            renewed=now,
            expires=now + SESSION_SECONDS,
            renewal=_digest(renewal),
        )
        await self._keep(session)
        await self._trim(user.name)
        return self._grant(user, session, renewal)

    def holder(self, token: str) -> tuple[User, str]:
        """The user and the session behind an access token. Raises `NotSignedIn`."""
        claims = self._claims(token)
        session, user = self.standing(str(claims["sid"]))
        if user.name != claims["sub"]:
            raise worded(NotSignedIn, because("session.not_valid"))
        return user, session.id

    def standing(self, session_id: str) -> tuple[Session, User]:
        """A session that still holds, with its user. Raises `NotSignedIn`."""
        session = self._sessions.get(session_id)
        if session is None or session.expires <= self._now():
            raise worded(NotSignedIn, because("session.ended"))
        user = self._people.user(session.user)
        if user is None or user.disabled or user.generation != session.generation:
            raise worded(NotSignedIn, because("session.ended"))
        return session, user

    async def renew(self, renewal: str) -> Granted:
        """A new access token, and a new renewal cookie. Raises `NotSignedIn`."""
        session_id, _, text = renewal.partition(".")
        session, user = self.standing(session_id)
        now = self._now()
        digest = _digest(text)
        if hmac.compare_digest(digest, session.previous):
            if now - session.renewed > _GRACE:
                await self.end(session_id)
                raise worded(NotSignedIn, because("session.ended"))
            return self._grant(user, session, "")  # the other tab has the new cookie already
        if not hmac.compare_digest(digest, session.renewal):
            raise worded(NotSignedIn, because("session.not_valid"))
        fresh = secrets.token_urlsafe(32)
        session = replace(
            session,
            renewed=now,
            expires=now + SESSION_SECONDS,
            previous=session.renewal,
            renewal=_digest(fresh),
        )
        await self._keep(session)
        return self._grant(user, session, fresh)

    async def end(self, session_id: str) -> None:
        """End one session: its tokens are worth nothing from now on."""
        if self._sessions.pop(session_id, None) is not None:
            await self._db.run(
                lambda c: c.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            )

    # --- parts --------------------------------------------------------------------------

    def _grant(self, user: User, session: Session, renewal: str) -> Granted:
        now = int(self._now())
        claims = {
            "iss": self._issuer,
            "sub": user.name,
            "sid": session.id,
            "iat": now,
            "exp": now + ACCESS_SECONDS,
        }
        access = jwt.encode(claims, self._secret, algorithm=_ALGORITHM)
        return Granted(user, session.id, access, f"{session.id}.{renewal}" if renewal else "")

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise worded(NotSignedIn, because("token.not_valid"))
        # What was signed stays signed: only the clock and the person are asked each time.
        known = self._proved.get(token)
        if known is not None:
            if known["exp"] <= self._now() - _LEEWAY:
                del self._proved[token]
                raise worded(NotSignedIn, because("token.expired"))
            return known
        claims = self._decoded(token)
        if len(self._proved) >= _MOST_PROVED:
            self._proved.clear()
        self._proved[token] = claims
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "iss", "sub", "sid"]},
            )
            return {**claims, "exp": float(claims["exp"])}
        except jwt.ExpiredSignatureError:
            raise worded(NotSignedIn, because("token.expired")) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise worded(NotSignedIn, because("token.not_valid")) from None

    async def _keep(self, session: Session) -> None:
        # In memory first: of two tabs that renew at once, the second must see the first one's.
        before = self._sessions.get(session.id)
        self._sessions[session.id] = session
        try:
            await self._db.run(lambda connection: peopledb.save_session(connection, session))
        except OperationFailed:
            if before is None:
                self._sessions.pop(session.id, None)
            else:
                self._sessions[session.id] = before
            raise

    async def _trim(self, name: str) -> None:
        """Sessions that are over, and a person's oldest ones, go."""
        now = self._now()
        theirs = [one for one in self._sessions.values() if one.user == name]
        theirs.sort(key=lambda one: one.renewed)
        over = [one.id for one in self._sessions.values() if one.expires <= now]
        for session_id in {*over, *(one.id for one in theirs[:-_PER_USER])}:
            await self.end(session_id)


def _digest(text: str) -> str:
    """Enough for a secret of 256 random bits: there is nothing to guess."""
    return hashlib.sha256(text.encode()).hexdigest()
