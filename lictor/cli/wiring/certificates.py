"""The certificate of the web server: read at the start, and again whenever its files change.

A certificate is renewed every few weeks by a program that knows nothing of agents, and a restart for
it would be one more thing to forget. New connections get the new one from the moment it is whole;
open ones keep what they have. Files that do not fit together (they are replaced one after the other)
change nothing: what was good stays in use, and it is told when that lasts. A new file is looked for
every few seconds and at each reload. Nothing here asks anybody for a certificate.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import TypeAlias

from lictor.core.config.settings import TlsSettings
from lictor.core.errors import OperationFailed
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between two looks at the files

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class Certificate:
    """What is served. `context` is given to the server once and stays valid for its life."""

    def __init__(self, files: TlsSettings) -> None:
        """Read the files now. Raises `OperationFailed` for files that are no good."""
        self._files = files
        self._stamp = _stamp(files)
        self._failed: _Stamp | None = None
        self._told: _Stamp | None = None
        self._now = self.context = _read(files)
        # Not loaded into the same context: OpenSSL keeps one certificate for each kind of key, so an
        # old RSA one would go on being served beside a new one with an elliptic key.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        if self._now is not self.context:
            connection.context = self._now

    def renew(self, *, asked: bool = False) -> Reason | None:
        """Look at the files, and use them if they changed; what happened, if it is to be told.

        Files that are no good are told when they are still so at the second look, or when `asked`.
        """
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return None
        cert = str(self._files.cert)
        try:
            fresh = _read(self._files)
        except OperationFailed as error:
            lasts, self._failed = self._failed == stamp, stamp
            if self._told == stamp or not (lasts or asked):
                return None
            self._told = stamp
            log.warning("the certificate is not renewed: %s", error.message)
            return because("web.certificate_kept", cert=cert, message=error.message)
        self._now, self._stamp = fresh, stamp
        log.info("the certificate %s was renewed", cert)
        return because("web.certificate_renewed", cert=cert)

    async def watch(self, tell: Callable[[Reason], None]) -> None:
        """Look for ever; `tell` hears of each renewal, and of one that does not work."""
        while True:
            await asyncio.sleep(EVERY)
            told = await asyncio.to_thread(self.renew)
            if told is not None:
                tell(told)


def _stamp(files: TlsSettings) -> _Stamp:
    """What changes when a file is written or replaced; a file that is not there has none."""
    found = []
    for path in (files.cert, files.key):
        try:
            seen = path.stat()
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)


class _Encrypted(ValueError):
    """The key asks for a password."""


def _read(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        if tls.key.stat().st_mode & 0o004:
            raise worded(
                OperationFailed,
                because("web.key_readable", key=str(tls.key)),
                hint=because("next.chmod", path=str(tls.key)),
                code="web.tls",
            )
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise worded(
            OperationFailed,
            because(
                "web.key_encrypted" if isinstance(error, _Encrypted) else "web.bad_certificate",
                cert=str(tls.cert),
                key=str(tls.key),
                why=str(why),
            ),
            hint=because("next.pem"),
            code="web.tls",
        ) from error
    return context


def _no_password() -> str:
    """An encrypted key would ask on the terminal, where nobody sits."""
    raise _Encrypted("the key is encrypted")
