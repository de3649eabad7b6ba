"""The process driver: services that are plain programs of this host.

Each service is the leader of a session of its own, writes to its own log file and carries our mark
in its environment, so that it needs nothing from the agent once it runs: the agent can die, and the
next one finds the service, its log and its children again. This driver never adopts by pid alone,
never runs anything through a shell, and never lets a second copy of a service run beside what an
earlier agent left of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from lictor.core.drivers.cgroup import Cell, Cells
from lictor.core.drivers.cgroup_entry import Newcomer
from lictor.core.drivers.cgroup_find import Ground
from lictor.core.drivers.ending import TreeEnder, signal_number
from lictor.core.drivers.running import ProcessRunning
from lictor.core.drivers.spawn import account_of, environment, launch, open_log
from lictor.core.drivers.tree import (
    TICKS,
    Census,
    Proc,
    Snapshot,
    Tree,
    boot_id,
    read_mark,
    read_proc,
)
from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.model.spec import DriverKind, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity

_JOB_GRACE = 5.0  # seconds a cancelled job has between TERM and KILL, at most
_FRESH = 5.0  # seconds for which the search for an earlier agent's processes is not repeated
_ORPHAN_AGE = 1.0  # seconds an unknown zombie stays: its parent may be about to collect it


class ProcessDriver:
    """Starts, finds again and ends processes. One per agent; use it within one event loop.

    `agent_id` is the agent's lasting id: together with the service key it makes the mark by which
    the next agent of the same data_dir knows its own. `log_dir` gets one `<key>.log` a service.
    `ground` is where cgroups may be made; by default that is found out.
    """

    def __init__(
        self,
        log_dir: Path,
        agent_id: str,
        boot_id: str | None = None,
        *,
        node: str = "",
        ground: Ground | None = None,
    ) -> None:
        self._log_dir = log_dir
        self._agent_id = agent_id
        self._boot_id = boot_id
        self._node = node
        self._census = Census()
        self._cells = Cells(agent_id, ground)
        self._running: set[ProcessRunning] = set()
        self._inherited: dict[tuple[bytes, bool], list[Proc]] = {}
        self._snapshot: Snapshot | None = None
        self._searched = -_FRESH
        self._orphans: dict[tuple[int, int], float] = {}

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        return "process"

    def notes(self, spec: ServiceSpec) -> tuple[Reason, ...]:
        """Why services get no cgroup on this host, and which limits it cannot keep."""
        return tuple(filter(None, (self._cells.ground.why, self._cells.unkept(spec.limits))))

    def log_path(self, spec: ServiceSpec) -> Path:
        """Where the service writes; older files have `.1`, `.2`, ... behind the name."""
        return self._log_dir / f"{spec.key}.log"

    async def start(self, spec: ServiceSpec) -> ProcessRunning:
        """Execute the service's command. Returns as soon as the program was executed.

        What an earlier agent left of this service, and `recover` did not take over, is ended
        first. Raises `StartFailed` with one of the `start.*` reasons.
        """
        await self._sweep(spec)
        return self._launch(spec, spec.argv(), job=False)

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:
        """Run one `before` job to its end; whatever it leaves in the background is ended then.

        Cancelling ends the job's processes: TERM, KILL after the service's own timeout (five
        seconds at most). Raises `StartFailed`.
        """
        await self._sweep(spec)
        job = self._launch(spec, argv, job=True)
        grace = min(spec.stop.timeout, _JOB_GRACE)
        try:
            return await job.wait()
        finally:
            try:
                await job.stop(StopSpec(signal=spec.stop.signal, timeout=grace))
            except BaseException:
                job.kill_now()
                raise
            finally:
                self._running.discard(job)

    def recover(
        self, spec: ServiceSpec, identity: Identity | None, *, after: float = 0.0
    ) -> ProcessRunning | None:
        """Take over what an earlier agent started, if it still runs and is provably ours.

        With an identity: pid, start time and boot must agree, and a readable mark must not be
        another's. Otherwise the eldest session leader that carries our mark and was born when its
        `LICTOR_RUN` says is the service, unless that run is known to be over: it began before
        `after`, or no later than the process of `identity`, which is dead. Its status at its end
        will be unknown, unless it happens to be a child of this very process.
        """
        self._search()
        mark = self._mark(spec.key)
        proc = self._identified(identity, mark)
        if proc is None:
            over = identity.start_time if identity and identity.boot_id == self._boot() else -1
            proc = self._leader(mark, max(int(after * TICKS), over + 1))
        if proc is None:
            return None
        known = {(p.pid, p.start) for p in self._inherited.pop((mark, False), ())}
        tree = Tree(proc.pid, proc.start, mark, known=known)
        return self._hold(proc, tree, self._adopted_cell(spec, proc))

    def sweep(self, spec: ServiceSpec) -> asyncio.Task[None] | None:
        """Begin to end what an earlier agent left of this service and its jobs; None: nobody is left.

        Its main process is dead, so nothing else tells of the children that outlived it.
        """
        self._search()
        for job in (False, True):
            if (self._mark(spec.key), job) in self._inherited or self._cells.left(
                spec.key, job=job
            ):
                return asyncio.get_running_loop().create_task(self._sweep(spec))
        return None

    def reap_orphans(self) -> int:
        """Reap zombies that the kernel gave to us (see `become_subreaper`); returns how many.

        Never a main process, never one of our own session (another part of the agent waits for
        it), and only what has been a zombie for a second.
        """
        now, us = time.monotonic(), os.getpid()
        seen: dict[tuple[int, int], float] = {}
        reaped = 0
        for proc in self._census.now().children.get(us, ()):
            if not proc.dead or proc.pid in self._census.mains() or proc.session == os.getsid(0):
                continue
            since = self._orphans.get((proc.pid, proc.start), now)
            if now - since < _ORPHAN_AGE:
                seen[proc.pid, proc.start] = since
                continue
            with contextlib.suppress(ChildProcessError):
                reaped += os.waitpid(proc.pid, os.WNOHANG)[0] != 0
        self._orphans = seen
        return reaped

    def close(self) -> None:
        """Let go of everything and touch no process: services outlive their agent."""
        for running in self._running:
            running.forget()
        self._running.clear()
        self._cells.close()

    # --- within -----------------------------------------------------------------------------

    def _boot(self) -> str:
        if self._boot_id is None:
            self._boot_id = boot_id()
        return self._boot_id

    def _mark(self, key: ServiceKey) -> bytes:
        return f"{self._agent_id}:{key}".encode()

    def _launch(self, spec: ServiceSpec, argv: Sequence[str], *, job: bool) -> ProcessRunning:
        account = account_of(spec)
        env = environment(spec, account, agent_id=self._agent_id, node=self._node, job=job)
        log = open_log(self.log_path(spec))
        cell = self._cells.cell(spec.key, spec.limits, job=job)
        try:
            with cell.birth() if cell is not None and cell.make() else contextlib.nullcontext():
                child = launch(spec, argv, env, account, log)
        except StartFailed:
            if cell is not None:
                cell.remove()
            raise
        finally:
            os.close(log)
        mark = self._mark(spec.key)
        if cell is not None:
            self._cells.enter(cell, Newcomer(child.pid, mark, job), spec.limits)
        identity = Identity(child.pid, child.start_time, self._boot())
        tree = Tree(child.pid, child.start_time, mark, job=job)
        return self._keep(ProcessRunning(identity, tree, self._census, child.pidfd, cell))

    def _adopted_cell(self, spec: ServiceSpec, proc: Proc) -> Cell | None:
        """The cell of what is taken over, which is sealed once nobody is found outside of it."""
        cell = self._cells.cell(spec.key, spec.limits)
        if cell is not None and cell.make():
            newcomer = Newcomer(proc.pid, self._mark(spec.key), adopted=True)
            self._cells.enter(cell, newcomer, spec.limits)
        return cell

    def _hold(self, proc: Proc, tree: Tree, cell: Cell | None) -> ProcessRunning | None:
        try:
            pidfd = os.pidfd_open(proc.pid)
        except OSError:
            return None
        current = read_proc(proc.pid)
        if current is None or current.start != proc.start:
            os.close(pidfd)
            return None
        identity = Identity(proc.pid, proc.start, self._boot())
        return self._keep(ProcessRunning(identity, tree, self._census, pidfd, cell))

    def _keep(self, running: ProcessRunning) -> ProcessRunning:
        # Those that are over are dropped whenever a new one comes: no growth, no bookkeeping.
        self._running = {one for one in self._running if one.exit is None}
        self._running.add(running)
        return running

    def _identified(self, identity: Identity | None, mark: bytes) -> Proc | None:
        if identity is None or identity.pid <= 1 or identity.boot_id != self._boot():
            return None
        if identity.container_id is not None:
            return (
                None  # a container's process is the docker driver's, whatever config.yml says now
            )
        proc = read_proc(identity.pid)
        if proc is None or proc.dead or proc.start != identity.start_time:
            return None
        theirs = read_mark(proc.pid)
        # No mark at all is no contradiction: some programs write their title over it.
        return proc if theirs is None or (theirs.value, theirs.job) == (mark, False) else None

    def _leader(self, mark: bytes, earliest: int) -> Proc | None:
        """The main process of a run that began at `earliest` (ticks since boot) or later."""
        leaders = [
            current
            for proc in self._inherited.get((mark, False), ())
            if self._snapshot is not None
            and self._snapshot.marks[proc.pid].run >= earliest
            and self._snapshot.marks[proc.pid].leads(proc)
            and (current := read_proc(proc.pid)) is not None
            and current.start == proc.start
            and not current.dead
        ]
        return min(leaders, key=lambda proc: (proc.start, proc.pid), default=None)

    def _search(self) -> None:
        """Look once for every process that an agent of our id started before us."""
        if time.monotonic() - self._searched < _FRESH:
            return
        ours = f"{self._agent_id}:".encode()
        mine = {running.identity.pid for running in self._running}
        # Sessions that this driver leads itself are no inheritance.
        self._snapshot = Snapshot.take(sessions=mine)
        never = self._snapshot.untouchable()
        self._inherited = {
            key: [proc for proc in procs if proc.pid not in never]
            for key, procs in self._snapshot.by_mark.items()
            if key[0].startswith(ours)
        }
        self._searched = time.monotonic()

    async def _sweep(self, spec: ServiceSpec) -> None:
        """End what is left of this service from an earlier agent, jobs included."""
        if self._snapshot is None:
            self._search()
        mark = self._mark(spec.key)
        for job in (False, True):
            procs = self._inherited.pop((mark, job), [])
            cell = self._cells.cell(spec.key, spec.limits, job=job)
            if not procs and (cell is None or not cell.living()):
                continue
            if procs:
                self._census.since(min(proc.start for proc in procs))
            known = {(proc.pid, proc.start) for proc in procs}
            tree = Tree(0, 0, mark, job=job, known=known)
            ender = TreeEnder(tree, self._census, lambda: True, cell)
            await ender.end(signal_number(spec.stop.signal), spec.stop.timeout)
