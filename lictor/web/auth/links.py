"""One-time links: how `lictor dashboard` brings a person into the browser without a password.

The secret stands in the fragment of the link, which no browser sends to any server, proxy or log;
the page exchanges it by POST. It works once, for five minutes, and lives in memory only.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import NotSignedIn

LASTS = 300.0  # seconds
_MOST = 32


class Links:
    """The links that are out. `now` is a clock in seconds that never jumps."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._out: dict[str, tuple[str, float]] = {}

    def make(self, user: str) -> str:
        """A new secret that lets `user` in once; the oldest of too many end."""
        self._out = {k: v for k, v in self._out.items() if v[1] > self._now()}
        while len(self._out) >= _MOST:
            del self._out[next(iter(self._out))]
        secret = secrets.token_urlsafe(32)
        self._out[_digest(secret)] = (user, self._now() + LASTS)
        return secret

    def take(self, secret: str) -> str:
        """The user that a secret lets in; it works no second time. Raises `NotSignedIn`."""
        user, until = self._out.pop(_digest(secret), ("", 0.0))
        if until <= self._now():
            raise worded(NotSignedIn, because("auth.link_over"), hint=because("next.new_link"))
        return user


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
