"""What is known of one log beyond its bytes: how much of its past went into older files, or away.

A service appends to `x.log`; `rotation` moves the head of that file into `x.log.1` while it is
being written. Offsets that people hold must survive that, so they count the bytes since the log
began, and a small file beside the log, `.x.log.state`, says which offset its first byte has. The
same file is the journal of a move that was begun (an agent may die at any point of it) and tells
readers whether what they have just read was moved under their hands. This module never touches the
log itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import because
from lictor.core.worded import worded

#: What was begun and may have to be finished: nothing, a move of the head into an older file, the
#: removal of a head that was already moved, the truncation of a log that was copied; or the state
#: itself cannot be believed and must be made anew.
Phase = Literal["", "move", "collapse", "truncate", "damaged"]

#: How this file system lets go of the head of a file (see `rotation`); "": not tried yet.
Way = Literal["", "collapse", "punch", "copy"]

_SIZE = 512  # bytes: one sector, so that one write is all there or not at all


@dataclass(frozen=True, slots=True)
class LogState:
    """The contents of the side file. Offsets and lengths are bytes.

    `head`: where the live part of the log file begins (before it is a hole). `base`: the logical
    offset of that byte. `length` and `cut` belong to `phase`: how much is being moved, and to what
    size the newest older file is cut because its last, unfinished line moves on (-1: not at all).
    `torn`: the oldest byte that is left is not the first of its line. `lost_*`: what was thrown
    away because the disk was full. `seq` grows with every write.
    """

    ino: int = 0
    base: int = 0
    head: int = 0
    phase: Phase = ""
    length: int = 0
    cut: int = -1
    torn: bool = False
    way: Way = ""
    lost_bytes: int = 0
    lost_lines: int = 0
    seq: int = 0


def state_path(log: Path) -> Path:
    """The side file of a log."""
    return log.with_name(f".{log.name}.state")


def part_path(log: Path) -> Path:
    """The older file that is still being made."""
    return log.with_name(f".{log.name}.part")


def read_state(log: Path) -> LogState | None:
    """The state; None where there is none, and phase `damaged` where it cannot be believed."""
    try:
        fd = os.open(state_path(log), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        return LogState(phase="damaged")
    try:
        return decode(os.pread(fd, _SIZE, 0)) or LogState(phase="damaged")
    except OSError:
        return LogState(phase="damaged")
    finally:
        os.close(fd)


def write_state(fd: int, state: LogState, *, durable: bool) -> None:
    """Write over the state in place, which needs no new block even on a full disk."""
    os.pwrite(fd, encode(state), 0)
    if durable:
        os.fsync(fd)


@contextmanager
def locked(log: Path) -> Iterator[int]:
    """The side file, created if need be, held by nobody else; the lock dies with its holder."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(state_path(log), flags, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def encode(state: LogState) -> bytes:
    """One line of JSON with its checksum, always of the same length."""
    body = json.dumps(asdict(state), separators=(",", ":"))
    line = f"{zlib.crc32(body.encode()):08x} {body}"
    return line.ljust(_SIZE - 1).encode() + b"\n"


def decode(raw: bytes) -> LogState | None:
    """The state that `encode` wrote; None for everything else."""
    check, _, body = raw.decode("ascii", errors="replace").rstrip().partition(" ")
    if not body or check != f"{zlib.crc32(body.encode()):08x}":
        return None
    try:
        row = json.loads(body)
        return LogState(**{field.name: row[field.name] for field in fields(LogState)})
    except (ValueError, TypeError, KeyError):
        return None


def open_log(path: Path, *, write: bool = False) -> int:
    """A descriptor of a plain file, for reading (or for both).

    Raises `FileNotFoundError`, and `OperationFailed` (`log.refused`) for everything that is no
    plain file or may not be opened.
    """
    # O_NONBLOCK: a fifo must not hold us until somebody writes to it.
    mode = os.O_RDWR if write else os.O_RDONLY
    try:
        fd = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _refused(path)
    return fd


def _refused(path: Path) -> OperationFailed:
    not_plain = because("log.not_plain", log=path.name)
    return worded(OperationFailed, not_plain, code="log.refused")


def older_files(path: Path) -> list[Path]:
    """The older files of a log, newest first: `x.log.1`, `x.log.2`, ..."""
    begin = f"{path.name}."
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(begin)]
    except OSError:
        return []
    numbers = sorted(int(n) for name in names if (n := name.removeprefix(begin)).isdecimal())
    return [path.with_name(f"{begin}{number}") for number in numbers]


def size_of(path: Path) -> int:
    """The size of a plain file; 0 for anything else."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
