"""What a driver may do before a run is exchanged for another: one optional step.

A container can be created (and its image built) while the one that it will replace still serves, so
that a switch of model costs the loading alone, and a switch that could never work is refused with
nothing changed. A driver that has no such step just lacks the method; who calls it asks first with
`isinstance(driver, Preparing)`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec


@runtime_checkable
class Preparing(Protocol):
    """A driver that can make the things of the next run beside the present one."""

    async def prepare(self, spec: ServiceSpec) -> None:
        """Make what `start` of this very definition (by its fingerprint) would have to make first.

        The present run must not notice: no port, no GPU memory and no name of it may be taken.
        Idempotent; it may take as long as a build does, and may be cancelled at any await. Raises
        `StartFailed` where the start would fail for certain. What was prepared and is not what is
        started next is the driver's to remove: at the next `prepare` or `start` of the service, or at
        the begin of the next agent, which never takes it for a run.
        """
        ...

    async def forgo(self, key: ServiceKey) -> None:
        """Remove what was prepared for this service and not started. Nothing may be there."""
        ...
