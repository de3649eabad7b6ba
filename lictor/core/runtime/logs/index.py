"""When which part of a log was written: a sparse index from the clock to offsets.

Services write lines of any form, with or without a time in them, and nothing stands between them
and their file. So the agent notes, while a log grows, how long it was when (at most about once in
ten seconds), in `.x.log.times` beside the log. From that any program's output has a time range, as
exact as the notes lie close: a range is never too short, and may begin or end some seconds outside.
The file has a bounded size; what is old is kept more coarsely. Losing it loses no line.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from lictor.core.config.units import parse_duration
from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.runtime.logs.blocks import birth
from lictor.core.runtime.logs.state import read_state
from lictor.core.worded import worded

_entry = struct.Struct("<dQ")  # Unix seconds, logical offset
#: Entries in one index at most: 128 KiB.
MOST_ENTRIES = 8192

_CLOCK = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?")

Entry = tuple[float, int]


def index_path(log: Path) -> Path:
    """The index of a log."""
    return log.with_name(f".{log.name}.times")


def entries(log: Path) -> list[Entry]:
    """What was noted, oldest first. Half an entry at the end, after a crash, is passed over."""
    try:
        raw = index_path(log).read_bytes()[: 2 * MOST_ENTRIES * _entry.size]
    except OSError:
        return []
    whole = len(raw) - len(raw) % _entry.size
    found: list[Entry] = list(_entry.iter_unpack(raw[:whole]))
    return found


def beginning(log: Path) -> list[Entry]:
    """What is known of a log of which nothing was noted or deleted yet: when it was made."""
    state = read_state(log)
    born = birth(log) if state is None or (not state.base and not state.phase) else None
    return [] if born is None else [(born, 0)]


def note(log: Path, *new: Entry, oldest: Callable[[], int]) -> None:
    """Add entries: at that time, the log ended at that offset.

    `oldest` tells the offset of the oldest byte that is left; it is asked for when the index is
    written anew, because then what lies before is forgotten. Entries beyond the new offset (the log
    was truncated from outside) go. Raises `OSError`.
    """
    path = index_path(log)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(fd).st_size
        size -= size % _entry.size
        last = os.pread(fd, _entry.size, max(0, size - _entry.size))
        backwards = len(last) == _entry.size and _entry.unpack(last)[1] > new[0][1]
        if not backwards and size // _entry.size + len(new) <= MOST_ENTRIES:
            os.pwrite(fd, b"".join(_entry.pack(*item) for item in new), size)
            return
    finally:
        os.close(fd)
    kept = [item for item in entries(log) if item[1] <= new[0][1]]
    _replace(path, thinned(kept, oldest()) + list(new))


def thinned(kept: list[Entry], oldest: int) -> list[Entry]:
    """Without what was deleted; if that is not enough, every second of the older half goes."""
    # The last entry before the oldest byte still says when that byte cannot have been written yet.
    gone = sum(1 for _, offset in kept if offset < oldest)
    kept = kept[max(0, gone - 1) :]
    if len(kept) > MOST_ENTRIES // 2:
        half = len(kept) // 2
        kept = kept[:half:2] + kept[half:]
    return kept


def _replace(path: Path, kept: list[Entry]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()
    fresh.write_bytes(b"".join(_entry.pack(*item) for item in kept))
    fresh.replace(path)


def offsets(log: Path, since: float | None, until: float | None) -> tuple[int | None, int | None]:
    """The logical offsets between which everything lies that was written from `since` to `until`.

    Unix seconds; None means no limit, in the answer too. Holds whatever the clock did: where it was
    set back, the range is the wider one.
    """
    known = entries(log) or beginning(log)
    begin = end = None
    if since is not None and known:
        later = next((n for n, (at, _) in enumerate(known) if at > since), len(known))
        begin = known[later - 1][1] if later else None
    if until is not None and known:
        earlier = max((n for n, (at, _) in enumerate(known) if at < until), default=-1)
        end = known[earlier + 1][1] if earlier + 1 < len(known) else None
    return begin, end


def moment(text: str, now: float) -> float:
    """Unix seconds of what a person writes, in the local time of this host.

    `10m` (ago), `14:05` (today), `2026-11-21`, `2026-11-21T10:00`, with a zone if wanted. Raises
    `UsageError`.
    """
    text = text.strip()
    with suppress(ValueError):
        if not _is_year(text):
            return now - parse_duration(text)
    with suppress(ValueError, OverflowError, OSError):
        if _CLOCK.fullmatch(text):
            today = datetime.fromtimestamp(now).astimezone().date().isoformat()
            text = f"{today}T{text.rjust(8 if text.count(':') == 2 else 5, '0')}"
        # A bare date or time is meant as the clock on the wall shows it.
        return datetime.fromisoformat(text).astimezone().timestamp()
    example = (datetime.fromtimestamp(now).astimezone() - timedelta(hours=1)).strftime(
        "%Y-%m-%dT%H:%M"
    )
    raise worded(
        UsageError,
        because("ask.no_moment", text=text[:40]),
        hint=because("next.moment", example=example),
    )


def _is_year(text: str) -> bool:
    """`20261121` is a date and not twenty million seconds ago."""
    return len(text) == 8 and text.isdecimal()
