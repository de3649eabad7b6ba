"""From answers of a health check to a judgement.

One failed answer makes the health `critical` at once (so Consul and people see it), but a service
becomes `unhealthy` only after `failures` consecutive ones. Consul reports edges, not every answer,
so "consecutive" is measured as time: critical for (failures - 1) intervals without a pass, which is
how Nomad's check_restart counts as well.
"""

from __future__ import annotations

from dataclasses import replace

from lictor.core.model.spec import HealthSpec
from lictor.core.model.state import Health, ServiceState


def observe(state: ServiceState, *, passed: bool, output: str, now: float) -> ServiceState:
    """The state after one answer (or one edge) of the health check."""
    if passed:
        return replace(state, health=Health.PASSING, health_output=output, failing_since=None)
    since = state.failing_since if state.failing_since is not None else now
    return replace(state, health=Health.CRITICAL, health_output=output, failing_since=since)


def unhealthy_at(state: ServiceState, health: HealthSpec) -> float | None:
    """When (monotonic) this service becomes unhealthy unless a pass comes first; None: it passes."""
    if state.failing_since is None or health.probe is None:
        return None
    return state.failing_since + max(0, health.failures - 1) * health.probe.interval
