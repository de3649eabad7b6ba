"""One running process, ours or taken over, as the process driver holds it.

The end of the main process is told by its pidfd, in the loop, without polling and without a signal
handler; its status is asked for once, of that one process (`waitid(P_PIDFD)`), so nobody else's
child is ever reaped here. An adopted process was started by an earlier agent: its end is seen just
as quickly, its status went to somebody else and is known only where the kernel tells it (`pidfd`). What this never does: decide to end
anything by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from dataclasses import replace

from lictor.core.drivers.cgroup import Cell
from lictor.core.drivers.cgroup_find import WITHOUT
from lictor.core.drivers.ending import TreeEnder, signal_number
from lictor.core.drivers.pidfd import can_tell_exit, exit_of
from lictor.core.drivers.tree import Census, Tree
from lictor.core.model.spec import StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports import StopReport

_REAPED_WITHIN = 0.05  # seconds that an adopted process's new parent gets to take its status
_ASK_AGAIN = 0.002  # seconds


class ProcessRunning:
    """A main process and its tree. Made by `ProcessDriver` only; see `ports.Running`."""

    def __init__(
        self,
        identity: Identity,
        tree: Tree,
        census: Census,
        pidfd: int,
        cell: Cell | None = None,
    ) -> None:
        self._identity = identity
        self._cell = cell
        self._census = census
        self._pidfd = pidfd
        self._exit: Exit | None = None
        self._ended = asyncio.Event()
        self._report: StopReport | None = None
        self._ender = TreeEnder(tree, census, self._collect, cell)
        self._ender.thorough = False
        self._patience = _REAPED_WITHIN
        self._asking = False
        census.born(identity.pid, identity.start_time)
        asyncio.get_running_loop().add_reader(pidfd, self._collect)

    @property
    def identity(self) -> Identity:
        """What to write down so that another agent can take this over."""
        return self._identity

    @property
    def containment(self) -> str:
        """How its processes are known: `cgroup v2`, ..., or `group, session, mark`."""
        return WITHOUT if self._cell is None else self._cell.containment

    @property
    def exit(self) -> Exit | None:
        """How the main process ended; None while it runs."""
        return self._exit

    @property
    def over(self) -> bool:
        """Whether the main process is known to have ended."""
        return self._exit is not None

    async def wait(self) -> Exit:
        """Wait until the main process has ended."""
        await self._ended.wait()
        return self._exit or Exit()

    async def stop(self, how: StopSpec) -> StopReport:
        """End the whole tree: `how.signal`, then KILL after `how.timeout` seconds.

        Also to be called after an end nobody asked for: it ends what the main process left
        behind. Called again while a stop goes on, it can only shorten the timeout.
        `survivors` counts processes that KILL could not end within ten seconds (blocked in the
        kernel) or that we have no right to signal.
        """
        if self._report is not None:
            return self._report
        # What an end by itself left is looked for in the cgroup only: that takes microseconds, and
        # the next start waits for it.
        self._ender.thorough |= self._exit is None
        left = await self._ender.end(signal_number(how.signal), how.timeout)
        report = StopReport(self._exit or Exit(), killed=self._ender.killed, survivors=left)
        if left == 0:
            self._report = report
            self._census.gone(self._identity.pid)
            if self._cell is not None:
                self._cell.remove()
        return report

    def survivors(self) -> list[int]:
        """Pids of the tree other than the main process, now.

        After the main process ended by itself with status 0, survivors mean that it daemonised.
        """
        if self._cell is not None and self._cell.sealed:
            alive = self._cell.living()
        else:
            alive = self._ender.members()
        return sorted(proc.pid for proc in alive if proc.pid != self._identity.pid)

    def kill_now(self) -> None:
        """KILL the tree without waiting: for an agent that has no time left."""
        self._ender.kill_now()

    def forget(self) -> None:
        """Let go without touching any process: the agent ends, the service stays."""
        self._close()
        self._ender.unwatch()
        self._census.gone(self._identity.pid)

    def _collect(self) -> bool:
        """Take the status if the main process has ended; returns whether it has."""
        if self._exit is not None:
            return True
        if self._pidfd < 0:
            return False
        try:
            status = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            # Not our child, so the descriptor itself has to tell whether it has ended.
            if not _readable(self._pidfd):
                return False
            told = exit_of(self._pidfd)
            if told is None and self._wait_for_reaper():
                return False
            exit_ = told or Exit()
        else:
            if status is None:
                return False
            done = status.si_code == os.CLD_EXITED
            exit_ = Exit(code=status.si_status) if done else Exit(signal=status.si_status)
        if exit_.signal == signal.SIGKILL and self._cell is not None and self._cell.oom_killed():
            exit_ = replace(exit_, oom=True)
        elif exit_.clean and not self._ender.asked:
            # (without the means to look, what was just told counts: it is told only once)
            with contextlib.suppress(OSError):
                exit_ = replace(exit_, left=len(self.survivors()))
        self._exit = exit_
        self._close()
        self._census.ended(self._identity.pid)
        self._ended.set()
        self._ender.nudge()
        return True

    def _wait_for_reaper(self) -> bool:
        """Ask again soon: the kernel tells the status once the parent has taken it (Linux 6.15).

        False when there is nothing to wait for any more.
        """
        if self._patience <= 0 or not can_tell_exit():
            return False
        loop = asyncio.get_running_loop()
        if self._patience == _REAPED_WITHIN:
            loop.remove_reader(self._pidfd)  # it stays readable from now on
        if not self._asking:
            self._asking = True
            self._patience -= _ASK_AGAIN
            loop.call_later(_ASK_AGAIN, self._ask_again)
        return True

    def _ask_again(self) -> None:
        # (a flag, and no look at the clock: uvloop's timers may come a moment before their time)
        self._asking = False
        self._collect()

    def _close(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
