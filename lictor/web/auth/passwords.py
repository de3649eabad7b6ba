"""The door to argon2: hashing and checking passwords, in threads, a few at a time.

argon2id takes tens of milliseconds and 64 MiB on purpose (RFC 9106 section 4, the second recommended
option), so it never runs on the event loop, at most two run at once, and more than a few that wait
are turned away. A name that does not exist costs exactly as much as one that does: its password is
checked against a hash that nobody's password makes. Passwords are never logged or kept.
"""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import TooManyTries

T = TypeVar("T")

#: NIST SP 800-63B section 5.1.1.2: at least 8, and no rules about kinds of letters.
MIN_LENGTH = 8
MAX_BYTES = 1024

_AT_ONCE = 2
_WAITING = 16
_hasher = PasswordHasher()


class Passwords:
    """Hashes and checks. One per agent: the bound on parallel work is its own."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises `UsageError` for a password that is too short or too long."""
        text = acceptable(password)
        return await self._in_turn(_hasher.hash, text)

    async def check(self, password: str, kept: str | None) -> bool:
        """Whether it is the password behind `kept`; None (nobody) takes as long and is never it."""
        known = kept is not None
        if self._nobody is None:
            # Of the same cost as everybody's; the password behind it is thrown away.
            self._nobody = await self._in_turn(_hasher.hash, secrets.token_urlsafe(32))
        against = kept if kept is not None else self._nobody
        text = normal(password)[:MAX_BYTES]
        return await self._in_turn(_verify, against, text) and known

    async def _in_turn(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= _WAITING:
            raise busy()
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work, *args)
        finally:
            self._waiting -= 1


def _verify(kept: str, password: str) -> bool:
    try:
        return _hasher.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def outdated(kept: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(kept)


def normal(password: str) -> str:
    """The same letters in one form, whatever keyboard made them (RFC 8265 section 4.2)."""
    return unicodedata.normalize("NFC", password)


def acceptable(password: str) -> str:
    """The normal form; raises `UsageError` with the rule that it breaks, never with itself."""
    text = normal(password)
    if len(text) < MIN_LENGTH:
        short = because("password.too_short", least=MIN_LENGTH)
        raise worded(UsageError, short, code="password.short")
    if len(text.encode()) > MAX_BYTES:
        long = because("password.too_long", most=MAX_BYTES)
        raise worded(UsageError, long, code="password.long")
    return text


def made_up() -> str:
    """A new random password: 120 bits, letters and digits only, so that it can be read out."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 letters, none that looks like another
    text = "".join(secrets.choice(alphabet) for _ in range(24))
    return "-".join(text[i : i + 6] for i in range(0, 24, 6))


def busy() -> TooManyTries:
    """The answer when too many passwords wait to be checked."""
    return worded(TooManyTries, because("auth.busy"), retry_after=2)
