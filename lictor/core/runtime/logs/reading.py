r"""Reading what services print, with bounded memory and no trust.

A service writes to its own file, past the agent; here is how people get to see it: the last lines,
and a search (`follow` has the stream of what comes). What is read is bytes from somebody who may be
hostile, so every line that leaves here is one line of visible characters (`\x1b` for an escape), lines
over 16 KB are cut with a mark, and only plain files are opened: never a link, a fifo, a device or a
folder. This module never writes, and never holds more of a file than it returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from lictor.core.errors import OperationFailed
from lictor.core.probes.text import visible
from lictor.core.runtime.logs.pieces import BLOCK, LogReader
from lictor.core.runtime.logs.state import older_files

#: Longer lines are cut here, in bytes.
LINE_LIMIT = 16 * 1024
_MOST_LINES = 10_000
_MOST_BYTES = 1024 * 1024
_SEARCH_BYTES = 256 * 1024 * 1024


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


def tail(
    path: Path,
    lines: int,
    max_bytes: int = _MOST_BYTES,
    *,
    begin: int | None = None,
    end: int | None = None,
) -> list[str]:
    """The last lines of a log, oldest first; at most 10,000, and what `max_bytes` of it hold.

    Goes on in the older files where the newest holds too few. `begin` and `end` are logical offsets
    (`pieces`) between which lines must begin; without them, all there is. A last line without a
    line end counts. A file that is not there is an empty one. Raises `OperationFailed` for what is
    no plain file.
    """
    return _tail(LogReader(path), lines, max_bytes, begin=begin, end=end)


def _tail(
    reader: LogReader, lines: int, max_bytes: int, *, begin: int | None, end: int | None
) -> list[str]:
    if lines <= 0:
        return []
    first, last = window(reader, begin, end)
    at = _begin_of_last(reader, first, last, min(lines, _MOST_LINES), max_bytes)
    kept = _Newest(lines, 2 * max_bytes + LINE_LIMIT)
    for line in lines_between(reader, at, last):
        kept.add(line)
    return kept.all()


def window(reader: LogReader, begin: int | None, end: int | None) -> tuple[int, int]:
    """The offsets of the lines that begin between `begin` and `end`, by whole lines.

    A log that was rotated by somebody else's renaming has only its newest file here.
    """
    row = reader.settled()
    oldest = row.begin if row.joined else row.newest.begin
    first = max(oldest, begin if begin is not None else oldest)
    if first > oldest or row.torn:
        first = _line_begin(reader, first, row.end, torn=row.torn and first <= oldest)
    if end is None or end >= row.end:
        return first, row.end
    return first, max(first, _line_begin(reader, max(oldest, end), row.end, torn=False))


def _line_begin(reader: LogReader, at: int, end: int, *, torn: bool) -> int:
    """Where the first line begins that begins at `at` or later; `end` if none does."""
    if at <= 0 or at >= end:
        return min(max(0, at), end)
    if not torn and reader.span(at - 1, at) == b"\n":
        return at
    for block in reader.blocks(at, end):
        found = block.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(block)
    return end


def last_line_end(reader: LogReader, begin: int, end: int) -> int:
    """Where the last whole line ends that lies in a stretch (`begin`, if none does)."""
    at = end
    while at > begin:
        start = max(begin, at - BLOCK)
        found = reader.span(start, at).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return begin


def lines_between(reader: LogReader, begin: int, end: int) -> Iterator[str]:
    """The lines in a stretch that begins and ends with whole lines."""
    cutter = Lines()
    for block in reader.blocks(begin, end):
        yield from cutter.feed(block)
    yield from cutter.end()


def _begin_of_last(reader: LogReader, begin: int, end: int, lines: int, max_bytes: int) -> int:
    """Where the last `lines` lines begin, reading backwards no further than `max_bytes`."""
    floor = max(begin, end - max_bytes)
    at, wanted, first = end, lines, None
    while at > floor:
        start = max(floor, at - BLOCK)
        block = reader.span(start, at)
        # The newline at the very end of the log ends the last line; it does not begin another.
        stop = len(block) - 1 if at == end and block.endswith(b"\n") else len(block)
        while (found := block.rfind(b"\n", 0, stop)) >= 0:
            first, stop, wanted = start + found + 1, found, wanted - 1
            if wanted == 0:
                return first
        at = start
    # Fewer lines than asked. If the limit cut into a line, begin with the first whole one.
    return first if floor > begin and first is not None else floor


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines that say something, to tell why a child died; [] if there are none.

    Never raises, and never waits: an explanation that cannot be read must not hide what it was to
    explain, nor hold the loop. So it looks at the newest file only.
    """
    reader = LogReader(path, alone=True)
    try:
        found = _tail(reader, 4 * count + 20, BLOCK, begin=None, end=None)
    except (OSError, OperationFailed):
        return []
    said = [line for line in found if line.strip()]
    return said[-count:] if count > 0 else []


def last_line(path: Path | None) -> str | None:
    """The last of these; None if there is none."""
    lines = last_lines(path, 1) if path is not None else []
    return lines[-1] if lines else None


def rotated(path: Path) -> list[Path]:
    """The log and its older files that exist, oldest first: `x.log.2`, `x.log.1`, `x.log`."""
    return [*reversed(older_files(path)), *([path] if path.exists() else [])]


def search(
    paths: Path | Iterable[Path],
    needle: str,
    lines: int,
    *,
    ignore_case: bool = False,
    max_bytes: int = _MOST_BYTES,
    begin: int | None = None,
    end: int | None = None,
) -> list[str]:
    """The newest `lines` lines that hold `needle`, oldest first.

    One path means the log with its older files, and `begin` and `end` as for `tail`; several are
    read as given, oldest first. A plain substring, never a pattern, so no text can make the search
    slow; it is looked for in the line as it is shown. At most the newest 256 MiB of a file are read
    and `max_bytes` returned. Files that are not there are passed over; raises `OperationFailed` for
    what is no plain file.
    """
    wanted = needle.casefold() if ignore_case else needle
    found: list[str] = []
    for reader, first, last in _stretches(paths, begin, end):
        left = min(lines, _MOST_LINES) - len(found)
        room = max_bytes - sum(map(len, found))
        if left <= 0 or room <= 0:
            break
        kept = _Newest(left, room)
        for line in lines_between(reader, max(first, last - _SEARCH_BYTES), last):
            if wanted in (line.casefold() if ignore_case else line):
                kept.add(line)
        found = kept.all() + found
    return found


def _stretches(
    paths: Path | Iterable[Path], begin: int | None, end: int | None
) -> Iterator[tuple[LogReader, int, int]]:
    """What is to be read, the newest first: a file at a time, but by whole lines."""
    if not isinstance(paths, Path):
        for path in reversed(list(paths)):
            reader = LogReader(path, alone=True)
            yield reader, 0, reader.settled().end
        return
    reader = LogReader(paths)
    row = reader.settled()
    if not row.joined:
        for piece in reversed(row.pieces):
            yield reader, piece.begin, piece.end if end is None else min(end, piece.end)
        return
    first, last = window(reader, begin, end)
    for piece in reversed(row.pieces):
        if first < last and piece.begin < last:
            here = max(first, piece.begin)
            if here > first:
                here = _line_begin(reader, here, last, torn=False)
            yield reader, here, last
            last = here
