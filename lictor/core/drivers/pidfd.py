"""What a pidfd tells about the end of a process that is not our child.

Since Linux 6.15 a pidfd keeps the exit status of its process, for whoever holds the descriptor, from
the moment at which its parent took the status (ioctl `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`,
linux/pidfd.h). Older kernels tell nothing, and nothing is guessed then. This module only asks.
"""

from __future__ import annotations

import fcntl
import functools
import os
import struct

from lictor.core.model.state import Exit

_INFO_EXIT = 1 << 3
_SIZE = 64  # of struct pidfd_info in its first form: mask first, exit_code last
_GET_INFO = (3 << 30) | (_SIZE << 16) | (0xFF << 8) | 11  # _IOWR(PIDFS_IOCTL_MAGIC, 11, ...)
_EXIT_CODE = 60  # offset in bytes


def exit_of(pidfd: int) -> Exit | None:
    """How the process ended; None as long as its parent has not asked, or on an older kernel."""
    buffer = bytearray(struct.pack("=Q", _INFO_EXIT).ljust(_SIZE, b"\0"))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None
    (mask,) = struct.unpack_from("=Q", buffer)
    if not mask & _INFO_EXIT:
        return None
    (status,) = struct.unpack_from("=i", buffer, _EXIT_CODE)
    code = os.waitstatus_to_exitcode(status)
    return Exit(code=code) if code >= 0 else Exit(signal=-code)


@functools.cache
def can_tell_exit() -> bool:
    """Whether this kernel is new enough: 6.15, by its own word."""
    try:
        major, minor = os.uname().release.split(".")[:2]
        return (int(major), int(minor.split("-")[0])) >= (6, 15)
    except ValueError:
        return False
