"""When a service is started afresh although nothing is wrong with it yet.

Some programs leak: a voice server that took 2 GiB takes 6 after a week, and a planned restart at a
quiet moment is better than the kernel's choice at a bad one. `recycle` says how large or how old one
may become. A limit that is set below what the program always uses must not become a restart loop,
so recycling waits as a restart after a failure would: runs in a row that were each recycled soon are
given longer and longer, up to `restart.max_backoff`.
"""

from __future__ import annotations

from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import RestartPolicy, ServiceSpec
from lictor.core.model.state import Phase, ServiceState

_CODES = ("recycle.age", "recycle.rss")


def due(spec: ServiceSpec, state: ServiceState, *, now: float, memory: int | None) -> Reason | None:
    """Why it is to be recycled now; None: it is not.

    `memory` is what its whole tree was last seen to use, in bytes (None: not measured, which never
    recycles anything). A service that is still starting is left alone: loading a model takes more
    memory than using it.
    """
    rule = spec.recycle
    if state.phase not in {Phase.READY, Phase.UNHEALTHY} or state.started is None:
        return None
    age = now - state.started
    if age < _pause(spec.restart, state.recycles):
        return None
    if rule.age is not None and age >= rule.age:
        return because("recycle.age", age=round(age), limit=rule.age)
    if rule.rss is not None and memory is not None and memory > rule.rss:
        return because("recycle.rss", used=memory, limit=rule.rss)
    return None


def is_reason(reason: Reason) -> bool:
    """Whether a restart for this reason is a recycling."""
    return reason.code in _CODES


def _pause(policy: RestartPolicy, recycles: int) -> float:
    """How long a run must have lasted, in seconds, after so many soon recycled ones in a row."""
    if recycles == 0:
        return 0.0
    doublings = min(recycles - 1, 32)
    return float(min(policy.backoff * 2.0**doublings, policy.max_backoff))
