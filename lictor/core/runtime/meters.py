"""Counts of what the agent itself does, for `/metrics`: plain numbers, no exposition format.

How long passes of the reconciler take, and how late the event loop is. Observing costs less than a
microsecond and happens always, so that the figures are there when somebody comes to look for them
after the fact.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Seconds; most passes take well under a millisecond.
BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_BEAT = 2.0  # seconds between two looks at how late the loop is


@dataclass(slots=True)
class Histogram:
    """How often a duration in seconds was in which range, and their sum."""

    bounds: Sequence[float] = BOUNDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class LoopLag:
    """How late the event loop comes to what is due."""

    def __init__(self) -> None:
        self.seen = Histogram()

    async def measure(self) -> None:
        """Look every two seconds, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT
            await asyncio.sleep(_BEAT)
            self.seen.observe(max(0.0, loop.time() - due))
