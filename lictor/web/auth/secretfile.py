"""The secret that signs sessions: 256 bits in a file of its own, made at the first start.

A secret that others could have read, or that is empty, is no secret: the agent then refuses to start
and says which file it is about, instead of quietly making all sessions forgeable. It is imported
before anything is started, so it needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import Reason, because
from lictor.core.runtime.storage.datadir import write_atomically
from lictor.core.worded import worded

NAME = "web-secret"
_BYTES = 32


def session_secret(data_dir: Path) -> bytes:
    """The secret; made (0600) when there is none.

    Raises `OperationFailed` for one that is too short, not ours, or readable by others.
    """
    path = data_dir / NAME
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    write_atomically(path, f"{secrets.token_hex(_BYTES)}\n")
    return _read(path)


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        about = os.fstat(handle)
        text = os.read(handle, 4096).decode("ascii", errors="replace").strip()
    finally:
        os.close(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o077:
        mode = f"{stat.S_IMODE(about.st_mode):04o}"
        raise _refused(because("secret.readable", path=str(path), mode=mode))
    if about.st_uid not in {os.geteuid(), 0}:
        raise _refused(because("secret.not_ours", path=str(path), uid=about.st_uid))
    try:
        found = bytes.fromhex(text)
    except ValueError:
        raise _refused(because("secret.strange", path=str(path))) from None
    if len(found) < _BYTES or len(set(found)) < _BYTES // 4:
        raise _refused(because("secret.weak", path=str(path)))
    return found


def _refused(why: Reason) -> OperationFailed:
    return worded(OperationFailed, why, hint=because("next.new_secret"), code="web.secret")
