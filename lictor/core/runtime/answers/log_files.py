"""The log files that people may read from afar: which there are, a page of one, and what comes.

A log is asked for by a name of this list and by nothing else, so no text of a caller ever becomes
part of a path. Besides the log that a service writes by itself there are the files that its
definition names under `logs`; `service:file` is their name. Reading goes through `logs`
and its `pieces`: plain files only, visible characters only, bounded memory. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lictor.core.errors import LictorError, UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.services_view import moment
from lictor.core.runtime.control import Emit
from lictor.core.runtime.logs.follow import follow_marked
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.logs.reading import last_line_end, lines_between, tail, window
from lictor.core.worded import worded

MOST_LINES = 10_000  # of one page
_LONGEST_SEARCH = 1_000  # characters
_MOST_BYTES = 1024 * 1024  # of one page
_COUNTED = 256 * 1024 * 1024  # bytes that are looked through for a search or a count


class NoSuchLog(LictorError):
    """There is no log of that name on this host."""

    code = "log.unknown"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class LogFile:
    """One log: its name here, its service, and where it lies."""

    name: str
    service: ServiceKey
    path: Path


class LogFiles:
    """The operations `log_files` and `log_page`; `stream` for those who follow."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"log_files": self._files, "log_page": self._page}

    def every(self) -> list[LogFile]:
        """All logs of all services of this host."""
        found: dict[str, LogFile] = {}
        for key, runner in self._agent.reconciler.runners.items():
            path = runner.log_path()
            if path is not None:
                found[str(key)] = LogFile(str(key), key, path)
            for extra in runner.spec.logs:
                where = Path(runner.spec.cwd) / extra
                name = f"{key}:{where.name}"
                found.setdefault(name, LogFile(name, key, where))
        return list(found.values())

    def named(self, name: str) -> LogFile:
        """The log of that name (`piper`, `piper.log`, `piper:extra.log`); raises `NoSuchLog`."""
        every = {one.name: one for one in self.every()}
        found = every.get(name) or every.get(name.removesuffix(".log"))
        if found is None:
            try:
                found = every.get(str(ServiceKey.parse(name)))
            except ValueError:
                found = None
        if found is None:
            raise worded(NoSuchLog, because("log.none", name=name[:80]))
        return found

    async def _files(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return await asyncio.to_thread(lambda: [_described(one) for one in self.every()])

    async def _page(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """The last `lines` lines, or those before the last `offset` ones, that hold `search`."""
        one = self.named(str(args.get("name") or ""))
        lines, offset = args.get("lines", 100), args.get("offset", 0)
        search = str(args.get("search") or "")
        if not isinstance(lines, int) or not isinstance(offset, int):
            raise worded(UsageError, because("ask.page_numbers"))
        if not 0 <= lines <= MOST_LINES or offset < 0 or len(search) > _LONGEST_SEARCH:
            limits = because("ask.page_limits", most=MOST_LINES, longest=_LONGEST_SEARCH)
            raise worded(UsageError, limits)
        return await asyncio.to_thread(_read_page, one, lines, offset, search)

    async def stream(
        self, name: str, *, mark: str | None, search: str = ""
    ) -> AsyncIterator[tuple[str, str]]:
        """`(mark, line)` of each new line, for ever; `mark` of an earlier one: those after it."""
        one = self.named(name)
        at, skip = _parse_mark(mark)
        async for place, line in follow_marked(one.path, at, skip):
            if search in line:
                yield place, line


def _parse_mark(mark: str | None) -> tuple[int | None, int]:
    """`81920+3`: begin at byte 81920 and pass over three lines. What is no mark is none."""
    offset, plus, count = (mark or "").partition("+")
    if not offset.isascii() or not offset.isdecimal() or len(offset) > 18:
        return None, 0
    known = plus and count.isascii() and count.isdecimal() and len(count) < 9
    return int(offset), int(count) if known else 0


def _described(one: LogFile) -> dict[str, Any]:
    row: dict[str, Any] = {"name": one.name, "service": str(one.service), "path": str(one.path)}
    try:
        found = one.path.stat()
    except OSError:
        return {**row, "size": 0, "modified": None, "exists": False}
    return {**row, "size": found.st_size, "modified": moment(found.st_mtime), "exists": True}


def _read_page(one: LogFile, lines: int, offset: int, search: str) -> dict[str, Any]:
    reader = LogReader(one.path)
    first, last = window(reader, None, None)
    end = last_line_end(reader, first, last)
    first = max(first, last - _COUNTED)
    if search:
        count = sum(search in line for line in lines_between(reader, first, last))
    else:
        count = _count(reader, first, last)
    if search or offset:
        page = _between(reader, first, last, search, (count - offset - lines, count - offset))
    else:
        page = tail(one.path, lines, _MOST_BYTES, begin=first, end=last)
    return {
        "logfile": one.name,
        "service": str(one.service),
        "lines": page,
        "offset": offset,
        "search": search,
        "total_lines": count,
        "more": count > offset + len(page),
        "position": f"{end}+0",
        "empty": None if page else _why_empty(one, count, search),
    }


def _between(
    reader: LogReader, begin: int, end: int, search: str, wanted: tuple[int, int]
) -> list[str]:
    """The lines that hold `search` whose number is in `wanted`; the newest of them, if too many."""
    kept: deque[str] = deque()
    size = number = 0
    for line in lines_between(reader, begin, end):
        if search not in line:
            continue
        if wanted[0] <= number < wanted[1]:
            kept.append(line)
            size += len(line)
            while size > _MOST_BYTES:
                size -= len(kept.popleft())
        number += 1
        if number >= wanted[1]:
            break
    return list(kept)


def _count(reader: LogReader, begin: int, end: int) -> int:
    count, last = 0, b"\n"
    for block in reader.blocks(begin, end):
        count += block.count(b"\n")
        last = block[-1:]
    return count + (last != b"\n")


def _why_empty(one: LogFile, count: int, search: str) -> str:
    if search:
        return "search"
    if not one.path.exists():
        return "missing"
    return "empty" if not count else "past_the_beginning"
