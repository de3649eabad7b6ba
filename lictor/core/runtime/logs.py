r"""Reading what services print, with bounded memory and no trust.

A service writes to its own file, past the agent; here is how people get to see it: the last lines,
a search, and a stream that follows the file over rotation and truncation. What is read is bytes
from somebody who may be hostile, so every line that leaves here is one line of visible characters
(`\x1b` for an escape), lines over 16 KB are cut with a mark, and only plain files are opened: never
a link, a fifo, a device or a folder. This module never writes, and never holds more of a file than
it returns.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from lictor.core.errors import OperationFailed
from lictor.core.probes.text import visible

#: Longer lines are cut here, in bytes.
LINE_LIMIT = 16 * 1024
_BLOCK = 64 * 1024
_MOST_LINES = 10_000
_MOST_BYTES = 1024 * 1024
_SEARCH_BYTES = 256 * 1024 * 1024
_POLL = 0.2  # seconds between looks at a file that has just grown
_POLL_IDLE = 1.0  # seconds, at most, between looks at a quiet one


def safe_line(raw: bytes | str) -> str:
    """One line that can be shown anywhere: UTF-8 (bad bytes as U+FFFD), controls made visible.

    The line end is taken off; what is longer than `LINE_LIMIT` bytes is cut, and says so.
    """
    data = raw.encode("utf-8", errors="replace") if isinstance(raw, str) else raw
    if data.endswith(b"\n"):
        data = data[:-1]
    if data.endswith(b"\r"):
        data = data[:-1]
    more = len(data) - LINE_LIMIT
    return visible(data) if more <= 0 else _cut(data[:LINE_LIMIT], more)


def _cut(head: bytes, more: int) -> str:
    return f"{visible(head)} … [{more} bytes cut]"


class Lines:
    """Cuts blocks of bytes into safe lines; holds at most one line of at most `LINE_LIMIT`."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._cut = 0

    def feed(self, block: bytes) -> Iterator[str]:
        """The lines that `block` completes."""
        *whole, rest = block.split(b"\n")
        for piece in whole:
            if self._held or self._cut:
                self._hold(piece)
                yield self._take()
            else:
                yield safe_line(piece)
        self._hold(rest)

    def end(self) -> Iterator[str]:
        """What is left without a line end, if anything."""
        if self._held or self._cut:
            yield self._take()

    def _hold(self, piece: bytes) -> None:
        room = LINE_LIMIT - len(self._held)
        self._held += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> str:
        held, more = bytes(self._held), self._cut
        self._held.clear()
        self._cut = 0
        return _cut(held, more) if more else safe_line(held)


def open_log(path: Path) -> int:
    """A descriptor for reading a plain file.

    Raises `FileNotFoundError`, and `OperationFailed` (`log.refused`) for everything that is no
    plain file or may not be read.
    """
    # O_NONBLOCK: a fifo must not hold us until somebody writes to it.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(path) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _refused(path)
    return fd


def _refused(path: Path) -> OperationFailed:
    return OperationFailed(
        f"The log {path.name} is not a plain file that can be read.", code="log.refused"
    )


