"""Which service a process on a card belongs to, and which of them outlived their service.

A process is ours only if that can be proved: it is the main process of a service or descends from one,
it is in the session that one leads, it is in the cgroup that we made for one or in the container of
one, or it carries our mark in its environment. What was proved once stays so for as long as the process
lives: programs such as vLLM overwrite their environment and lose their parents. Everything else is a
stranger, which is shown and never touched. Nothing here reads more of /proc than the few processes
that are on a card.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lictor.core.drivers.tree import Proc, read_mark, read_proc, send
from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.runtime.storage.codec import key_from

_CELL = re.compile(r"/lictor-([0-9a-f-]+)/([a-z0-9@.-]+)\.(?:run|job)(?:/|$)", re.MULTILINE)
_PREFIX = 12  # characters of the agent id in the name of a cgroup (`core.drivers.cgroup`)
_DEEP = 64  # generations; more is a table that changes while it is read
# Seconds that a left-over is seen before it is sent TERM, and then KILL: its driver comes first.
_TERM_AFTER, _KILL_AFTER = 3.0, 6.0


@dataclass(frozen=True, slots=True)
class Owned:
    """A process of ours. `run` is when its run began (ticks since boot), -1: not known."""

    key: ServiceKey
    proc: Proc
    run: int


class _Seen(NamedTuple):
    pid: int
    start: int


class Owners:
    """Remembers what was proved. `agent_id` is our lasting id, part of every mark."""

    def __init__(self, agent_id: str) -> None:
        self._agent_id = agent_id
        self._known: dict[_Seen, Owned | None] = {}
        self._ending: dict[_Seen, tuple[float, bool]] = {}

    def of(
        self, pids: Collection[int], mains: Mapping[ServiceKey, Identity]
    ) -> dict[int, Owned | None]:
        """The owner of each of these processes, None: a stranger's.

        The driver lists a process for a moment after its end, or for ever if it leaks: whose it was
        is remembered until then. Of the dead ones, those that never were ours are left out.
        """
        found: dict[int, Owned | None] = {}
        known: dict[_Seen, Owned | None] = {}
        before = {seen.pid: (seen, owned) for seen, owned in self._known.items()}
        by_pid = {identity.pid: key for key, identity in mains.items() if identity.pid > 0}
        for pid in pids:
            proc = read_proc(pid)
            if proc is None:
                if pid in before:
                    seen, owner = before[pid]
                    known[seen] = found[pid] = owner
                continue
            seen = _Seen(pid, proc.start)
            owner = self._known.get(seen) or self._prove(proc, mains, by_pid)
            known[seen] = found[pid] = owner
        self._known = known
        return found

    def leftovers(
        self, found: Mapping[int, Owned | None], mains: Mapping[ServiceKey, Identity | None]
    ) -> list[Owned]:
        """Processes of ours whose run is over: their service is at rest, undefined, or a later run.

        `mains` has the services that run or are being ended, with the main process where there is one.
        """
        return [owned for owned in found.values() if owned is not None and _over(owned, mains)]

    def end(self, leftovers: Collection[Owned]) -> list[Owned]:
        """TERM what was left for three seconds, KILL three later; returns those sent TERM just now."""
        now = time.monotonic()
        fresh: list[Owned] = []
        waiting: dict[_Seen, tuple[float, bool]] = {}
        for owned in leftovers:
            seen = _Seen(owned.proc.pid, owned.proc.start)
            since, told = self._ending.get(seen, (now, False))
            if not told and now - since >= _TERM_AFTER:
                send(owned.proc, signal.SIGTERM)
                fresh.append(owned)
                told = True
            elif told and now - since >= _KILL_AFTER:
                send(owned.proc, signal.SIGKILL)
            waiting[seen] = since, told
        self._ending = waiting
        return fresh

    def _prove(
        self, proc: Proc, mains: Mapping[ServiceKey, Identity], by_pid: Mapping[int, ServiceKey]
    ) -> Owned | None:
        mark = read_mark(proc.pid)
        agent, _, name = (
            (mark.value if mark is not None else b"").decode(errors="replace").partition(":")
        )
        if mark is not None and agent == self._agent_id and (key := key_from(name)) is not None:
            return Owned(key, proc, mark.run)
        if mark is not None:
            return None  # another agent's
        descends = _main_of(proc, mains, by_pid)
        if descends is not None:
            return Owned(descends, proc, mains[descends].start_time)
        inside = self._cell_or_container(proc.pid, mains)
        return Owned(inside, proc, -1) if inside is not None else None

    def _cell_or_container(
        self, pid: int, mains: Mapping[ServiceKey, Identity]
    ) -> ServiceKey | None:
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        for match in _CELL.finditer(text):
            if match[1] == self._agent_id[:_PREFIX] and (key := key_from(match[2])) is not None:
                return key
        for key, identity in mains.items():
            if identity.container_id and identity.container_id in text:
                return key
        return None


def _main_of(
    proc: Proc, mains: Mapping[ServiceKey, Identity], by_pid: Mapping[int, ServiceKey]
) -> ServiceKey | None:
    """The service whose main process is this one, leads its session, or is an ancestor of it."""
    step: Proc | None = proc
    for _ in range(_DEEP):
        if step is None:
            return None
        for pid in (step.pid, step.session):
            key = by_pid.get(pid)
            if key is not None:
                main = step if pid == step.pid else read_proc(pid)
                if main is not None and main.start == mains[key].start_time:
                    return key
        step = read_proc(step.ppid) if step.ppid > 1 else None
    return None


def _over(owned: Owned, mains: Mapping[ServiceKey, Identity | None]) -> bool:
    if owned.key not in mains:
        return True
    main = mains[owned.key]
    if main is None or not main.pid or owned.run < 0:
        return False
    # Marks are written a moment before the main process is born: an earlier run's is far older.
    return owned.proc.pid != main.pid and owned.run + 100 < main.start_time
