"""Keeps the logs of all services within their sizes, and notes when they grew.

A quiet log costs nothing: the kernel says when it is written to (`logs.watch`). One that was written
to is looked at once a second, or as often as its speed asks for, and rotated when it is too large;
when it has not grown between two looks it counts as quiet again. All of that runs in a thread, so
neither a slow disk nor a flood holds the agent's loop, and no service ever waits for it: a service
whose agent is dead or stopped writes on, and its log is put right when there is an agent again.
This module decides when; what is done with a log is `logs.watched`'s and `logs.rotation`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lictor.core.errors import OperationFailed
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import LogSpec
from lictor.core.ports import Clock
from lictor.core.runtime.logs.rotation import Rotated
from lictor.core.runtime.logs.watch import FileWatch
from lictor.core.runtime.logs.watched import WatchedLog
from lictor.core.runtime.supervision.runner import Runner

log = logging.getLogger(__name__)

_FIRST = 1.0  # seconds after the start: starting services comes first
_SOONEST = 0.05  # seconds between two looks, however much happens
_TELL_EVERY = 60.0  # seconds between two lines of the journal about one full disk
_SWEEP = 30.0  # seconds after which we look for what nobody told us

Lost = list[tuple[Path, Rotated]]


class LogKeeper:
    """Owns the rotation of all logs of one agent.

    `runners` gives the services there are now; `record` writes a line of the journal (kind,
    subject, reason), in the loop: `log.lost`, when lines were thrown away for a full disk.
    """

    def __init__(
        self,
        clock: Clock,
        runners: Callable[[], Iterable[Runner]],
        record: Callable[[str, str, Reason], None],
    ) -> None:
        self._clock = clock
        self._runners = runners
        self._record = record
        self._lost: dict[str, _Loss] = {}

    async def attend(self) -> None:
        """Look after the logs until cancelled."""
        rounds = _Rounds()
        names: dict[Path, str] = {}
        work: asyncio.Future[float] | None = None
        try:
            await asyncio.sleep(_FIRST)
            while True:
                runners = {path: one for one in self._runners() if (path := one.log_path())}
                limits = {path: one.spec.log for path, one in runners.items()}
                # One that was taken out of the config is looked after until the next sweep.
                names = {path: name for path, name in names.items() if rounds.knows(path)}
                names |= {path: str(one.key) for path, one in runners.items()}
                lost: Lost = []
                work = asyncio.ensure_future(
                    asyncio.to_thread(rounds.go, limits, self._clock.wall(), lost)
                )
                delay = await asyncio.shield(work)
                for path, what in lost:
                    self._count(names[path], what)
                self._tell()
                await asyncio.sleep(_SOONEST)
                await _stirring(rounds.watch.fd, delay - _SOONEST)
        finally:
            rounds.ending.set()
            if work is not None and not work.done():
                # It ends between two steps; what it watches with must outlive it.
                work.add_done_callback(lambda _: rounds.watch.close())
            else:
                rounds.watch.close()

    def _count(self, service: str, what: Rotated) -> None:
        loss = self._lost.setdefault(service, _Loss())
        loss.lines += what.lost_lines
        loss.size += what.lost_bytes

    def _tell(self) -> None:
        """Write down what was lost, at most once a minute for each service."""
        now = time.monotonic()
        for service, loss in list(self._lost.items()):
            if now < loss.told + _TELL_EVERY:
                continue
            if not loss.size:
                del self._lost[service]
                continue
            self._record("store", service, because("log.lost", lines=loss.lines, bytes=loss.size))
            self._lost[service] = _Loss(told=now)


@dataclass(slots=True)
class _Loss:
    """What was lost of one log and not told yet; `told` is monotonic seconds."""

    lines: int = 0
    size: int = 0
    told: float = float("-inf")


async def _stirring(fd: int, most: float) -> None:
    """Wait until something was written, at most so many seconds."""
    if most <= 0:
        return
    if fd < 0:
        await asyncio.sleep(most)
        return
    loop, stirred = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, stirred.set)
    try:
        # (`wait_for` of Python 3.11 loses a cancellation that meets the event)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most):
                await stirred.wait()
    finally:
        loop.remove_reader(fd)


class _Rounds:
    """The part that works in a thread, one round at a time."""

    def __init__(self) -> None:
        self.watch = FileWatch()
        self.ending = threading.Event()
        self._all: dict[Path, WatchedLog] = {}
        self._busy: dict[Path, WatchedLog] = {}
        self._folders: set[Path] = set()
        self._sweep_at = 0.0

    def knows(self, path: Path) -> bool:
        """Whether a log may still be looked at. Asked between two rounds."""
        return path in self._all

    def go(self, wanted: Mapping[Path, LogSpec], wall: float, lost: Lost) -> float:
        """Look at what stirred and at what grows; gives the seconds until the next round."""
        now = time.monotonic()
        stirred = self.watch.stirred()
        if stirred is None or now >= self._sweep_at:
            stirred = self._sweep(wanted, missed=stirred is None)
            self._sweep_at = now + _SWEEP
        for path in stirred & wanted.keys():
            item = self._all.setdefault(path, WatchedLog(path))
            item.quiet = False
            if path not in self._busy:
                item.due = 0.0
                self._busy[path] = item
        for item in list(self._busy.values()):
            if self.ending.is_set():
                break
            if item.due <= now:
                item.limits = wanted.get(item.path, item.limits)
                self._attend_to(item, wall, lost)
        due = min((item.due for item in self._busy.values()), default=self._sweep_at)
        return max(0.0, min(due, self._sweep_at) - time.monotonic())

    def _sweep(self, wanted: Mapping[Path, LogSpec], *, missed: bool) -> set[Path]:
        """The logs to look at without being told: new ones, and those that nobody watches."""
        for folder in {path.parent for path in wanted} - self._folders:
            if self.watch.watch_folder(folder):
                self._folders.add(folder)
        for path in self._all.keys() - wanted.keys():
            del self._all[path]
            self._busy.pop(path, None)
        return {
            path for path in wanted if missed or path not in self._all or not self._all[path].asleep
        }

    def _attend_to(self, item: WatchedLog, wall: float, lost: Lost) -> None:
        try:
            grown = item.look(wall)
            if item.live > item.limits.max_size:
                what = item.rotate(self.ending.is_set)
                if what.lost_bytes:
                    lost.append((item.path, what))
            elif not grown and item.rest(self.watch):
                del self._busy[item.path]
        except FileNotFoundError:
            item.forget()
            del self._busy[item.path]  # the watched folder tells when it comes
            return
        except (OSError, OperationFailed) as error:
            if not item.trouble:
                log.warning("the log %s cannot be rotated: %s", item.path.name, error)
            item.trouble = str(error)
        else:
            if item.trouble:
                log.info("the log %s can be rotated again", item.path.name)
            item.trouble = ""
        item.due = time.monotonic() + item.patience()
