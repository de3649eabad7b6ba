"""What services use of this host, read from /proc.

`ProcUsage` measures what each service uses, its whole tree, in one pass over the process table for
all services together. Nothing here signals anything: looking must not change what is looked at.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.ports import Usage

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_AGE = 2.0  # seconds a sample may be old
_MIN_AGE = 0.25  # seconds under which even a missing service is no reason to look again
_SETTLED = 10.0  # seconds after which a process has become what it is going to be
_FORGET_STRANGERS = 120.0  # seconds until numbers that belonged to others are looked at again
_LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN


# --- usage -----------------------------------------------------------------------------------


class _Row(NamedTuple):
    """What one line of /proc/PID/stat says about usage (proc(5): fields 4, 6, 14 to 17, 20, 22, 24)."""

    ppid: int
    session: int
    ticks: int
    ended: int  # of children that were waited for
    threads: int
    start: int
    rss: int


class ProcUsage:
    """The `UsageProbe` over /proc.

    Memory is the sum of the resident sets, so pages that processes of one service share count for
    each of them. CPU is that of the living processes since the sample before (100 is one core);
    for a process that was not there then, since it started. May be asked from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[int, _Row] = {}
        self._at = float("-inf")
        self._before: dict[int, _Row] = {}
        self._before_at = float("-inf")
        self._strangers: set[int] = set()
        self._strangers_since = float("-inf")
        self._asked: dict[ServiceKey, Identity] = {}
        self._trees: dict[ServiceKey, list[int]] = {}
        self._usage: dict[ServiceKey, Usage] = {}
        self._detailed: dict[ServiceKey, Usage] = {}
        self._detailed_at = float("-inf")

    def sample(
        self,
        roots: Mapping[ServiceKey, Identity],
        *,
        details: bool = False,
        max_age: float = _MAX_AGE,
    ) -> Mapping[ServiceKey, Usage]:
        """Usage of each tree by its main process; a service that is gone is left out.

        `max_age` (seconds) is how old the sample may be; `details` counts descriptors and
        connections too, which takes a look at each of them (call it in a thread).
        """
        with self._lock:
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._look(roots, now, max_age)
            usage, trees = self._usage, self._trees
            if not details:
                return usage
            if now - self._detailed_at <= max_age and self._detailed.keys() == usage.keys():
                return self._detailed
        detailed = _with_details(usage, trees)
        with self._lock:
            self._detailed, self._detailed_at = detailed, now
        return detailed

    def age(self) -> float:
        """Seconds since the last pass: what the next one will tell of CPU is the mean over them."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._at

    def _look(self, roots: Mapping[ServiceKey, Identity], now: float, max_age: float) -> None:
        wanted = {identity.pid: key for key, identity in roots.items() if identity.pid > 0}
        age = now - self._at
        fresh = age > max_age or (age > _MIN_AGE and not wanted.keys() <= self._rows.keys())
        if fresh:
            if now - self._strangers_since > _FORGET_STRANGERS:
                self._strangers, self._strangers_since = set(), now
            self._before, self._before_at = self._rows, self._at
            self._rows = dict(_rows(self._strangers - wanted.keys()))
            self._at = now
        elif self._asked == roots:
            return
        self._asked = dict(roots)
        rows = self._rows
        living = {
            pid: key
            for pid, key in wanted.items()
            if pid in rows and rows[pid].start == roots[key].start_time
        }
        self._trees = self._owned(living, now)
        self._usage = {key: self._sum(pids) for key, pids in self._trees.items()}

    def _owned(self, living: Mapping[int, ServiceKey], now: float) -> dict[ServiceKey, list[int]]:
        owners: dict[int, ServiceKey | None] = dict(living)
        trees: dict[ServiceKey, list[int]] = {key: [] for key in living.values()}
        old = (now - _SETTLED) * _TICKS
        for pid, row in self._rows.items():
            owner = living.get(row.session) or self._owner(pid, living, owners)
            if owner is not None:
                trees[owner].append(pid)
            elif row.start < old:
                # What is no service's does not become one: need not be read again for a while.
                self._strangers.add(pid)
        return trees

    def _owner(
        self, pid: int, living: Mapping[int, ServiceKey], owners: dict[int, ServiceKey | None]
    ) -> ServiceKey | None:
        """The service of a process: by its session, else by the nearest ancestor that has one."""
        path: list[int] = []
        owner: ServiceKey | None = None
        while pid in self._rows and pid not in owners:
            path.append(pid)
            owners[pid] = None  # also ends a walk in circles, should pids have been reused
            row = self._rows[pid]
            if row.session in living:
                owner = living[row.session]
                break
            pid = row.ppid
        else:
            owner = owners.get(pid)
        for step in path:
            owners[step] = owner
        return owner

    def _sum(self, pids: list[int]) -> Usage:
        percent = 0.0
        memory = threads = ticks = 0
        for pid in pids:
            row, old = self._rows[pid], self._before.get(pid)
            if old is not None and old.start == row.start:
                used, span = row.ticks - old.ticks, self._at - self._before_at
            else:
                used, span = row.ticks, self._at - row.start / _TICKS
            if used:
                # A span under one tick says nothing about a rate.
                percent += 100.0 * used / _TICKS / max(span, 1.0 / _TICKS)
            memory += row.rss
            ticks += row.ticks + row.ended
            threads += row.threads
        return Usage(
            cpu_percent=round(percent, 1),
            cpu_seconds=round(ticks / _TICKS, 2),
            memory_bytes=memory * _PAGE,
            processes=len(pids),
            threads=threads,
        )


def _rows(skip: Collection[int] = ()) -> Iterator[tuple[int, _Row]]:
    """The process table, but for `skip`. Hot: about 10 microseconds a process, nearly all reading."""
    opened, read, close, flags = os.open, os.read, os.close, os.O_RDONLY | os.O_CLOEXEC
    for name in os.listdir("/proc"):  # noqa: PTH208 - hot: strings, not Path objects
        if not name.isdigit() or (pid := int(name)) in skip:
            continue
        try:
            fd = opened(f"/proc/{name}/stat", flags)
        except OSError:
            continue
        try:
            data = read(fd, 2048)
        except OSError:
            continue
        finally:
            close(fd)
        # (drivers.tree reads the same line for other fields; drivers and probes know not each other)
        part = data[data.rindex(b")") + 2 :].split(None, 22)
        if part[0] not in {b"Z", b"X"}:
            used, ended = int(part[11]) + int(part[12]), int(part[13]) + int(part[14])
            yield (
                pid,
                _Row(
                    *(int(part[1]), int(part[3]), used, ended),
                    *(int(part[17]), int(part[19]), int(part[21])),
                ),
            )


# --- descriptors and connections -------------------------------------------------------------


def _with_details(
    usage: Mapping[ServiceKey, Usage], trees: Mapping[ServiceKey, list[int]]
) -> dict[ServiceKey, Usage]:
    connected = _connected()
    result: dict[ServiceKey, Usage] = {}
    for key, one in usage.items():
        counts = [_descriptors(pid) for pid in trees.get(key, ())]
        if not counts or any(count is None for count in counts):
            result[key] = one
            continue
        fds = sum(count[0] for count in counts if count is not None)
        # A socket that several processes of the tree share is one connection.
        sockets = set().union(*(count[1] for count in counts if count is not None))
        result[key] = replace(one, fds=fds, connections=len(sockets & connected))
    return result


def _descriptors(pid: int) -> tuple[int, set[str]] | None:
    """How many descriptors a process has open, and its sockets; None: not ours to see."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - hot
    except FileNotFoundError:
        return 0, set()  # it just ended
    except OSError:
        return None
    sockets: set[str] = set()
    for name in names:
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{name}")  # noqa: PTH115 - hot
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    return len(names), sockets


def _connected() -> set[str]:
    """The inodes of every TCP socket of this host that is connected (or being so)."""
    found: set[str] = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/net/{name}").read_text(encoding="ascii")
            for line in text.splitlines()[1:]:
                part = line.split(None, 10)
                if part[3] != _LISTEN and part[9] != "0":  # 0: TIME_WAIT, nobody's any more
                    found.add(part[9])
    return found
