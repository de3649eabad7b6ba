"""The engine's attendant: whether it answers, what it runs, what just happened there.

One look every few seconds (a listing of our own containers) is both the sign of life and the safety
net; between two looks the engine's own events say at once when something ended. Events only make us
look: a lost one costs seconds, never truth. While the engine is mute every call is refused at once
with the reason, so that nothing piles up behind it; the attendant alone goes on trying, and says so
once when it breaks and once when it is mended. It never starts or ends a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lictor.core.drivers.docker.terms import EngineAway, EngineRefused, Seen
from lictor.core.drivers.docker.workers import Workers
from lictor.core.locales import render
from lictor.core.model.reason import Reason, because

if TYPE_CHECKING:
    from lictor.core.drivers.docker.gate import Engine

log = logging.getLogger(__name__)

T = TypeVar("T")

CALL = 10.0  # seconds for an ordinary call
_EVERY = 5.0  # seconds between two looks
_LOOK = 5.0  # seconds that a look may take before the engine counts as mute
_AGAIN = (0.25, 5.0)  # seconds between two tries, first and longest
_SOONEST = 0.05  # seconds between two looks, however much happens
_THREADS = 6
_TELLING = frozenset({"die", "oom", "destroy"})


class Listener(Protocol):
    """Who is told; all in the loop's thread."""

    def doubt(self, trouble: Reason | None) -> None:
        """It is mute (why), or it answers (None)."""
        ...

    def take(self, listing: tuple[Seen, ...]) -> None:
        """Everything of ours that is there."""
        ...

    def stirred(self, container: str, action: str, code: int | None) -> None:
        """Something happened to a container of ours; `code`: its exit code, if it ended."""
        ...


