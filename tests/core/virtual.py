"""An event loop whose time jumps: when all wait, it is at once the moment the first waits for.

Hours of back-off pass in milliseconds, and a test can say exactly when something happened. Only for
code that waits through the loop; real files and sockets need the real loop.
"""

from __future__ import annotations

import asyncio
import functools


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, which begins at 1000 s."""

    def __init__(self) -> None:
        self._virtual = 1000.0
        super().__init__()

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        if not self._ready and not self._stopping:
            moments = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            if not moments:
                raise AssertionError("everything waits, and nothing will ever happen")
            self._virtual = max(self._virtual, min(moments))
        super()._run_once()


def virtual(test):
    """Run an async test in virtual time."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class LoopClock:
    """The loop's time as the agent's clock."""

    def __init__(self) -> None:
        self.wall_offset = 1_700_000_000.0
        self.boot_offset = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() + self.boot_offset

    def wall(self) -> float:
        return asyncio.get_running_loop().time() + self.wall_offset
