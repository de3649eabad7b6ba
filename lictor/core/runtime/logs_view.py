"""Streams the logs of several services to one caller: the last lines first, then what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lictor.core.runtime.control import Emit
from lictor.core.runtime.log_follow import follow
from lictor.core.runtime.logs import search, tail

_MOST_LINES = 10_000


async def stream_logs(
    paths: Mapping[str, Path], *, lines: int, follow_on: bool, grep: str, emit: Emit
) -> dict[str, Any]:
    """Emit `{"service", "line"}` items; ends at once unless `follow_on`, then never.

    `grep` is a plain substring. The result names the logs that are empty, with their paths.
    """
    count = max(0, min(lines, _MOST_LINES))
    empty: dict[str, str] = {}
    offsets: dict[str, int] = {}
    for name, path in paths.items():
        offsets[name] = await asyncio.to_thread(_size, path)
        found = await asyncio.to_thread(_last, path, count, grep)
        if not found:
            empty[name] = str(path)
        for line in found:
            await emit({"service": name, "line": line})
    if not follow_on:
        return {"empty": empty}

    async def one(name: str, path: Path) -> None:
        async for line in follow(path, offsets[name]):
            if grep in line:
                await emit({"service": name, "line": line})

    async with asyncio.TaskGroup() as group:
        for name, path in paths.items():
            group.create_task(one(name, path))
    return {"empty": empty}


def _last(path: Path, count: int, grep: str) -> list[str]:
    if not path.exists():
        return []
    return search([path], grep, count) if grep else tail(path, count)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
