"""What pages that are left open cost the agent while nothing happens, beyond looking at its processes.

A viewer here does what the dashboard does: it listens to the stream of states, and asks for the whole
and for the sparklines every fifteen seconds. Windows without viewers, with one and with three take
turns, so that another program on the machine disturbs all alike. Sampling (one pass over the process
table every two seconds, for whoever looks) is timed by itself, with the same processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import common

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.probes.host import ProcUsage

_WINDOW = 20.0  # seconds
_TURNS = 3
_POLL = 15.0  # seconds between two requests of a page
_PASSES = 0.5  # of sampling, a second, while somebody looks
_TRIED = 200


def report(url: str, token: str, cpu: Callable[[], float]) -> str:
    """The section; `cpu` gives the seconds of CPU that the agent has used."""
    used: dict[int, list[float]] = {0: [], 1: [], 3: []}
    for _ in range(_TURNS):
        for count, found in used.items():
            found.append(asyncio.run(_window(url, token, cpu, count)))
    medians = {count: statistics.median(found) for count, found in used.items()}
    sampling = asyncio.run(_sampling(url, token)) * _PASSES
    rows = [
        [
            {0: "nobody looks", 1: "one viewer", 3: "three viewers"}[count],
            f"{share * 100:.2f} %",
            f"{sampling * 100:.2f} %" if count else "-",
            f"{(share - medians[0] - sampling) * 100:.2f} %" if count else "-",
        ]
        for count, share in medians.items()
    ]
    head = ["", "of one core", "sampling alone", "beyond both"]
    return (
        f"### Pages that are left open\n\nCPU of the agent while nothing happens; the median of "
        f"{_TURNS} windows of {_WINDOW:g} s. The last column is without what the agent costs when "
        f"nobody looks and without sampling.\n\n" + common.table(head, rows) + "\n"
    )


async def _window(url: str, token: str, cpu: Callable[[], float], count: int) -> float:
    """The share of a core that the agent uses with so many viewers."""
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
        viewers = [asyncio.ensure_future(_viewer(session)) for _ in range(count)]
        await asyncio.sleep(2.0)  # the first answers
        before, begun = cpu(), time.monotonic()
        await asyncio.sleep(_WINDOW)
        share = (cpu() - before) / (time.monotonic() - begun)
        for viewer in viewers:
            if viewer.done():
                viewer.result()
            viewer.cancel()
        await asyncio.gather(*viewers, return_exceptions=True)
        return share


async def _viewer(session: aiohttp.ClientSession) -> None:
    async def ask() -> None:
        while True:
            for path in ("/admin/services/status", "/admin/dashboard/history"):
                async with session.get(path) as answer:
                    await answer.read()
                    assert answer.status == 200
            await asyncio.sleep(_POLL)

    asking = asyncio.ensure_future(ask())
    try:
        async with session.get("/admin/services/stream") as answer:
            assert answer.status == 200
            async for _ in answer.content.iter_any():
                pass
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


async def _sampling(url: str, token: str) -> float:
    """Seconds of CPU of one pass over the process table, with the agent's services."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(url, headers=headers) as session,
        session.get("/admin/services/status") as answer,
    ):
        rows: dict[str, Any] = (await answer.json())["services"]
    roots = {
        ServiceKey(name): Identity(row["pid"], _start(row["pid"]), "")
        for name, row in rows.items()
        if row["pid"]
    }
    usage = ProcUsage()
    usage.sample(roots, max_age=-1.0)
    begun = time.process_time()
    for _ in range(_TRIED):
        usage.sample(roots, max_age=-1.0)
    return (time.process_time() - begun) / _TRIED


def _start(pid: int) -> int:
    """When a process began (proc(5), field 22)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