@contextmanager
def _reading(path: Path) -> Iterator[int]:
    fd = open_log(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _blocks(fd: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        block = os.pread(fd, min(_BLOCK, end - begin), begin)
        if not block:
            return
        begin += len(block)
        yield block


class _Newest:
    """Keeps the newest lines, by number and by size."""

    def __init__(self, lines: int, size: int) -> None:
        self._lines = max(0, min(lines, _MOST_LINES))
        self._size = size
        self._used = 0
        self._kept: deque[str] = deque()

    def add(self, line: str) -> None:
        self._kept.append(line)
        self._used += len(line)
        while self._kept and (len(self._kept) > self._lines or self._used > self._size):
            self._used -= len(self._kept.popleft())

    def all(self) -> list[str]:
        return list(self._kept)


def tail(path: Path, lines: int, max_bytes: int = _MOST_BYTES) -> list[str]:
    """The last lines of a file, oldest first; at most 10,000, and what `max_bytes` of it hold.

    A last line without a line end counts. A file that is not there is an empty one. Raises
    `OperationFailed` for what is no plain file.
    """
    if lines <= 0:
        return []
    try:
        with _reading(path) as fd:
            size = os.fstat(fd).st_size
            begin = _begin_of_last(fd, size, min(lines, _MOST_LINES), max_bytes)
            kept, cutter = _Newest(lines, 2 * max_bytes + LINE_LIMIT), Lines()
            for block in _blocks(fd, begin, size):
                for line in cutter.feed(block):
                    kept.add(line)
            for line in cutter.end():
                kept.add(line)
            return kept.all()
    except FileNotFoundError:
        return []


def _begin_of_last(fd: int, size: int, lines: int, max_bytes: int) -> int:
    """Where the last `lines` lines begin, reading backwards no further than `max_bytes`."""
    floor = max(0, size - max_bytes)
    at, wanted, first = size, lines, None
    while at > floor:
        begin = max(floor, at - _BLOCK)
        block = os.pread(fd, at - begin, begin)
        # The newline at the very end of the file ends the last line; it does not begin another.
        stop = len(block) - 1 if at == size and block.endswith(b"\n") else len(block)
        while (found := block.rfind(b"\n", 0, stop)) >= 0:
            first, stop, wanted = begin + found + 1, found, wanted - 1
            if wanted == 0:
                return first
        at = begin
    # Fewer lines than asked. If the limit cut into a line, begin with the first whole one.
    return first if floor > 0 and first is not None else floor


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines that say something, to tell why a child died; [] if there are none.

    Never raises: an explanation that cannot be read must not hide what it was to explain.
    """
    try:
        said = [line for line in tail(path, 4 * count + 20, _BLOCK) if line.strip()]
    except (OSError, OperationFailed):
        return []
    return said[-count:] if count > 0 else []


def rotated(path: Path) -> list[Path]:
    """The log and its older files that exist, oldest first: `x.log.2`, `x.log.1`, `x.log`."""
    older = [
        item
        for item in path.parent.glob(f"{path.name}.*")
        if item.name.removeprefix(f"{path.name}.").isdigit()
    ]
    older.sort(key=lambda item: int(item.name.rpartition(".")[2]), reverse=True)
    return [*older, *([path] if path.exists() else [])]


def search(
    paths: Path | Iterable[Path],
    needle: str,
    lines: int,
    *,
    ignore_case: bool = False,
    max_bytes: int = _MOST_BYTES,
) -> list[str]:
    """The newest `lines` lines that hold `needle`, oldest first.

    One path means the log with its rotated files; several are read as given, oldest first. A plain
    substring, never a pattern, so no text can make the search slow; it is looked for in the line as
    it is shown. At most the newest 256 MiB of a file are read and `max_bytes` returned. Files that
    are not there are passed over; raises `OperationFailed` for what is no plain file.
    """
    files = rotated(paths) if isinstance(paths, Path) else list(paths)
    wanted = needle.casefold() if ignore_case else needle
    found: list[str] = []
    for path in reversed(files):
        left = min(lines, _MOST_LINES) - len(found)
        room = max_bytes - sum(map(len, found))
        if left <= 0 or room <= 0:
            break
        kept = _Newest(left, room)
        for line in _all_lines(path):
            if wanted in (line.casefold() if ignore_case else line):
                kept.add(line)
        found = kept.all() + found
    return found


def _all_lines(path: Path) -> Iterator[str]:
    cutter = Lines()
    try:
        with _reading(path) as fd:
            size = os.fstat(fd).st_size
            for block in _blocks(fd, max(0, size - _SEARCH_BYTES), size):
                yield from cutter.feed(block)
            yield from cutter.end()
    except FileNotFoundError:
        return


async def follow(path: Path, from_offset: int | None = None) -> AsyncIterator[str]:
    """Every line that is written from now on, for ever; close the iterator to end it.

    `from_offset`: the byte to begin at (None: the end of the file). Looked at every 0.2 s, and less
    often, down to once a second, while it is quiet. Goes on through rotation by renaming to `.1`, `.2`
    and so on (what was still written to the older files comes first), truncation, removal, and a file that comes only
    later. A line is given when its end was written, or its file is over. Raises `OperationFailed`
    when the path is no plain file.
    """
    follower = _Follower(path, from_offset)
    wait = _POLL
    try:
        while True:
            grown = False
            for block in follower.blocks():
                grown = True
                for line in block:
                    yield line
                # A flood must not keep the loop from its other work.
                await asyncio.sleep(0)
            wait = _POLL if grown else min(wait * 1.5, _POLL_IDLE)
            await asyncio.sleep(wait)
    finally:
        follower.close()


class _Follower:
    """One file being followed: the descriptor that is open, how far it was read, half a line."""

    def __init__(self, path: Path, offset: int | None) -> None:
        self._path = path
        self._fd = -1
        self._at = 0
        self._lines = Lines()
        try:
            self._fd = open_log(path)
        except FileNotFoundError:
            return
        self._at = os.fstat(self._fd).st_size if offset is None else max(0, offset)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def blocks(self) -> Iterator[list[str]]:
        """Everything new, a block at a time: first of the open file, then of its successor."""
        while True:
            # Asked before reading: what the old file gets after this, nobody renamed under us.
            moved = self._moved()
            yield from self._new()
            if not moved or not self._reopen():
                return
            yield list(self._lines.end())

    def _new(self) -> Iterator[list[str]]:
        if self._fd < 0:
            return
        size = os.fstat(self._fd).st_size
        if size < self._at:
            self._at = 0
            yield list(self._lines.end())
        while block := os.pread(self._fd, _BLOCK, self._at):
            self._at += len(block)
            yield list(self._lines.feed(block))

    def _moved(self) -> bool:
        """Whether the name now belongs to another file."""
        try:
            named = self._path.lstat()
        except OSError:
            return False
        if self._fd < 0:
            return True
        mine = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) != (mine.st_dev, mine.st_ino)

    def _successor(self) -> Path:
        """The file after ours: there may have been several rotations since the last look."""
        if self._fd >= 0:
            mine = os.fstat(self._fd).st_ino
            files = rotated(self._path)
            for file, following in pairwise(files):
                if file.lstat().st_ino == mine:
                    return following
        return self._path

    def _reopen(self) -> bool:
        try:
            fresh = open_log(self._successor())
        except FileNotFoundError:
            return False
        self.close()
        self._fd, self._at = fresh, 0
        return True
