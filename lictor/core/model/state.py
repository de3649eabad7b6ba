"""What is: the observed state of one service, as its runner last saw it.

Monotonic times are seconds of CLOCK_BOOTTIME-like time that survives a restart of the agent (not of
the host); `*_wall` are Unix seconds for people. Nothing here is computed from the wall clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lictor.core.model.reason import Reason, because


class Phase(StrEnum):
    """Where a service is in its life. *Running but not yet ready* is `starting`."""

    STOPPED = "stopped"  # not running, and nobody is about to start it
    QUEUED = "queued"  # wanted, waiting for a dependency or a place
    STARTING = "starting"  # before-jobs, spawned, or loading: no health pass yet
    READY = "ready"  # running, and its health probe passed
    UNHEALTHY = "unhealthy"  # running, was ready, and fails its health check
    STOPPING = "stopping"  # told to end; its processes are not all gone yet
    BACKOFF = "backoff"  # ended by itself; the next start has a time
    FAILED = "failed"  # ended by itself, and will not be started again by itself
    BLOCKED = "blocked"  # wanted, and cannot run on this host as things are
    UNKNOWN = "unknown"  # nobody can say (its driver does not answer)

    @property
    def running(self) -> bool:
        """Whether processes of the service may exist in this phase."""
        return self in _RUNNING

    @property
    def seed_word(self) -> str:
        """The word of the users' older API: running, stopped or error."""
        if self in {Phase.STARTING, Phase.READY, Phase.UNHEALTHY}:
            return "running"
        if self in {Phase.BACKOFF, Phase.FAILED, Phase.UNKNOWN}:
            return "error"
        return "stopped"


_RUNNING = frozenset({Phase.STARTING, Phase.READY, Phase.UNHEALTHY, Phase.STOPPING})


class Health(StrEnum):
    """Consul's words for health, and no others."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process: enough to recognise it again, and never to take a stranger for it.

    `start_time` is field 22 of /proc/PID/stat (clock ticks since boot), `boot_id` is
    /proc/sys/kernel/random/boot_id: together with `pid` they are unique. `container_id` is set by
    the docker driver instead of a pid of ours.
    """

    pid: int
    start_time: int
    boot_id: str
    container_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. `code` and `signal` both None: it was not ours to ask (adopted).

    `left` counts the processes that went on after it said that all went well: it daemonised.
    """

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    left: int = 0

    @property
    def clean(self) -> bool:
        """Whether it said that all went well, and left nothing behind."""
        return self.code == 0 and not self.left

    def reason(self) -> Reason:
        """The reason that names this exit."""
        if self.oom:
            return because("exit.oom")
        if self.signal is not None:
            return because("exit.signal", signal=_signal_name(self.signal))
        if self.left:
            return because("exit.daemonised", left=self.left)
        if self.code is not None:
            return because("exit.code", code=self.code)
        return because("exit.unknown")


def _signal_name(number: int) -> str:
    names = {1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL"}
    names |= {11: "SEGV", 13: "PIPE", 14: "ALRM", 15: "TERM"}
    return names.get(number, str(number))


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Everything a runner knows about its service.

    `reason` explains `phase`. `failures` counts consecutive failed runs and drives the back-off
    (`spared`: the first of them was followed by an immediate restart);
    `restarts` counts every start that replaced a run that ended by itself, and survives the agent.
    `next_start` is set in `backoff` only. `failing_since` is when the health check went critical.
    `operator_restart_wall` is the last restart order that was acted on. `done`: it ended by itself
    as its policy allows, and a new start needs an order. `unregistered` is `lictor unregister`.
    `ended_because` says why the last run ended, if nobody ordered it. `recycles` counts runs in a
    row that were ended for `recycle`, each before it had been ready for `restart.reset_after`.
    """

    phase: Phase = Phase.STOPPED
    reason: Reason = field(default_factory=lambda: because("stopped.never_started"))
    since: float = 0.0
    identity: Identity | None = None
    fingerprint: str = ""
    started: float | None = None
    started_wall: float | None = None
    ready_since: float | None = None
    restarts: int = 0
    failures: int = 0
    spared: bool = False
    next_start: float | None = None
    last_exit: Exit | None = None
    last_error: str | None = None
    health: Health | None = None
    health_output: str = ""
    failing_since: float | None = None
    operator_restart_wall: float | None = None
    done: bool = False
    unregistered: bool = False
    adopted: bool = False
    ended_because: Reason | None = None
    recycles: int = 0
