"""Bringing processes into their cgroups beside the loop, and proving that none was forgotten.

Moving a process into a v2 cgroup takes the kernel 5 to 20 ms when nobody did it just before, so it
is done in a thread of its own while the service already runs. What the service forks meanwhile is
outside. It is found for certain: pids are given out in order, so everybody who was born since the
first of a batch has a number between that one and the last that was given (/proc/loadavg); of
those, who descends from the service, is in its session or carries its mark is moved in as well,
and again until a look finds nobody. Only then is the cell sealed. What escapes is a process that in
these milliseconds left its session, outlived its parent and wiped its environment.
This module never signals anybody.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from lictor.core.drivers.tree import Proc, read_mark, read_proc

if TYPE_CHECKING:
    from lictor.core.drivers.cgroup import Cell
    from lictor.core.model.spec import Limits

log = logging.getLogger(__name__)

Marks: TypeAlias = dict[tuple[bytes, bool], "Entry"]

_ROUNDS = 200  # looks, until we give up against something that forks faster than we move
_MANY = 4096  # numbers given out meanwhile: then a listing of /proc is cheaper


class Newcomer(NamedTuple):
    """A main process: its mark, whether it is a job, and whether an earlier agent started it."""

    pid: int
    mark: bytes
    job: bool = False
    adopted: bool = False


class Entry(NamedTuple):
    """One main process on its way into its cell."""

    cell: Cell
    who: Newcomer
    limits: Limits


class Doorkeeper:
    """One thread, made at the first entry, that takes all who wait at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Entry] = []
        self._busy = False
        self._thread: ThreadPoolExecutor | None = None

    def bring(self, entry: Entry) -> None:
        """Let `entry` in soon; `cell.sealed` or `cell.failed` tells how it went."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "cgroups")
        with self._lock:
            self._waiting.append(entry)
            if self._busy:
                return
            self._busy = True
        self._thread.submit(self._work)

    def close(self) -> None:
        """Finish what is waiting."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _take(self) -> list[Entry]:
        with self._lock:
            taken, self._waiting = self._waiting, []
            self._busy = bool(taken)
            return taken

    def _work(self) -> None:
        while batch := self._take():
            try:
                self._admit(batch)
            except OSError as error:
                # No descriptors left: the cells stay unsealed, and nothing is believed of them.
                log.warning("cgroups cannot be entered: %s", error)

    def _admit(self, batch: list[Entry]) -> None:
        for entry in batch:
            entry.cell.hold_to(entry.limits)
            if not entry.cell.sealed and not entry.cell.holds(entry.who.pid):
                entry.cell.admit(entry.who.pid)
        self._gather([entry for entry in batch if not entry.cell.sealed])
        for entry in batch:
            _follow(entry.cell)

    @staticmethod
    def _gather(batch: list[Entry]) -> None:
        if not batch:
            return
        # Adopted ones have been running for long: their children may have any number.
        first = 0 if any(entry.who.adopted for entry in batch) else batch[0].who.pid
        for _ in range(_ROUNDS):
            strays = list(_strays(batch, born_since(first)))
            for entry, pid in strays:
                entry.cell.admit(pid)
            if not strays:
                for entry in batch:
                    entry.cell.sealed = not entry.cell.failed
                return


def _follow(cell: Cell) -> None:
    """Bring into the v1 hierarchies that limit who was born in the one of membership."""
    for folder in cell.folders[1:]:
        for _ in range(_ROUNDS):
            outside = cell.outside(folder)
            if not outside or cell.failed:
                break
            for pid in outside:
                cell.admit(pid)


def _strays(batch: list[Entry], numbers: Iterable[int]) -> Iterator[tuple[Entry, int]]:
    sessions = {entry.who.pid: entry for entry in batch}
    marks = {(entry.who.mark, entry.who.job): entry for entry in batch}
    families = dict(sessions)
    for number in numbers:
        proc = read_proc(number)
        if proc is None or proc.dead:
            continue
        entry = families.get(number) or _of(proc, families, sessions, marks)
        if entry is None or entry.cell.failed:
            continue
        families[number] = entry
        if not entry.cell.holds(number):
            yield entry, number


def _of(
    proc: Proc, families: dict[int, Entry], sessions: dict[int, Entry], marks: Marks
) -> Entry | None:
    relative = families.get(proc.ppid) or sessions.get(proc.session)
    if relative is not None:
        return relative
    mark = read_mark(proc.pid)
    return marks.get((mark.value, mark.job)) if mark is not None else None


def born_since(pid: int) -> Iterable[int]:
    """`pid` and every number that was given out after it (threads have numbers too); 0: all."""
    last = int(Path("/proc/loadavg").read_bytes().split()[4])
    if 0 < pid <= last <= pid + _MANY:
        return range(pid, last + 1)
    # The numbers began anew, or there were very many.
    return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))
