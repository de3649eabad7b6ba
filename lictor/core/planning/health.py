"""From answers of a health check to a judgement.

One failed answer makes the health `critical` at once (so Consul and people see it), but a service
becomes `unhealthy` only after `failures` consecutive ones. Consul reports edges, not every answer,
so "consecutive" is measured as time: critical for (failures - 1) intervals without a pass, which is
how Nomad's check_restart counts as well, and a little longer: that window ends when the answer that
decides is due, and a pass would come just too late. Only time in which somebody looked counts: an
agent that stood still, or was not there, finds every window over and knows nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lictor.core.model.spec import HealthSpec
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning import lifecycle

#: Seconds by which a judgement may come early or late; later than that, nobody looked meanwhile.
_EARLY, _LATE = 0.05, 1.0
#: Seconds within which an answer that is due has come, and Consul has told what changed with it.
_ANSWERED = 1.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The state, and when (monotonic) to judge it again although nothing new was seen."""

    state: ServiceState
    look_at: float | None = None


def observe(state: ServiceState, *, passed: bool, output: str, now: float) -> ServiceState:
    """The state after one answer (or one edge) of the health check."""
    if passed:
        return replace(state, health=Health.PASSING, health_output=output, failing_since=None)
    since = state.failing_since if state.failing_since is not None else now
    return replace(state, health=Health.CRITICAL, health_output=output, failing_since=since)


def judge(state: ServiceState, health: HealthSpec, *, now: float) -> Judgement:
    """What the checks so far mean for a service that was ready."""
    if state.phase is Phase.UNHEALTHY and state.health is Health.PASSING:
        return Judgement(lifecycle.recovered(state, now=now))
    deadline = unhealthy_at(state, health)
    if deadline is None or state.phase is not Phase.READY:
        return Judgement(state)
    if now > deadline + _LATE:
        state = replace(state, failing_since=now)
        deadline = unhealthy_at(state, health) or now
    if now >= deadline - _EARLY:
        return Judgement(lifecycle.unhealthy(state, now=now))
    return Judgement(state, deadline)


def unhealthy_at(state: ServiceState, health: HealthSpec) -> float | None:
    """When (monotonic) this service becomes unhealthy unless a pass comes first; None: it passes."""
    if state.failing_since is None or health.probe is None:
        return None
    further = max(0, health.failures - 1)
    late = min(_ANSWERED, health.probe.timeout, health.probe.interval / 2) if further else 0.0
    return state.failing_since + further * health.probe.interval + late
