"""A few threads of our own for calls that may hang.

The Docker library is blocking, and an engine that was stopped in its tracks answers nobody. Here
such a call costs one thread until its own time limit and never the loop: whoever waits gets
`TimeoutError`. The threads are daemons, so that an agent which ends waits for none of them (the
executor of the standard library joins its threads at exit); they begin when there is work.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_IDLE = 30.0  # seconds after which a thread without work ends


class Workers:
    """At most `most` threads. `run` belongs to one loop; `close` lets go of what still runs.

    `farewell` is called in each thread before it ends, to give back what the thread holds.
    """

    def __init__(self, most: int, name: str, farewell: Callable[[], None] = lambda: None) -> None:
        self._most = most
        self._name = name
        self._farewell = farewell
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._pending = 0  # waiting or under way; one that hangs still counts
        self._closed = False

    async def run(self, call: Callable[[], T], limit: float | None) -> T:
        """The call's result, or its exception; `TimeoutError` after `limit` seconds (None: never).

        Giving up on a call does not end it: its thread comes back when the call does.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as failure:  # noqa: BLE001 - it is raised where it is awaited
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        self._begin(work)
        async with asyncio.timeout(limit):
            return await answer

    def close(self) -> None:
        """Take no more work; idle threads end now, busy ones when their call is over."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _begin(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise asyncio.CancelledError
            self._work.put(work)
            self._pending += 1
            if self._pending <= self._threads or self._threads >= self._most:
                return
            self._threads += 1
        threading.Thread(target=self._loop, name=self._name, daemon=True).start()

    def _loop(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_IDLE)
            except Empty:
                work = None
            if work is not None:
                work()
            with self._lock:
                if work is not None:
                    self._pending -= 1
                elif self._closed or self._work.empty():
                    self._threads -= 1
                    break
        self._farewell()
