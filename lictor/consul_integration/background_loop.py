"""A loop of its own in a thread, so that plain code may call what is asyncio inside.

It exists because a synchronous caller may itself stand within a running loop (a notebook, a web
framework), where no second one can be run in the same thread. One thread and one client per object,
made at the first call; a process that was forked makes its own. It never runs a caller's code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import TypeVar

from lictor.consul_integration.client import ConsulClient
from lictor.core.errors import ConsulTimeout, ConsulUnreachable
from lictor.core.model.reason import because
from lictor.core.worded import worded

T = TypeVar("T")

_CLOSING = 5.0  # seconds that closing may take


_OF_OUR_PARENT: list[_Running] = []


class BackgroundLoop:
    """Runs coroutines on one `ConsulClient`, for synchronous callers in any thread."""

    def __init__(self, make: Callable[[], ConsulClient]) -> None:
        self._make = make
        # A signal's handler may deregister while its own thread is in here.
        self._lock = threading.RLock()
        self._running: _Running | None = None
        self._closed = False

    def run(self, work: Callable[[ConsulClient], Awaitable[T]], timeout: float) -> T:
        """Do `work` within `timeout` seconds and give its result; raises what it raises.

        Raises `ConsulTimeout` when the time is over, `ConsulUnreachable` after `close`.
        """
        running = self._ensure()

        async def bounded() -> T:
            try:
                async with asyncio.timeout(timeout):
                    return await work(running.client)
            except TimeoutError as error:
                raise ConsulTimeout(f"Consul did not answer within {timeout:g} s.") from error

        future = asyncio.run_coroutine_threadsafe(bounded(), running.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted caller leaves nothing behind
            raise

    def close(self) -> None:
        """End the thread and close the client; a later `run` is refused."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.end()

    def _ensure(self) -> _Running:
        with self._lock:
            if self._closed:
                raise worded(ConsulUnreachable, because("contact.closed"))
            # When Python ends, loops end before what was registered with `atexit` earlier than they.
            known = self._running
            if known is not None and known.pid == os.getpid() and known.end.alive:
                return known
            if known is not None and known.pid != os.getpid():
                # After a fork the thread is the parent's alone, and so are its connections: they
                # are kept as they are, because closing them here would disturb it.
                _OF_OUR_PARENT.append(known)
            self._running = _Running(self._make())
            return self._running


class _Running:
    """One thread with its loop and client. Ended by `end`, at the latest when Python ends."""

    def __init__(self, client: ConsulClient) -> None:
        self.client = client
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_turn, args=(self.loop,), name="lictor-consul", daemon=True
        )
        self._thread.start()
        self.end = weakref.finalize(self, _end, self.pid, self.loop, client, self._thread)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(
    pid: int,
    loop: asyncio.AbstractEventLoop,
    client: ConsulClient,
    thread: threading.Thread,
) -> None:
    if pid != os.getpid():
        return  # of the process that we were forked from
    closing = asyncio.run_coroutine_threadsafe(client.close(), loop)
    try:
        with contextlib.suppress(TimeoutError):  # at Python's end nobody could do anything about it
            closing.result(_CLOSING)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSING)
