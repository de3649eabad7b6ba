"""Handles the bytes of log files by the block: copies them, lets go of them, looks for line ends.

These are the hands of `rotation`, which decides; nothing here knows what a log's state is. All of
it works on descriptors that the caller has opened and checked.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

COLLAPSE = 0x08  # FALLOC_FL_COLLAPSE_RANGE
PUNCH = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE, with FALLOC_FL_KEEP_SIZE as it must be
#: What a file system says that cannot do it.
CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY}
FULL = {errno.ENOSPC, errno.EDQUOT}
#: Bytes that are let go of at a time: a writer waits for one slice, not for all.
_SLICE = 2 * 1024 * 1024
_COPY = 1024 * 1024


@functools.cache
def _libc_fallocate() -> Callable[..., int]:
    libc = ctypes.CDLL(None, use_errno=True)
    # glibc has both names, and only this one with 64 bits everywhere; musl has always 64 bits.
    call = getattr(libc, "fallocate64", None) or libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call.restype = ctypes.c_int
    return call


def fallocate(fd: int, mode: int, begin: int, length: int) -> None:
    """Ask the kernel with a mode, which `os` does not offer (fallocate(2)). Raises `OSError`."""
    while _libc_fallocate()(fd, mode, begin, length) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def can(fd: int, mode: int, begin: int, length: int) -> bool:
    """Whether this file system does it, tried on bytes that nobody misses."""
    try:
        fallocate(fd, mode, begin, length)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        return False
    return True


def punch(fd: int, begin: int, length: int) -> None:
    """Make a hole, slice by slice. Once more does no harm."""
    for at in range(begin, begin + length, _SLICE):
        fallocate(fd, PUNCH, at, min(_SLICE, begin + length - at))


def hole(fd: int) -> int:
    """How long the hole at the beginning of the file is; 0 for a file that begins with data."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: no data at all; what cannot tell has no holes for us.
        return os.fstat(fd).st_size if error.errno == errno.ENXIO else 0


def append(source: int, to: int, begin: int, length: int) -> int:
    """Copy bytes to the end of `to`; gives how many there were. In the kernel where possible."""
    end, at = begin + length, begin
    in_kernel = True
    while at < end:
        some = min(_COPY, end - at)
        if in_kernel:
            try:
                count = os.copy_file_range(source, to, some, offset_src=at)
            except OSError as error:
                if error.errno not in {*CANNOT, errno.EXDEV, errno.EBADF, errno.EPERM}:
                    raise
                in_kernel = False
                continue
        else:
            block = os.pread(source, some, at)
            count = _write_all(to, block)
        if count == 0:
            break
        at += count
    return at - begin


def _write_all(fd: int, block: bytes) -> int:
    done = 0
    while done < len(block):
        done += os.write(fd, block[done:])
    return done


def count_lines(fd: int, begin: int, length: int) -> int:
    """How many lines end there."""
    end, count = begin + length, 0
    for at in range(begin, end, _COPY):
        count += os.pread(fd, min(_COPY, end - at), at).count(b"\n")
    return count


def ends_line(fd: int, at: int) -> bool:
    """Whether a line ends just before `at` (or nothing lies before it)."""
    return at == 0 or os.pread(fd, 1, at - 1) == b"\n"


def after_first_line(fd: int, begin: int, most: int) -> int:
    """The length of the first line with its end; 0 if it does not end within `most` bytes."""
    return os.pread(fd, most, begin).find(b"\n") + 1


def unfinished(fd: int, most: int) -> bytes:
    """What stands behind the last line end; b"" where that is not in the last `most` bytes."""
    tail = os.pread(fd, most, max(0, os.fstat(fd).st_size - most))
    found = tail.rfind(b"\n")
    return tail[found + 1 :] if found >= 0 else b""


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where that can be asked for."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def birth(path: Path) -> float | None:
    """When a file was made, in Unix seconds, where the file system remembers (statx(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = ctypes.create_string_buffer(256)
    no_follow, from_here, wanted = 0x100, -100, 0x800  # AT_SYMLINK_NOFOLLOW, AT_FDCWD, STATX_BTIME
    try:
        failed = libc.statx(from_here, os.fsencode(path), no_follow, wanted, found)
    except AttributeError:
        return None
    (mask,) = struct.unpack_from("I", found.raw, 0)
    if failed or not mask & wanted:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", found.raw, 80)  # stx_btime
    return float(seconds + nanoseconds / 1e9)
