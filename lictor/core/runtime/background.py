"""Loops that run as long as the agent does; a bug in one never ends the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from lictor.core.errors import LictorError

log = logging.getLogger(__name__)


class Background:
    """Owns the agent's long-running tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, name: str, work: Callable[[], Awaitable[None]], *, once: bool = False) -> None:
        """Run `work`; begin it again a second after it failed, unless it is to run only once."""
        task = asyncio.create_task(_forever(name, work, once=once), name=f"lictor-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def cancel(self) -> None:
        """End all of them; waits at most a few seconds for one that does not listen."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)


async def _forever(name: str, work: Callable[[], Awaitable[None]], *, once: bool) -> None:
    while True:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except LictorError as error:
            log.warning("%s: %s", name, error.message)
        except Exception:
            log.exception("%s failed", name)
        else:
            return
        if once:
            return
        await asyncio.sleep(1.0)
