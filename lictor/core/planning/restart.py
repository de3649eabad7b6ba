"""What follows the end of a run that nobody asked for.

The first restart of a service that was ready for ten seconds is immediate; then the delay starts at
`backoff` and doubles to `max_backoff`, with 10 % of jitter so that services that died together do
not come back in step. Failures are forgotten after `reset_after` seconds of being ready. Giving up
happens only where `max_restarts` says so (the default never gives up: supervisord's FATAL after
three tries is the complaint in Supervisor/supervisor#487).
"""

from __future__ import annotations

from dataclasses import dataclass

from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import RestartPolicy
from lictor.core.model.state import Exit

#: A run counts as good when it was ready for this long, in seconds.
GOOD_RUN = 10.0


@dataclass(frozen=True, slots=True)
class Again:
    """Start again after `delay` seconds. `spared`: the one immediate restart has been used."""

    delay: float
    failures: int
    spared: bool = False


@dataclass(frozen=True, slots=True)
class NotAgain:
    """Do not start again by itself. `done`: it ended well and its policy says that this is all."""

    reason: Reason
    failures: int
    done: bool = False


def decide(
    policy: RestartPolicy,
    *,
    failures: int,
    ready_for: float | None,
    exit_: Exit | None,
    jitter: float,
    spared: bool = False,
) -> Again | NotAgain:
    """What to do now.

    `failures` counts earlier consecutive failed runs, `ready_for` is how long this run was ready
    (None: never), `exit_` None means that the run never came to a process or was ended for its
    health; `jitter` is a number in [-1, 1]; `spared` says that the first of them was followed by
    an immediate restart, so that the delays begin at the second.
    """
    clean = exit_ is not None and exit_.clean
    if clean and policy.policy in {"on-failure", "never"}:
        return NotAgain(because("exit.done"), failures=0, done=True)
    if policy.policy == "never":
        return NotAgain(because("restart.never"), failures=failures + 1)
    if ready_for is not None and ready_for >= policy.reset_after:
        failures, spared = 0, False
    failures += 1
    if policy.max_restarts is not None and failures > policy.max_restarts:
        return NotAgain(because("restart.gave_up", failures=failures), failures=failures)
    if failures == 1 and ready_for is not None and ready_for >= GOOD_RUN:
        return Again(0.0, failures, spared=True)
    doublings = min(failures - (2 if spared else 1), 32)
    delay = min(policy.backoff * 2.0**doublings, policy.max_backoff)
    return Again(delay * (1.0 + 0.1 * jitter), failures, spared=spared)
