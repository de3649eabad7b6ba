"""One log as one row of bytes, whatever files it lies in: reading by logical offset.

The offset of a byte is how many bytes the service had written before it; it stays what it is when
the byte moves into an older file (`rotation`). A reader takes no lock and is waited for by nobody:
it looks at the log's state before and after each block, and asks again when something moved in
between. A log without a state (never rotated by us, or rotated by renaming) is read as it lies,
and there a line ends where its file ends. Nothing here holds more than the block it returns.
"""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import because
from lictor.core.runtime.logs.rotation import recover
from lictor.core.runtime.logs.state import LogState, older_files, open_log, read_state, size_of
from lictor.core.worded import worded

T = TypeVar("T")

#: Bytes read at a time.
BLOCK = 64 * 1024
_PAUSE = 0.003  # seconds between two tries
_OVERDUE = 0.3  # seconds after which the mover may be dead: finish its work
_PATIENCE = 10.0  # seconds until we give up


class Moving(Exception):
    """The log is being rotated at this moment; ask again in some milliseconds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the log in one file: logical `begin`, `length`, and the position in the file."""

    path: Path
    begin: int
    length: int
    position: int = 0

    @property
    def end(self) -> int:
        """The logical offset behind the last byte."""
        return self.begin + self.length


@dataclass(frozen=True, slots=True)
class Row:
    """All that is left of a log, the oldest piece first and the log file itself last.

    `joined`: lines go on from file to file. `torn`: the first byte is not the first of its line.
    `ino` is the inode of the log file (0: there is none). `lost_lines` were thrown away for a full
    disk.
    """

    pieces: tuple[Piece, ...]
    joined: bool
    torn: bool
    ino: int
    lost_lines: int = 0

    @property
    def begin(self) -> int:
        """The logical offset of the oldest byte that is left."""
        return self.pieces[0].begin

    @property
    def end(self) -> int:
        """The logical offset behind the newest byte."""
        return self.pieces[-1].end

    @property
    def newest(self) -> Piece:
        """The log file itself."""
        return self.pieces[-1]


class LogReader:
    """Reads one log; keeps nothing open between two calls.

    `alone`: this file only, whatever else there is. `row` and `read` raise `Moving` while a
    rotation is at work, and `OperationFailed` (`log.refused`) for what is no plain file; the other
    methods wait, so they belong into a thread. A log that is not there is an empty one.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self.path = path
        self._alone = alone
        self._known: tuple[LogState | None, int] | None = None
        self._older: tuple[Piece, ...] = ()

    def row(self) -> Row:
        """What lies where, now."""
        return self._steady(self._row)

    def read(self, offset: int, size: int = BLOCK) -> tuple[int, bytes]:
        """The first bytes from an offset on that are left, and their own offset.

        Never over the end of a file, so there may be more behind them; b"" at the end of the log.
        """

        def block(state: LogState | None) -> tuple[int, bytes]:
            row = self._row(state)
            at = max(offset, row.begin)
            for piece in reversed(row.pieces):
                if piece.begin <= at < piece.end:
                    return at, _pread(piece, at, size)
            return at, b""

        return self._steady(block)

    def settled(self) -> Row:
        """`row`, as soon as nothing moves."""
        return self._patiently(self.row)

    def blocks(self, begin: int, end: int) -> Iterator[bytes]:
        """Everything from `begin` to `end`; what is deleted meanwhile is left out."""
        at = begin
        while at < end:
            at, block = self._patiently(functools.partial(self.read, at, min(BLOCK, end - at)))
            if not block or at >= end:
                return
            yield block[: end - at]
            at += len(block)

    def span(self, begin: int, end: int) -> bytes:
        """What `blocks` gives, in one; for small stretches."""
        return b"".join(self.blocks(begin, end))

    # --- inside ---------------------------------------------------------------------------

    def _steady(self, ask: Callable[[LogState | None], T]) -> T:
        if self._alone:
            return ask(None)
        before = read_state(self.path)
        if before is not None and before.phase:
            raise Moving
        try:
            answer = ask(before)
        except FileNotFoundError:
            # An older file went: to make room, or because only so many are kept.
            self._known = None
            raise Moving from None
        if read_state(self.path) != before:
            raise Moving
        return answer

    def _patiently(self, ask: Callable[[], T]) -> T:
        begun = time.monotonic()
        while True:
            try:
                return ask()
            except Moving:
                waited = time.monotonic() - begun
                if waited > _PATIENCE:
                    moving = because("log.moving", log=self.path.name)
                    raise worded(OperationFailed, moving, code="log.refused") from None
            if waited > _OVERDUE:
                with suppress(OSError):
                    recover(self.path)
            time.sleep(_PAUSE)

    def _row(self, state: LogState | None) -> Row:
        ino, size = _found(self.path)
        if state is not None and ino and (ino != state.ino or state.head > size):
            raise Moving  # replaced or truncated from outside: `recover` sets that right
        if self._known != (state, ino):
            self._older = () if self._alone else self._look(state)
            self._known = (state, ino)
        base = self._older[-1].end if self._older else 0
        head = 0
        if state is not None:
            base, head = state.base, state.head
        newest = Piece(self.path, base, max(0, size - head), head)
        torn = state is not None and state.torn and not self._older
        lost = 0 if state is None else state.lost_lines
        return Row((*self._older, newest), state is not None, torn, ino, lost)

    def _look(self, state: LogState | None) -> tuple[Piece, ...]:
        files = [(path, size_of(path)) for path in older_files(self.path)]
        end = sum(size for _, size in files) if state is None else state.base
        pieces = []
        for path, size in files:
            pieces.append(Piece(path, end - size, size))
            end -= size
        return tuple(reversed(pieces))


def _found(path: Path) -> tuple[int, int]:
    """Inode and size of the log; (0, 0) if there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0, 0
    if not stat.S_ISREG(found.st_mode):
        os.close(open_log(path))  # says in its own words what is wrong
        return 0, 0
    return found.st_ino, found.st_size


def _pread(piece: Piece, at: int, size: int) -> bytes:
    fd = open_log(piece.path)
    try:
        return os.pread(fd, min(size, piece.end - at), piece.position + at - piece.begin)
    finally:
        os.close(fd)
