"""What a supervisor costs while nothing happens: CPU a minute, memory, and memory a service.

All contestants are up at once with all their services; windows of the same length, after they came
to rest. No probes but Consul's own in the row that says so, no viewer.
"""

from __future__ import annotations

import statistics
import time

import common
from contest import Contest
from peers.peer import Peer

_WINDOW = 30.0  # seconds
_REST = 12.0
_FEW = 20


def sizes(contest: Contest, count: int) -> dict[str, int]:
    """Bytes of every contestant at rest with `count` services."""
    with contest.all_running(count) as peers:
        contest.settle(_REST)
        return {peer.title: peer.memory() for peer in peers}


def windows(peers: list[Peer], number: int) -> dict[str, list[float]]:
    """CPU seconds a minute in each window."""
    used: dict[str, list[float]] = {peer.title: [] for peer in peers}
    for _ in range(number):
        before = {peer.title: (peer.cpu(), time.monotonic()) for peer in peers}
        time.sleep(_WINDOW)
        for peer in peers:
            cpu, at = before[peer.title]
            used[peer.title].append((peer.cpu() - cpu) * 60 / (time.monotonic() - at))
    return used


def report(contest: Contest, count: int) -> str:
    few = sizes(contest, _FEW)
    with contest.all_running(count) as peers:
        contest.settle(_REST)
        used = windows(peers, 2)
        many = {peer.title: peer.memory() for peer in peers}
    rows = [
        [
            contest.label(name),
            f"{statistics.median(values):.3f}",
            f"{few[name] / 2**20:.1f}",
            f"{many[name] / 2**20:.1f}",
            f"{(many[name] - few[name]) / (count - _FEW) / 1000:.1f}",
        ]
        for name, values in used.items()
    ]
    head = ["", f"CPU s a minute, {count} services", f"RSS MiB, {_FEW}", f"RSS MiB, {count}"]
    return (
        f"## At rest\n\nThe supervisor's own processes only; {count} services, all contestants up at "
        f"once, the median of two windows of {_WINDOW:.0f} s. The last column is the growth from "
        f"{_FEW} to {count} services, divided.\n\n" + common.table([*head, "kB a service"], rows)
    )
