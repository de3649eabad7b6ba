"""Says when a file that was quiet is written to, without looking at it (inotify(7)).

Five hundred logs of which none grows must cost nothing, and one that suddenly floods must be
noticed at once. So a quiet log is watched by the kernel, for its next write only; whoever is told
looks for itself from then on. Where the kernel refuses (no inotify, too many watches) `watch` says
so, and the caller goes on looking now and then.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path

_MODIFY = 0x00000002  # IN_MODIFY
_MOVED_TO = 0x00000080  # IN_MOVED_TO
_CREATE = 0x00000100  # IN_CREATE
_OVERFLOW = 0x00004000  # IN_Q_OVERFLOW
_DONT_FOLLOW = 0x02000000  # IN_DONT_FOLLOW
_ONESHOT = 0x80000000  # IN_ONESHOT
_event = struct.Struct("iIII")


class FileWatch:
    """Watches of one owner; one thread at a time. `fd` becomes readable when something happened."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = -1
        with suppress(AttributeError):
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._paths: dict[int, Path] = {}
        self._folders: set[int] = set()

    def close(self) -> None:
        """Forget everything."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def watch(self, path: Path) -> bool:
        """Tell about the next write to this file, once; False if that cannot be had."""
        wd = self._add(path, _MODIFY | _ONESHOT | _DONT_FOLLOW)
        if wd >= 0:
            self._paths[wd] = path
        return wd >= 0

    def watch_folder(self, path: Path) -> bool:
        """Tell about every name that comes into this folder."""
        wd = self._add(path, _CREATE | _MOVED_TO)
        if wd >= 0:
            self._folders.add(wd)
            self._paths[wd] = path
        return wd >= 0

    def stirred(self) -> set[Path] | None:
        """The files that were written to or came since the last call; None: some were missed."""
        found: set[Path] = set()
        while self.fd >= 0:
            try:
                raw = os.read(self.fd, 64 * 1024)
            except BlockingIOError:
                break
            if not self._take(raw, found):
                return None
        return found

    def _add(self, path: Path, mask: int) -> int:
        if self.fd < 0:
            return -1
        return int(self._libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def _take(self, raw: bytes, found: set[Path]) -> bool:
        at = 0
        while at < len(raw):
            wd, mask, _, length = _event.unpack_from(raw, at)
            name = raw[at + _event.size : at + _event.size + length].rstrip(b"\0")
            at += _event.size + length
            if mask & _OVERFLOW:
                return False
            path = self._paths.get(wd)
            if path is None:
                continue
            if wd in self._folders:
                found.add(path / os.fsdecode(name))
            elif mask & _MODIFY:
                found.add(path)
            else:
                del self._paths[wd]  # IN_IGNORED: the kernel has let go of it
        return True
