"""One container, ours or taken over, as the docker driver holds it.

It may be held before the engine was asked: an agent that comes back says at once what it knows of
its services, and what is not true of it any more becomes an exit as soon as the engine answers. A
stop is a signal and a wait, never one long call, so that it can be made shorter, and goes on by
itself when an engine that was mute is back. A container is removed once it has ended and its output
was copied. What this never does: decide to end anything by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from lictor.core.drivers.docker.feed import LogFeed
from lictor.core.drivers.docker.room import EngineRoom
from lictor.core.drivers.docker.terms import EngineRefused
from lictor.core.drivers.ending import signal_number
from lictor.core.model.spec import StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports import StopReport

_LAST_WORDS = 1.0  # seconds that an exit waits for the container's last lines
_DRAIN = 5.0  # seconds that a removal waits for all of them
_CALL = 10.0
_REMOVE = 60.0
_ASK = 1.0  # seconds between two looks at a container that is to end, should no event come


class DockerRunning:
    """A container. Made by `DockerDriver` only; see `ports.Running`."""

    def __init__(
        self,
        room: EngineRoom,
        identity: Identity,
        feed: LogFeed,
        *,
        fingerprint: str = "",
        gone: Callable[[DockerRunning], None] = lambda _: None,
    ) -> None:
        self.fingerprint = fingerprint
        self._room = room
        self._identity = identity
        self._feed = feed
        self._gone = gone
        self._exit: Exit | None = None
        self._telling: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._hurry = asyncio.Event()
        self._grace = float("inf")
        self._deadline = float("inf")  # of the loop's clock, from the moment of the signal
        self._ending: asyncio.Task[StopReport] | None = None

    @property
    def identity(self) -> Identity:
        """The container's id, and its main process where this host shows it."""
        return self._identity

    @property
    def id(self) -> str:
        """The container's id."""
        return self._identity.container_id or ""

    @property
    def containment(self) -> str:
        """The container holds its processes."""
        return f"container {self.id[:12]}"

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it runs, as far as is known."""
        return self._exit

    @property
    def over(self) -> bool:
        """Whether its end is known, told already or about to be."""
        return self._telling is not None

    def has_ended(self, exit_: Exit) -> None:
        """The engine says that it has ended. Everybody hears of it once its last words are there."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell(exit_))

    async def _tell(self, exit_: Exit) -> None:
        await self._feed.drain(_LAST_WORDS)
        self._exit = exit_
        self._ended.set()

    async def wait(self) -> Exit:
        """Wait until it has ended."""
        await self._ended.wait()
        return self._exit or Exit()

    async def stop(self, how: StopSpec) -> StopReport:
        """Signal, KILL after `how.timeout` seconds, and remove it. Returns once it is gone.

        While the engine is mute this waits for it. Called again while a stop goes on, it can only
        shorten the timeout; the work goes on when somebody stops waiting for it.
        """
        loop = asyncio.get_running_loop()
        self._grace = min(self._grace, how.timeout)
        if self._ending is not None:
            self._deadline = min(self._deadline, loop.time() + how.timeout)
        self._hurry.set()
        if self._ending is None:
            self._ending = loop.create_task(self._end(signal_number(how.signal)))
        return await asyncio.shield(self._ending)

    def forget(self) -> None:
        """Let go without touching the container: the agent ends, the service stays."""
        self._feed.close()
        for task in (self._telling, self._ending):
            if task is not None:
                task.cancel()

    # --- the end ------------------------------------------------------------------------

    async def _end(self, number: int) -> StopReport:
        killed = False
        if not self.over:
            if number != signal.SIGKILL:
                await self._signal(number)
                # (a grace that began before a mute engine passed the signal on would be none)
                self._deadline = asyncio.get_running_loop().time() + self._grace
                await self._until_deadline()
            if not self.over:
                killed = True
                await self._kill()
        await self._ended.wait()
        await self._feed.drain(_DRAIN)
        self._feed.close()
        with contextlib.suppress(EngineRefused):  # (a listing will show what is left, and why)
            await self._room.patiently(lambda e: e.remove(self.id, _REMOVE), _REMOVE)
        self._gone(self)
        return StopReport(self._exit or Exit(), killed=killed)

    async def _signal(self, number: int) -> None:
        runs = await self._room.patiently(lambda e: e.kill(self.id, number, _CALL))
        if not runs:
            await self._look()

    async def _until_deadline(self) -> None:
        """Wait for the end, at most until the deadline, which may come nearer."""
        loop = asyncio.get_running_loop()
        while not self.over and (left := self._deadline - loop.time()) > 0:
            self._hurry.clear()
            ended = asyncio.ensure_future(self._ended.wait())
            hurry = asyncio.ensure_future(self._hurry.wait())
            both = {ended, hurry}
            await asyncio.wait(both, timeout=min(left, _ASK), return_when=asyncio.FIRST_COMPLETED)
            for one in both:
                one.cancel()
            await self._look()

    async def _kill(self) -> None:
        await self._signal(signal.SIGKILL)
        while not self.over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASK):
                    await self._ended.wait()
            if not self.over:
                await self._room.patiently(lambda e: e.thaw(self.id, _CALL))
                await self._look()

    async def _look(self) -> None:
        """Ask whether it has ended: no event may ever come."""
        if self.over:
            return
        try:
            found = await self._room.patiently(lambda e: e.inspect(self.id, _CALL))
        except EngineRefused:
            return
        if self._room.trouble is not None:
            return
        if found is None:
            self.has_ended(Exit())
        elif not found.alive:
            self.has_ended(found.exit())
