"""Real time, behind the `Clock` port."""

from __future__ import annotations

import time


class SystemClock:
    """CLOCK_BOOTTIME for durations (it counts suspend, and survives the agent), Unix time for people."""

    def now(self) -> float:
        """Seconds since boot."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()