class EngineRoom:
    """Calls to one engine. Belongs to one event loop; nothing happens before `begin`."""

    def __init__(self, owner: str, listener: Listener, address: str | None = None) -> None:
        self.trouble: Reason | None = None
        self._owner = owner
        self._listener = listener
        self._address = address
        self._workers = Workers(_THREADS, "docker", self._leave)
        self._looker = Workers(1, "docker-look", self._leave)
        self._long = Workers(2, "docker-build")
        self._made: Engine | None = None
        self._making = threading.Lock()
        self._looked = asyncio.Event()
        self._well = asyncio.Event()
        self._poked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._doubted = True
        self._closed = False
        self._since = 0
        self._stream: Any = None
        self._listening = False
        self._deaf_for = _AGAIN[0]

    def begin(self) -> None:
        """Begin to attend. Called twice it does nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._attend())

    def close(self) -> None:
        """Let go of the engine; containers are not touched. Threads that hang are left behind."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        self._hang_up()
        for workers in (self._workers, self._looker, self._long):
            workers.close()

    def engine(self) -> Engine:
        """The gate, made at first use: it imports the library, so call this in a thread."""
        with self._making:
            if self._made is None:
                gate = importlib.import_module("lictor.core.drivers.docker.gate")
                self._made = gate.Engine(self._address)
            return self._made

    async def call(self, work: Callable[[Engine], T], limit: float = CALL) -> T:
        """One call in a thread. Raises `EngineAway` and `EngineRefused`.

        `limit` (seconds) is for the whole; `work` gives its own to the gate.
        """
        await self._looked.wait()
        if self.trouble is not None:
            raise EngineAway(self.trouble)
        try:
            return await self._workers.run(lambda: work(self.engine()), limit)
        except TimeoutError:
            self._suspect()
            raise EngineAway(self._mute()) from None
        except EngineAway:
            self._suspect()
            raise

    async def patiently(self, work: Callable[[Engine], T], limit: float = CALL) -> T:
        """The same, again and again until the engine has answered. Raises `EngineRefused`."""
        while True:
            try:
                return await self.call(work, limit)
            except EngineAway:
                self._well.clear()
                await self._well.wait()

    async def at_length(self, work: Callable[[Engine], T]) -> T:
        """A call that may take minutes, in a thread of its own."""
        await self._looked.wait()
        if self.trouble is not None:
            raise EngineAway(self.trouble)
        return await self._long.run(lambda: work(self.engine()), None)

    def poke(self) -> None:
        """Look now."""
        self._poked.set()

    # --- attending ----------------------------------------------------------------------

    async def _attend(self) -> None:
        pause = _AGAIN[0]
        while True:
            self._poked.clear()
            try:
                listing = await self._look()
            except EngineAway as away:
                self._lost(away.reason)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _AGAIN[1])
                continue
            pause = _AGAIN[0]
            try:
                self._found(listing)
            except Exception:  # a mistake in one service must not make all of them unknown
                log.exception("what the Docker engine told was not taken in")
            await asyncio.sleep(_SOONEST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY):
                    await self._poked.wait()

    async def _look(self) -> tuple[Seen, ...]:
        try:
            return await self._looker.run(lambda: self.engine().listing(self._owner, _LOOK), _LOOK)
        except TimeoutError:
            raise EngineAway(self._mute()) from None
        except EngineRefused as refused:  # it speaks, and cannot do even this
            where = self._where()
            raise EngineAway(
                because("docker.unreachable", address=where, why=refused.said)
            ) from refused

    def _lost(self, reason: Reason) -> None:
        before, self.trouble = self.trouble, reason
        self._well.clear()
        if before is None or before.code != reason.code:
            log.warning("%s", render(reason.code, reason.params))
            self._listener.doubt(reason)
        self._looked.set()

    def _found(self, listing: tuple[Seen, ...]) -> None:
        before, self.trouble = self.trouble, None
        if before is not None:
            log.info("the Docker engine answers again")
        if before is not None or self._doubted:
            self._doubted = False
            self._listener.doubt(None)
        self._listener.take(listing)
        self._looked.set()
        self._well.set()
        if not self._listening:
            self._listening = True
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._listen, args=(loop,), name="docker-events", daemon=True
            ).start()

    def _suspect(self) -> None:
        """A call had no answer: let the attendant find out, and tell what it finds."""
        self._doubted = True
        self.poke()

    def _mute(self) -> Reason:
        return because("docker.unreachable", address=self._where(), why="no answer in time")

    def _where(self) -> str:
        return self._made.address if self._made is not None else self._address or "Docker"

    def _leave(self) -> None:
        if self._made is not None:
            self._made.leave()

    # --- events, in a thread of their own -------------------------------------------------

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            engine = self.engine()
            with engine.told():
                client = engine.new_client(CALL)
            try:
                self._stream = engine.events(client, self._owner, self._since)
                if self._closed:
                    self._hang_up()
                # What happened between the listing and this moment is in neither.
                loop.call_soon_threadsafe(self.poke)
                with engine.told():
                    for event in self._stream:
                        self._hear(loop, event)
            finally:
                engine.finish(self._stream)
                client.close()
        except (EngineAway, EngineRefused) as error:
            log.debug("no events from the Docker engine: %s", error)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more
        finally:
            self._stream = None
        if not self._closed:
            time.sleep(self._deaf_for)
            self._deaf_for = min(2 * self._deaf_for, _AGAIN[1])
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deaf)

    def _hear(self, loop: asyncio.AbstractEventLoop, event: dict[str, Any]) -> None:
        self._since = max(self._since, int(event.get("time") or 0))
        self._deaf_for = _AGAIN[0]
        action = str(event.get("Action") or event.get("status") or "")
        if action not in _TELLING:
            return
        actor = event.get("Actor") or {}
        code = (actor.get("Attributes") or {}).get("exitCode")
        number = int(str(code)) if str(code).isdigit() else None
        container = str(actor.get("ID") or event.get("id") or "")
        loop.call_soon_threadsafe(partial(self._listener.stirred, container, action, number))

    def _deaf(self) -> None:
        self._listening = False
        self.poke()  # the look that follows finds what the events would have told

    def _hang_up(self) -> None:
        if self._stream is not None and self._made is not None:
            self._made.cut(self._stream)
