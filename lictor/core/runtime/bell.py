"""A bell that anybody may wait for: "something changed, look again"."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Rings wake everybody who waits at that moment. Nothing is queued: look at the state itself.

    `rings` counts them: who remembers the number knows whether what was read may be out of date.
    """

    def __init__(self) -> None:
        self.rings = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        self.rings += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, limit: float | None = None) -> bool:
        """Wait for the next ring; False when `limit` seconds went by without one."""
        event = self._event
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await event.wait()
                return True
        return False
