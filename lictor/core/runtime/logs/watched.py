"""One service's log between two looks of `log_keeper`: how long it is, how fast it grows.

Looking is one stat. What is worth remembering is noted in the log's time index, at most about once
in ten seconds: how long the log was when, and, before it grows again after a rest, how long it had
been until then. Not safe for two threads at once.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

from lictor.core.model.spec import LogSpec
from lictor.core.runtime.logs import index as log_index
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.logs.rotation import Rotated, Rotation, recover
from lictor.core.runtime.logs.state import LogState
from lictor.core.runtime.logs.watch import FileWatch

_LOOK = 1.0  # seconds between two looks at a log that grows slowly
_SOONEST = 0.05  # seconds between two looks at one that floods
_NOTE_EVERY = 10.0  # seconds between two notes
_REACTION = 0.1  # seconds from a write to our look at a log that was quiet, usually


class WatchedLog:
    """One log. Methods raise `OSError`, and `OperationFailed` for what is no plain file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limits = LogSpec()
        self.due = 0.0  # monotonic seconds of the next look
        self.trouble = ""
        self.live = 0  # bytes in the log file itself
        self.quiet = False  # the kernel watches it for us
        self._state: LogState | None = None
        self._end = -1  # logical offset of its end at the last look; -1: not looked yet
        self._looked = 0.0  # monotonic seconds
        self._speed = 0.0  # bytes a second between the last two looks
        self._rested = False
        self._noted = -1  # offset of the last note
        self._noted_at = float("-inf")  # monotonic seconds
        self._grown: log_index.Entry = (0.0, -1)  # the last growth that we saw

    @property
    def asleep(self) -> bool:
        """Whether nothing is to be done before it is written to."""
        return self.quiet and self._grown[1] == self._noted

    def look(self, wall: float) -> bool:
        """See whether it has grown since the last look."""
        now, before = time.monotonic(), self._end
        end = self._length()
        grown = end != max(0, before)
        if grown:
            self._grown = (wall, end)
            self._note(now, *self._until_now(wall, before))
            self._rested = False
        passed = now - self._looked
        self._speed = max(0, end - before) / passed if before >= 0 and passed > 0 else 0.0
        self._end, self._looked = end, now
        return grown

    def rotate(self, halt: Callable[[], bool]) -> Rotated:
        """Move what is too much into older files."""
        what = Rotation(self.path, self.limits.max_size, self.limits.keep).rotate(halt)
        self._state = what.state
        return what

    def rest(self, watch: FileWatch) -> bool:
        """Let the kernel watch it; False if it cannot, or the log grew at this moment."""
        self._note(time.monotonic())
        self.quiet = watch.watch(self.path)
        # Of what was written just before the watch began nobody would tell us.
        if not self.quiet or self._length() != self._end:
            self.quiet = False
            return False
        self._rested = True
        return True

    def forget(self) -> None:
        """The log is not there (any more)."""
        self._state, self._end, self.live, self.quiet = None, -1, 0, False

    def patience(self) -> float:
        """Seconds until the next look: half of what it takes to fill the file, at most 1 s."""
        if self.trouble or self._speed <= 0:
            return _LOOK
        room = max(0, self.limits.max_size - self.live)
        return min(_LOOK, max(_SOONEST, room / self._speed / 2))

    def _length(self) -> int:
        found = self.path.lstat()
        if self._state is None and stat.S_ISREG(found.st_mode) and found.st_size == 0:
            self.live = 0
            return 0  # a service that prints nothing needs no files of ours
        if (
            self._state is None
            or self._state.ino != found.st_ino
            or self._state.head > found.st_size
        ):
            self._state = recover(self.path)
            found = self.path.lstat()
        self.live = max(0, found.st_size - self._state.head)
        return self._state.base + self.live

    def _note(self, now: float, *more: log_index.Entry) -> None:
        """Write down the last growth, unless a note is younger than ten seconds."""
        if self._grown[1] == self._noted or now - self._noted_at < _NOTE_EVERY:
            return
        log_index.note(self.path, *more, self._grown, oldest=self._oldest)
        self._noted, self._noted_at = self._grown[1], now

    def _until_now(self, wall: float, before: int) -> list[log_index.Entry]:
        """How long it had been until it grew, if that is known."""
        if before >= 0:
            return [(wall - _REACTION, before)] if self._rested else []
        if log_index.index_path(self.path).exists():
            return []
        return [entry for entry in log_index.beginning(self.path) if entry[0] <= wall]

    def _oldest(self) -> int:
        return LogReader(self.path).settled().begin
