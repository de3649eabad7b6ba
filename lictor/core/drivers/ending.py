"""Ending a process tree: ask, wait, insist, and look again until nothing is left.

The loop is driven by events: a pidfd of each process tells its end, and only when all that were
seen have ended is the table read again, so a service that ends well costs two passes in all, or
one with a cgroup: while somebody is in it, it says itself who.
Every caller runs the loop for himself over shared state; a second caller with a shorter timeout
hurries the first, and a cancelled one leaves nothing half done behind. What this never does: it
never returns while a process of the tree lives that can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Callable

from lictor.core.drivers.cgroup import Cell
from lictor.core.drivers.tree import Census, Proc, Snapshot, Tree, send, send_group

#: How long to go on after KILL, in seconds: a process that frees much memory takes its time.
KILL_PATIENCE = 10.0
_WATCHED = 256  # descriptors for one tree; a storm of forks must not take them all
_LOOK_AGAIN = 0.2  # seconds between rounds of KILL, against whoever forks meanwhile


def signal_number(name: str) -> int:
    """`TERM`, `SIGTERM` or `15` as a number. An unknown name is TERM: a stop must do something."""
    if name.isdigit() and 1 <= int(name) < signal.NSIG:
        return int(name)
    upper = name.upper().removeprefix("SIG")
    return int(getattr(signal, f"SIG{upper}", signal.SIGTERM))


class TreeEnder:
    """Ends one tree. `collect` is called when the main process may have ended.

    `cell` is its cgroup, if it has one. Once that is sealed, being empty proves that nobody is left;
    a `thorough` end looks through the process table all the same, for who left the cgroup on
    purpose (a service with root's rights can).
    """

    def __init__(
        self, tree: Tree, census: Census, collect: Callable[[], bool], cell: Cell | None = None
    ) -> None:
        self.tree = tree
        self.cell = cell
        self.killed = False
        self.thorough = True
        self._census = census
        self._collect = collect
        self._pulse = asyncio.Event()
        self._asked: set[tuple[int, int]] = set()
        self._group_asked = False
        self._kill_at = math.inf
        self._watched: dict[tuple[int, int], int] = {}

    @property
    def asked(self) -> bool:
        """Whether anybody of the tree was told to end."""
        return self.killed or bool(self._asked)

    def nudge(self) -> None:
        """Something ended: look again, unless others of the tree are still awaited."""
        if not self._watched:
            self._pulse.set()

    async def end(self, number: int, grace: float) -> int:
        """Signal `number`, KILL after `grace` seconds; returns how many would not die."""
        loop = asyncio.get_running_loop()
        wish = loop.time() + max(grace, 0.0)
        if wish < self._kill_at:
            self._kill_at = wish
            self._pulse.set()
        give_up = math.inf
        try:
            while True:
                left = await self._look()
                now = loop.time()
                if left == [] and self._collect():
                    return 0
                if now >= self._kill_at:
                    give_up = min(give_up, now + KILL_PATIENCE)
                    if now >= give_up:
                        return 1 if left is None else len(left)
                    self._kill(left)
                elif left is not None:
                    self._ask(left, number)
                self._watch(left)
                await self._pause(self._kill_at if now < self._kill_at else now + _LOOK_AGAIN)
        finally:
            self.unwatch()

    def kill_now(self) -> None:
        """KILL whatever lives of the tree, without waiting for it."""
        try:
            left: list[Proc] | None = self.members()
        except OSError:
            left = None
        self._kill(left)

    def members(self) -> list[Proc]:
        """Whoever lives of the tree now: one pass over /proc."""
        return self._with_cell(self.tree.members(self._census.now()))

    def unwatch(self) -> None:
        """Let go of every descriptor; another caller that still waits looks again for himself."""
        for key in tuple(self._watched):
            self._let_go(key)
        self._pulse.set()

    async def _look(self) -> list[Proc] | None:
        """Who lives of the tree; None when the agent itself lacks the means to look."""
        self._pulse.clear()
        try:
            sealed = self.cell is not None and self.cell.sealed
            if self.cell is not None and sealed:
                inside = self.cell.living()
                if inside or not self.thorough:
                    return inside
            snapshot = await self._census.take(self.tree.root)
            left = self.tree.members(snapshot)
            if not sealed:
                left = self._with_cell(left)
        except OSError:
            return None
        self._reap(snapshot)
        return left

    def _with_cell(self, found: list[Proc]) -> list[Proc]:
        if self.cell is None:
            return found
        everybody = {proc.pid: proc for proc in (*self.cell.living(), *found)}
        return list(everybody.values())

    def _reap(self, snapshot: Snapshot) -> None:
        """Reap orphans of this tree that the kernel gave to us as the sub-reaper."""
        us = os.getpid()
        for proc in snapshot.by_session.get(self.tree.root, ()) if self.tree.root else ():
            if proc.dead and proc.ppid == us and proc.pid != self.tree.root:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(proc.pid, os.WNOHANG)

    def _ask(self, left: list[Proc], number: int) -> None:
        fresh = [proc for proc in left if (proc.pid, proc.start) not in self._asked]
        grouped = not self._group_asked and self._has_group(fresh)
        for signum in (number, signal.SIGCONT):
            # A stopped process gets a signal only when it goes on; CONT does not hurt KILL.
            chosen = fresh if signum == number else [p for p in fresh if p.state == "T"]
            self._signal(chosen, signum, grouped=grouped)
        self._group_asked |= grouped
        self._asked |= {(proc.pid, proc.start) for proc in fresh}

    def _kill(self, left: list[Proc] | None) -> None:
        if self.cell is not None and left != [] and self.cell.kill():
            self.killed = True
        if left is None:
            # Blind: but while the main process is not collected its group's number is ours.
            if self.tree.root and not self._collect():
                self.killed = True
                send_group(self.tree.root, signal.SIGKILL)
        elif left:
            self.killed = True
            self._signal(left, signal.SIGKILL, grouped=self._has_group(left))

    def _signal(self, procs: list[Proc], number: int, *, grouped: bool) -> None:
        if grouped and self._has_group(procs):
            send_group(self.tree.root, number)
        for proc in procs:
            if not (grouped and self._in_group(proc)):
                send(proc, number)

    def _has_group(self, procs: list[Proc]) -> bool:
        return any(self._in_group(proc) for proc in procs)

    def _in_group(self, proc: Proc) -> bool:
        root = self.tree.root
        return root > 1 and proc.pgrp == root and proc.session == root

    def _watch(self, left: list[Proc] | None) -> None:
        for proc in (left or ())[:_WATCHED]:
            key = (proc.pid, proc.start)
            if key in self._watched:
                continue
            try:
                fd = os.pidfd_open(proc.pid)
            except OSError:
                continue
            self._watched[key] = fd
            asyncio.get_running_loop().add_reader(fd, self._one_ended, key)
        if not self._watched:
            # They ended between the pass and here, or there are no descriptors left: look again.
            soon = 0.005 if left is not None else _LOOK_AGAIN
            asyncio.get_running_loop().call_later(soon, self._pulse.set)

    def _one_ended(self, key: tuple[int, int]) -> None:
        if key[0] != self.tree.root:
            # An orphan may have become our child (see `become_subreaper`).
            with contextlib.suppress(OSError):
                os.waitid(os.P_PIDFD, self._watched[key], os.WEXITED | os.WNOHANG)
        self._let_go(key)
        self.nudge()

    def _let_go(self, key: tuple[int, int]) -> None:
        fd = self._watched.pop(key, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    async def _pause(self, until: float) -> None:
        # Not asyncio.timeout: in the clean-up of a cancelled task Python 3.11.2 (Debian 12) takes
        # the end of its time for another cancellation.
        alarm = asyncio.get_running_loop().call_at(until, self._pulse.set)
        try:
            await self._pulse.wait()
        finally:
            alarm.cancel()
