"""Who waits for whom: dependencies between services. Cycles are refused when the config is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from lictor.core.model.desired import Desired
from lictor.core.model.names import ServiceKey


def instances_of(name: str, keys: Iterable[ServiceKey]) -> tuple[ServiceKey, ...]:
    """Every key of that service name: depending on a service means on all of its instances."""
    return tuple(key for key in keys if key.name == name)


def dependents(name: str, desired: Desired) -> tuple[ServiceKey, ...]:
    """Services that need `name`, directly."""
    return tuple(
        key
        for key, want in desired.items()
        if any(dep.name == name for dep in want.spec.depends_on)
    )
