"""Streams the logs of several services to one caller: what there is first, then what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.runtime.control import Emit
from lictor.core.runtime.logs import index as log_index
from lictor.core.runtime.logs.follow import follow
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.logs.reading import last_line_end, lines_between, search, tail, window
from lictor.core.worded import worded

_MOST_LINES = 10_000
_LINES = 100  # without a time range
_BATCH = 500  # lines that are read in a thread at a time


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants to see. `grep` is a plain substring; `since` and `until` Unix seconds.

    `lines` None: everything in the range if there is one, else the last hundred.
    """

    lines: int | None = None
    grep: str = ""
    since: float | None = None
    until: float | None = None
    follow: bool = False

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Wanted:
        """From the arguments of the operation; raises `UsageError`."""
        now = time.time()
        since, until = (
            log_index.moment(str(text), now) if (text := args.get(word)) else None
            for word in ("since", "until")
        )
        lines, follow_on = args.get("lines"), bool(args.get("follow"))
        if lines is not None and (not isinstance(lines, int) or isinstance(lines, bool)):
            raise worded(UsageError, because("ask.lines_number"))
        if follow_on and until is not None:
            raise worded(UsageError, because("ask.until_or_follow"))
        if since is not None and until is not None and until < since:
            raise worded(UsageError, because("ask.range_backwards"))
        return cls(lines, str(args.get("grep") or ""), since, until, follow_on)


async def stream_logs(paths: Mapping[str, Path], wanted: Wanted, emit: Emit) -> dict[str, Any]:
    """Emit `{"service", "line"}` items; ends at once unless it is to follow, then never.

    The result names the logs that have nothing to show, with their paths, and what had to be
    thrown away of them because the disk was full.
    """
    empty: dict[str, str] = {}
    lost: dict[str, int] = {}
    offsets: dict[str, int] = {}
    for name, path in paths.items():
        offsets[name], said = 0, False
        source = await asyncio.to_thread(_Source, path, wanted)
        offsets[name] = source.end
        while batch := await asyncio.to_thread(source.batch):
            said = True
            for line in batch:
                await emit({"service": name, "line": line})
        if not said:
            empty[name] = str(path)
        if source.lost_lines:
            lost[name] = source.lost_lines
    result = {"empty": empty, "lost": lost}
    if not wanted.follow:
        return result

    async def one(name: str, path: Path) -> None:
        async for line in follow(path, offsets[name]):
            if wanted.grep in line:
                await emit({"service": name, "line": line})

    async with asyncio.TaskGroup() as group:
        for name, path in paths.items():
            group.create_task(one(name, path))
    return result


class _Source:
    """What one log has to show, in batches; all of it belongs into a thread."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        reader = LogReader(path)
        self.lost_lines = reader.settled().lost_lines
        ranged = wanted.since is not None or wanted.until is not None
        first, last = window(reader, *log_index.offsets(path, wanted.since, wanted.until))
        if wanted.follow:
            # A line that is being written belongs, as a whole, to what follows.
            last = last_line_end(reader, first, last)
        self.end = last
        count = wanted.lines if ranged else _LINES if wanted.lines is None else wanted.lines
        self._lines: Iterator[str]
        if count is None:
            lines = lines_between(reader, first, last)
            self._lines = (line for line in lines if wanted.grep in line)
        elif wanted.grep:
            self._lines = iter(search(path, wanted.grep, count, begin=first, end=last))
        else:
            self._lines = iter(tail(path, min(count, _MOST_LINES), begin=first, end=last))

    def batch(self) -> list[str]:
        """The next lines; [] when there are no more."""
        return list(islice(self._lines, _BATCH))
