"""Registration of many services, beside a bare client that keeps 16 calls under way."""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from pathlib import Path

import common
from consul_server import Consul
from crowd import crowd

_ROUNDS = 5


def report(top: Path, where: Consul, count: int) -> list[str]:
    """Seconds from the first of ours in Consul to all of them passing; a bare client's for the same."""
    bare: list[float] = []
    ours: list[float] = []
    whole: list[float] = []
    for number in range(_ROUNDS):
        bare.append(_bare(where, count))
        took, since_exec = _ours(top / f"many{number}", where, count)
        ours.append(took)
        whole.append(since_exec)
    ratios = sorted(one / other for one, other in zip(ours, bare, strict=True))
    return [
        f"{count} services registered and passing in the catalog, medians of {_ROUNDS}",
        f"{statistics.median(ours) * 1000:.0f} (from exec: {statistics.median(whole) * 1000:.0f})",
        f"{statistics.median(bare) * 1000:.0f}, a bare client, 16 calls at a time",
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})",
    ]


def _ours(folder: Path, where: Consul, count: int) -> tuple[float, float]:
    """Seconds from the first passing to the last, and from the agent's exec to the last."""
    with crowd("r", count) as lines:
        began = time.monotonic()
        with common.agent_over(folder, where.address, lines):
            common.until(lambda: where.passing(r"r\d+") > 0, "one of ours is passing", pause=0.01)
            first = time.monotonic()
            common.until(lambda: where.passing(r"r\d+") >= 2 * count, "all of ours are passing")
            done = time.monotonic()
    common.until(lambda: where.passing(r"r\d+") == 0, "ours are gone")
    return done - first, done - began


def _bare(where: Consul, count: int) -> float:
    """Seconds until as many entries with two checks each are passing; they are taken out again."""
    bodies = [
        {
            "ID": f"bare{number}",
            "Name": f"bare{number:04}",
            "Address": "127.0.0.1",
            "Port": 9,
            "Checks": [
                {"CheckID": f"bare{number}:{kind}", "TTL": "8760h", "Status": "passing"}
                for kind in ("a", "b")
            ],
        }
        for number in range(count)
    ]
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda body: where.call("PUT", "agent/service/register", body), bodies))
    common.until(lambda: where.passing(r"bare\d+") >= 2 * count, "the bare client's are passing")
    took = time.monotonic() - begun
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        paths = [f"agent/service/deregister/bare{number}" for number in range(count)]
        list(pool.map(lambda path: where.call("PUT", path), paths))
    return took
