"""Finding every process of one service, and signalling exactly those.

A service may fork, start new sessions, detach itself twice and rename itself; a stop has to end
all of it (four common supervisors leave such processes behind). A process belongs to a service
when one of these holds: it is in the session that the service's main process leads; it carries the
service's mark in its environment (`LICTOR_MARK`, inherited over fork and exec); it was seen as one
of the two before (programs such as vLLM overwrite their environment with a title); or it descends
from one that belongs. All of that is read in one pass over /proc (about 10 microseconds a
process), shared by everybody who asks at the same moment.
This module never signals by number alone: a pid is used only together with its start time, and
never is it 0, 1, the agent itself, one of the agent's ancestors or the agent's own group.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

#: The mark: `LICTOR_MARK=<agent id>:<service key>` in the environment of each process we start.
MARK = "LICTOR_MARK"
#: `LICTOR_JOB=1`: a `before` job, which is never taken for the service itself.
JOB = "LICTOR_JOB"
#: `LICTOR_RUN=<clock ticks since boot>`: when the main process was started; see `Mark.leads`.
RUN = "LICTOR_RUN"

#: Clock ticks a second, the unit of start times in /proc (proc(5), sysconf(_SC_CLK_TCK)).
TICKS = os.sysconf("SC_CLK_TCK")

_ENVIRON_LIMIT = 1 << 18
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_RUN_SLACK = TICKS // 2  # at most half a second passes between LICTOR_RUN and the fork
# Our own trouble, which must never be read as "there is no such process".
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_SLOW_SCAN = 0.03  # seconds; a pass that takes longer leaves the loop's thread


class Proc(NamedTuple):
    """One line of /proc/PID/stat, as far as trees need it. `start` is in ticks since boot."""

    pid: int
    ppid: int
    pgrp: int
    session: int
    state: str
    threads: int
    start: int

    @property
    def dead(self) -> bool:
        """Ended and not yet reaped; a leader that ended before its threads is a `Z` that lives."""
        return self.state in "ZX" and self.threads <= 1


class Mark(NamedTuple):
    """What the environment of a process says about where it comes from."""

    value: bytes
    job: bool
    run: int

    def leads(self, proc: Proc) -> bool:
        """Whether this is a service's main process, as far as one can tell from outside.

        A child that left into a session of its own carries the same environment, but was born
        later than `LICTOR_RUN` says.
        """
        born = proc.start - self.run
        return not self.job and proc.session == proc.pid and 0 <= born <= _RUN_SLACK


def boot_id() -> str:
    """The id of this boot of the kernel (random(4)): pids and start times mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def ticks_now() -> int:
    """Ticks since boot, on the clock of the start times in /proc."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def _read(path: str, limit: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _OURS:
            raise
        return None
    try:
        return os.read(fd, limit)
    except OSError:
        return None
    finally:
        os.close(fd)


def read_proc(pid: int | str) -> Proc | None:
    """The process `pid` now; None when there is none."""
    data = _read(f"/proc/{pid}/stat", 2048)
    if not data:
        return None
    # The name in parentheses may itself hold `)`, blanks and newlines: the last `)` ends it.
    part = data[data.rindex(b")") + 2 :].split(None, 20)
    return Proc(
        pid=int(pid),
        ppid=int(part[1]),
        pgrp=int(part[2]),
        session=int(part[3]),
        state=chr(part[0][0]),
        threads=int(part[17]),
        start=int(part[19]),
    )


def read_mark(pid: int) -> Mark | None:
    """The mark of a process; None when it has none, or does not let us look."""
    data = _read(f"/proc/{pid}/environ", _ENVIRON_LIMIT)
    if not data or b"LICTOR_MARK=" not in data:
        return None
    env = dict(item.partition(b"=")[::2] for item in reversed(data.split(b"\0")))
    value = env.get(MARK.encode())
    run = env.get(RUN.encode(), b"")
    if value is None:
        return None
    return Mark(value, env.get(JOB.encode()) == b"1", int(run) if run.isdigit() else -1)


@dataclass(slots=True)
class Snapshot:
    """The process table at one moment, without kernel threads and without `skip`."""

    procs: dict[int, Proc]
    by_session: dict[int, list[Proc]]
    children: dict[int, list[Proc]]
    by_mark: dict[tuple[bytes, bool], list[Proc]]
    marks: dict[int, Mark]

    @classmethod
    def take(
        cls, *, skip: Collection[int] = (), sessions: Collection[int] = (), oldest: int = 0
    ) -> Self:
        """Read the table.

        `skip`: pids known to be of no interest. `sessions`: sessions whose processes are known by
        that, so that their environment need not be read; nor is that of anything older than
        `oldest`.
        """
        new = cls({}, {}, {}, {}, {})
        for name in os.listdir("/proc"):  # noqa: PTH208 - hot: strings, not Path objects
            if not name.isdigit() or int(name) in skip:
                continue
            proc = read_proc(name)
            if proc is None or proc.ppid == 2 or proc.pid == 2:
                continue
            new._add(proc, marked=proc.session not in sessions and proc.start >= oldest)
        return new

    def _add(self, proc: Proc, *, marked: bool) -> None:
        self.procs[proc.pid] = proc
        self.by_session.setdefault(proc.session, []).append(proc)
        self.children.setdefault(proc.ppid, []).append(proc)
        mark = read_mark(proc.pid) if marked and not proc.dead else None
        if mark is not None:
            self.marks[proc.pid] = mark
            self.by_mark.setdefault((mark.value, mark.job), []).append(proc)

    def untouchable(self) -> set[int]:
        """Pids that no stop may ever reach: init, the agent, and whatever the agent runs under."""
        found = {0, 1}
        pid = os.getpid()
        while pid not in found:
            found.add(pid)
            proc = self.procs.get(pid) or read_proc(pid)
            pid = proc.ppid if proc else 0
        return found


@dataclass(slots=True)
class Tree:
    """The processes of one service (or of one job of it).

    `root` is the main process, 0 where there is none any more (leftovers of an earlier agent);
    `start` its start time. `known` remembers who was seen as a member, by pid and start time.
    """

    root: int
    start: int
    mark: bytes
    job: bool = False
    known: set[tuple[int, int]] = field(default_factory=set)

    def members(self, snapshot: Snapshot) -> list[Proc]:
        """Every living process of the tree; remembers them."""
        never = snapshot.untouchable()
        todo = [*self._seeds(snapshot)]
        found: dict[int, Proc] = {}
        while todo:
            proc = todo.pop()
            if proc.pid in found or proc.pid in never:
                continue
            found[proc.pid] = proc
            todo.extend(snapshot.children.get(proc.pid, ()))
        living = [proc for proc in found.values() if not proc.dead]
        self.known = {(proc.pid, proc.start) for proc in living}
        return living

    def _seeds(self, snapshot: Snapshot) -> Iterable[Proc]:
        for pid, start in self.known:
            proc = snapshot.procs.get(pid)
            if proc is not None and proc.start == start:
                yield proc
        yield from snapshot.by_mark.get((self.mark, self.job), ())
        if self.root and self._session_is_ours(snapshot):
            for proc in snapshot.by_session.get(self.root, ()):
                if proc.start >= self.start:
                    yield proc

    def _session_is_ours(self, snapshot: Snapshot) -> bool:
        """Whether session `root` is still the one that our main process made.

        The number stays taken while one process is in the session, so a leader with another start
        time, or a member with a stranger's mark, means that ours is long gone.
        """
        leader = snapshot.procs.get(self.root)
        if leader is not None:
            return leader.start == self.start
        for proc in snapshot.by_session.get(self.root, ()):
            mark = snapshot.marks.get(proc.pid) or read_mark(proc.pid)
            if mark is not None and (mark.value, mark.job) != (self.mark, self.job):
                return False
        return True


class Census:
    """Shared passes over the process table.

    Whoever asks in the same turn of the loop gets the same pass, and passes keep a distance of
    twice their cost: stopping 200 services takes a handful of them, not 400.
    """

    def __init__(self) -> None:
        self._live: dict[int, int] = {}
        self._sessions: set[int] = set()
        self._wanted: set[int] = set()
        self._batch: asyncio.Future[Snapshot] | None = None
        self._oldest = 1 << 62
        self._cost = 0.0
        self._free_at = 0.0

    def since(self, start: int) -> None:
        """From when on (ticks) a process may be ours: the environment of older ones is not read."""
        self._oldest = min(self._oldest, start)

    def born(self, pid: int, start: int) -> None:
        """A main process was started or adopted."""
        self.since(start)
        self._live[pid] = start
        self._sessions.add(pid)

    def ended(self, pid: int) -> None:
        """A main process ended; its tree may not have."""
        self._live.pop(pid, None)

    def gone(self, pid: int) -> None:
        """Nothing is left of its tree, or we care no more."""
        self._live.pop(pid, None)
        self._sessions.discard(pid)

    def mains(self) -> frozenset[int]:
        """The main processes that live: their status is nobody else's to collect."""
        return frozenset(self._live)

    def now(self) -> Snapshot:
        """A pass of one's own, at once."""
        return Snapshot.take(sessions=self._sessions, oldest=self._oldest)

    async def take(self, root: int) -> Snapshot:
        """A pass that begins after this call and shows the tree of `root`.

        Raises `OSError` when the agent itself lacks descriptors or memory to look.
        """
        loop = asyncio.get_running_loop()
        if self._batch is None:
            self._batch = loop.create_future()
            self._wanted.clear()
            loop.call_at(max(loop.time(), self._free_at), self._begin, self._batch)
        self._wanted.add(root)
        return await asyncio.shield(self._batch)

    def _begin(self, batch: asyncio.Future[Snapshot]) -> None:
        self._batch = None
        loop = batch.get_loop()
        # A living main process of a service that did not ask cannot be part of one that did.
        skip = self._live.keys() - self._wanted
        sessions = frozenset(self._sessions)
        if self._cost > _SLOW_SCAN:
            work = loop.run_in_executor(None, self._pass, skip, sessions)
            work.add_done_callback(lambda done: self._deliver(batch, done.result()))
        else:
            self._deliver(batch, self._pass(skip, sessions))

    def _pass(self, skip: Collection[int], sessions: Collection[int]) -> Snapshot | OSError:
        begun = time.perf_counter()
        try:
            return Snapshot.take(skip=skip, sessions=sessions, oldest=self._oldest)
        except OSError as error:
            return error
        finally:
            self._cost = time.perf_counter() - begun

    def _deliver(self, batch: asyncio.Future[Snapshot], result: Snapshot | OSError) -> None:
        self._free_at = batch.get_loop().time() + 2 * self._cost
        if batch.done():
            return
        if isinstance(result, OSError):
            batch.set_exception(result)
        else:
            batch.set_result(result)


def send(proc: Proc, number: int) -> None:
    """Signal one process, if it still is the one that was meant."""
    if proc.pid <= 1 or proc.pid == os.getpid():
        return
    try:
        fd = os.pidfd_open(proc.pid)
    except OSError:
        return
    try:
        # The descriptor holds on to one process; now make sure that it is the right one.
        current = read_proc(proc.pid)
        if current is not None and current.start == proc.start:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def send_group(group: int, number: int) -> None:
    """Signal a process group. The caller has just seen a process of its own in it."""
    if group <= 1 or group == os.getpgrp():
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def become_subreaper() -> bool:
    """Let orphans of our services become our children (prctl(2), PR_SET_CHILD_SUBREAPER).

    True when the kernel agreed. Without it they go to init, which is as well for everything but
    containers without a real init, where their zombies would stay.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
