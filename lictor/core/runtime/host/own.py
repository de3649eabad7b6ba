"""The agent as a process among processes: what it owes to the host it runs on.

It is spared when memory runs out, it collects the orphans that the kernel gives to it (as the
sub-reaper of its services, and as pid 1 of a container those of everybody), and as pid 1 it can be
told to end from its first moment on. What this never does: collect a process that somebody here
waits for, or pass a signal on to services, which have their own way of being stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from types import FrameType
from typing import Protocol

from lictor.core.drivers.oom import spare_agent

_LOOK, _LOOK_AGAIN, _LOOK_TIRED = 1.0, 0.3, 5.0  # seconds between two looks for orphans


class Collector(Protocol):
    """Who knows which children are somebody's: the process driver."""

    def reap_orphans(self) -> int:
        """Collect every zombie that is nobody's, once it is old enough; how many."""
        ...


def is_init() -> bool:
    """Whether we are pid 1 of a container: what we leave running ends with us."""
    return os.getpid() == 1


def begin() -> None:
    """What must be so before anything is started."""
    spare_agent()
    if is_init():
        # The kernel drops every signal that pid 1 has no handler for (kill(2), NOTES): until the
        # agent has its own, `docker stop` would wait in vain.
        signal.signal(signal.SIGTERM, _end_at_once)
        if os.getsid(0) == 0:
            # Our session's leader is outside of the container, as is that of whoever is sent in from
            # there: without a session of our own, his orphans would look like our helpers.
            os.setsid()


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


async def collect_orphans(collector: Collector) -> None:
    """Collect, for ever, what daemonised below us (or, for pid 1, anywhere) and died.

    One system call a second tells whether any child waits to be collected; only then is the process
    table looked at. A SIGCHLD handler would tell sooner, but uvloop keeps that signal for itself,
    and a zombie costs no more than its number.
    """
    pause, before = _LOOK, 0
    while True:
        await asyncio.sleep(pause)
        waiting = _some_zombie()
        if waiting == 0:
            pause, before = _LOOK, 0
            continue
        reaped = collector.reap_orphans()
        # One that stays is somebody's who has not come for it yet: no reason to look so often.
        stuck = reaped == 0 and waiting == before
        pause = min(pause * 2, _LOOK_TIRED) if stuck else _LOOK_AGAIN
        before = waiting


def _some_zombie() -> int:
    """The pid of a child that has ended and was not collected; 0: there is none."""
    try:
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if seen is None else seen.si_pid
