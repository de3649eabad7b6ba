"""How far a container's output was copied into its log: a line on disk beside the log.

Docker keeps what a container prints and gives it again with the time of each piece, so an agent
that comes later can go on where the last one ended. The line is written after each piece, and says
how long the log was then: what an agent wrote just before it was killed, and did not live to note,
is known by the bytes that the log has more. Nothing is synced: it has to survive the agent, not the
host.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_LENGTH = 255  # the line always has one length, so that one write replaces all of it


@dataclass(slots=True)
class Cursor:
    """The last piece that was copied.

    `at`: its time as Docker writes it; `count`: how many pieces of just that time were copied (the
    parts of a long line share one). `ino` and `size` (bytes) are the log's after that.
    """

    container: str
    at: str = ""
    count: int = 0
    ino: int = 0
    size: int = 0

    @property
    def since(self) -> float:
        """From when on to ask, in Unix seconds; a little early, because a float is not exact."""
        if not self.at:
            return 0.0
        whole, _, rest = self.at.rstrip("Z").partition(".")
        from datetime import datetime  # noqa: PLC0415 - once in a connection

        moment = datetime.fromisoformat(f"{whole}+00:00").timestamp()
        return moment + float(f"0.{rest or 0}") - 0.001

    def unnoted(self, log: int) -> int:
        """Bytes in the log (a descriptor) that were written and not noted any more."""
        found = os.fstat(log)
        if found.st_ino != self.ino:
            return 0
        return max(0, found.st_size - self.size)

    def note(self, log: int) -> None:
        """Take the log's present length."""
        found = os.fstat(log)
        self.ino, self.size = found.st_ino, found.st_size


class CursorFile:
    """The line on disk. `load` before `save`; `close` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def load(self, container: str) -> Cursor | None:
        """Where the copy of this container's output stands; None: nothing is known of it."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            row = json.loads(os.pread(self._fd, 4096, 0))
            cursor = Cursor(**row)
        except (ValueError, TypeError):
            return None
        return cursor if cursor.container == container else None

    def save(self, cursor: Cursor) -> None:
        """Write it down."""
        text = json.dumps(asdict(cursor), separators=(",", ":")).ljust(_LENGTH) + "\n"
        os.pwrite(self._fd, text.encode(), 0)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
