"""Follows a log as its service writes it, over rotation, truncation and removal.

The place that was read last is a logical offset (`pieces`), so that it does not matter in which
file the byte lies by now, nor how often the log was rotated between two looks. Looking is a stat
and a read of new bytes; nothing stays open between two looks, and at most one block and one line
are held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from lictor.core.runtime.logs.pieces import LogReader, Moving, Row
from lictor.core.runtime.logs.reading import Lines

_POLL = 0.2  # seconds between looks at a file that has just grown
_POLL_IDLE = 1.0  # seconds, at most, between looks at a quiet one
_MOVING = 0.02  # seconds until a rotation has probably ended


async def follow(path: Path, from_offset: int | None = None) -> AsyncIterator[str]:
    """Every line that is written from now on, for ever; close the iterator to end it.

    `from_offset`: the logical offset to begin at (None: the end of the log). Looked at every 0.2 s,
    and less often, down to once a second, while it is quiet. Goes on through our own rotation
    without losing or repeating a byte, through rotation by renaming to `.1`, `.2` and so on (what
    was still written to the older files comes first), truncation, removal, and a file that comes
    only later. A line is given when its end was written, or its file is over. What was deleted
    before it could be read is left out. Raises `OperationFailed` when the path is no plain file.
    """
    async for _, line in follow_marked(path, from_offset):
        yield line


async def follow_marked(
    path: Path, from_offset: int | None = None, skip: int = 0
) -> AsyncIterator[tuple[str, str]]:
    """The same with a mark beside each line, `<offset>+<n>`: n lines after the one at the offset.

    Whoever begins again at that offset and passes over n lines (`skip`) goes on behind this one.
    """
    follower = _Follower(path, from_offset)
    wait = _POLL
    while True:
        grown = False
        try:
            for begin, lines in follower.news():
                grown = True
                for number, line in enumerate(lines, start=1):
                    if skip:
                        skip -= 1
                        continue
                    yield f"{begin}+{number}", line
                # A flood must not keep the loop from its other work.
                await asyncio.sleep(0)
        except Moving:
            await asyncio.sleep(_MOVING)
            continue
        wait = _POLL if grown else min(wait * 1.5, _POLL_IDLE)
        await asyncio.sleep(wait)


class _Follower:
    """How far a log was read, and half a line."""

    def __init__(self, path: Path, offset: int | None) -> None:
        self._reader = LogReader(path)
        self._at = offset
        self._ino = 0
        self._line_at = offset or 0  # where the line begins of which a part was read
        self._lines = Lines()

    def news(self) -> Iterator[tuple[int, list[str]]]:
        """Everything new, a block at a time, and where its first line begins.

        Raises `Moving`; what was given counts as read.
        """
        row = self._reader.row()
        if self._at is None:
            self._at = self._line_at = row.end
        self._at = max(0, self._at)
        if self._at > row.end or (row.joined and self._ino not in {0, row.ino} and row.ino):
            # Truncated or replaced: what it holds now was never read.
            self._at = row.newest.begin
            yield self._over(self._at)
        if row.ino:
            self._ino = row.ino
        while True:
            if self._at_seam(row):
                yield self._over(self._at)
            begin, block = self._reader.read(self._at)
            if not block:
                return
            if begin > self._at:
                yield self._over(begin)
            self._at = begin + len(block)
            lines, line_at = list(self._lines.feed(block)), self._line_at
            if b"\n" in block:
                self._line_at = begin + block.rfind(b"\n") + 1
            yield line_at, lines

    def _over(self, at: int) -> tuple[int, list[str]]:
        """The half line that will not be ended any more; the next one begins at `at`."""
        before, self._line_at = self._line_at, at
        return before, list(self._lines.end())

    def _at_seam(self, row: Row) -> bool:
        """Whether the next byte lies in another file than the last, and lines end with files."""
        return not row.joined and any(piece.begin == self._at for piece in row.pieces[1:])
