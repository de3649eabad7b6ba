"""Copies what a container prints into the service's log, so that it is read as any other log is.

A process writes to its file itself. A container's output is the engine's, so a thread reads it and
appends it, without the times, and notes how far it has come (`cursor`): an agent that comes later
goes on there, and nothing is lost or doubled while Docker still has it. Docker keeps two files of
the service's own `log.max_size` for that; what a container prints beyond that while no agent runs
is gone. The thread reads on when the engine comes back; it never holds anybody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lictor.core.drivers.docker.cursor import Cursor, CursorFile
from lictor.core.drivers.docker.terms import EngineAway, EngineRefused
from lictor.core.drivers.spawn import open_log
from lictor.core.errors import StartFailed

if TYPE_CHECKING:
    from lictor.core.drivers.docker.gate import Engine

log = logging.getLogger(__name__)

_AGAIN = (0.2, 5.0)  # seconds between two connections, first and longest
_LIMIT = 10.0  # seconds for the engine to begin its answer


class LogFeed:
    """The copy of one container's output. Made in the loop; everything else is a thread's."""

    def __init__(self, engine: Callable[[], Engine], container: str, path: Path) -> None:
        self._engine = engine
        self._container = container
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()  # the container has: read to the end, then be done
        self._closing = threading.Event()
        self._stream: Any = None
        self._finished = asyncio.Event()
        self._log = -1

    def begin(self) -> None:
        """Begin to copy."""
        threading.Thread(target=self._run, name="docker-log", daemon=True).start()

    async def drain(self, most: float) -> bool:
        """The container has ended: wait until all of its output is copied, so many seconds."""
        self._ended.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                await self._finished.wait()
        return self._finished.is_set()

    def close(self) -> None:
        """Stop copying; another agent goes on from here."""
        self._closing.set()
        self._ended.set()
        stream = self._stream
        if stream is not None:
            self._engine().cut(stream)

    # --- in the thread ------------------------------------------------------------------

    def _run(self) -> None:
        marks = CursorFile(self._path.with_name(f".{self._path.name}.docker"))
        try:
            self._log = open_log(self._path)
            self._copy(marks)
        except (OSError, StartFailed) as error:
            log.warning("the output of a container cannot be copied: %s", error)
        finally:
            marks.close()
            if self._log >= 0:
                os.close(self._log)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._finished.set)

    def _copy(self, marks: CursorFile) -> None:
        cursor = marks.load(self._container)
        if cursor is None:
            cursor = Cursor(self._container)
            cursor.note(self._log)
            marks.save(cursor)
        pause = _AGAIN[0]
        while not self._closing.is_set():
            last = self._ended.is_set()
            try:
                self._connect(cursor, marks, follow=not last)
                pause = _AGAIN[0]
            except EngineRefused as refused:
                if refused.missing:
                    return  # removed: there is nothing to read any more
            except (EngineAway, OSError):
                last = False
            if last:
                return
            (self._closing if self._ended.is_set() else self._ended).wait(pause)
            pause = min(2 * pause, _AGAIN[1])

    def _connect(self, cursor: Cursor, marks: CursorFile, *, follow: bool) -> None:
        engine = self._engine()
        with engine.told():
            client = engine.new_client(_LIMIT)
        try:
            stream = engine.logs(client, self._container, since=cursor.since, follow=follow)
            self._stream = stream
            if not self._closing.is_set():
                with engine.told():
                    self._read(stream, cursor, marks)
        finally:
            stream, self._stream = self._stream, None
            engine.finish(stream)
            client.close()

    def _read(self, stream: Any, cursor: Cursor, marks: CursorFile) -> None:
        """Copy every piece that was not yet; each begins with its time and a blank."""
        again, same, surplus = bool(cursor.at), 0, cursor.unnoted(self._log)
        for piece in stream:
            stamp, blank, said = bytes(piece).partition(b" ")
            at = stamp.decode("ascii", "replace") if blank else cursor.at
            if again:
                if at < cursor.at:
                    continue
                if at == cursor.at:
                    same += 1
                    if same <= cursor.count:
                        continue
                again = False
            written = said[surplus:]
            surplus -= len(said) - len(written)
            while written:
                written = written[os.write(self._log, written) :]
            cursor.count = cursor.count + 1 if at == cursor.at else 1
            cursor.at = at
            cursor.note(self._log)
            if surplus:
                cursor.size -= surplus
            marks.save(cursor)
