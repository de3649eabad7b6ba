"""`status` of all services: how long an answer takes, and what it costs the supervisor.

Each peer is asked the way its own tools ask it, but from one process that stays, so that no start
of an interpreter is measured. What the answers hold differs: the table says so.
"""

from __future__ import annotations

import statistics
import time

import common
from contest import Contest
from peers.lictor import Lictor

_CALLS = 100

_HOLDS = {
    "Lictor": "full record, cpu, memory; Unix socket, a connection each",
    "Lictor with Consul, web, checks": "the same",
    "supervisord": "names, pids, states; XML-RPC",
    "circus": "cpu, memory; `stats`, a tenth of the calls",
    "pm2": "full record, cpu, memory; its own RPC from node",
    "runit": "pid, state; no API: a run of `sv status`",
}


def report(contest: Contest, count: int) -> str:
    rows = []
    with contest.all_running(count) as peers:
        contest.settle(3.0)
        for peer in peers:
            cpu = peer.cpu()
            times = peer.status_times(_CALLS)
            if times is None:
                continue
            each = (peer.cpu() - cpu) / len(times)
            fresh = "-"
            if isinstance(peer, Lictor):
                fresh = f"{statistics.median(_fresh(peer)) * 1000:.1f}"
            rows.append(
                [
                    contest.label(peer.title),
                    _HOLDS.get(peer.title, ""),
                    f"{statistics.median(times) * 1000:.1f}",
                    f"{statistics.quantiles(times, n=100)[-1] * 1000:.1f}",
                    f"{each * 1000:.2f}",
                    fresh,
                ]
            )
    head = ["", "what is answered", "p50 ms", "p99 ms", "supervisor's CPU, ms a call"]
    return (
        f"## Status of {count} services\n\n{_CALLS} calls one after another. Lictor samples the "
        "process table at most every two seconds; the last column is the median of calls so far "
        "apart that each samples.\n\n" + common.table([*head, "with a new sample, ms"], rows)
    )


def _fresh(peer: Lictor) -> list[float]:
    times = []
    for _ in range(5):
        time.sleep(2.2)
        begun = time.perf_counter()
        peer.ask("status")
        times.append(time.perf_counter() - begun)
    return times
