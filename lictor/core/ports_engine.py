"""What an engine that runs services for us tells the agent: protocols beside those of `ports`.

A process is there or not, and the kernel says which. A container is behind somebody else, who may
be mute; while that lasts nobody knows anything of its services, and the agent must say so instead
of guessing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason

__all__ = ["EngineEars", "EngineView"]


@runtime_checkable
class EngineView(Protocol):
    """A driver whose engine can be looked at."""

    async def containers(self) -> Sequence[Mapping[str, str]] | Reason:
        """Every container (`id`, `name`, `image`, `status`, `service`), or why none can be shown."""
        ...


class EngineEars(Protocol):
    """Who hears of an engine. Everything is called in the loop's thread and returns at once."""

    def doubt(self, trouble: Reason | None) -> None:
        """The engine does not answer, and why; None: it answers, and what is known is true."""
        ...

    def told(self, key: ServiceKey, progress: Reason) -> None:
        """How far a start has come."""
        ...

    def found(self, key: ServiceKey) -> bool:
        """A run of this service was found that nobody holds; False: there is no such service."""
        ...
