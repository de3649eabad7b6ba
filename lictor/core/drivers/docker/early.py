"""What the engine told of containers that nobody holds, or not yet.

A short run may end while its start still waits for the look that says that it runs: the word of its
end is there before whoever it is for. It is kept until the container is held. Of most containers
nobody ever asks (left-overs that were removed, strays), so only the latest are remembered; what is
forgotten costs the seconds until the next regular look, never truth.
"""

from __future__ import annotations

from collections.abc import Iterable

_MOST = 64  # containers; far more than can begin within the seconds between two looks


class EarlyEvents:
    """The last word of each kind (`die`, `oom`, `destroy`), by container."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, int | None]] = {}

    def keep(self, container: str, action: str, code: int | None) -> None:
        """Remember it; the container that was first heard of longest ago makes room."""
        self._told.setdefault(container, {})[action] = code
        if len(self._told) > _MOST:
            del self._told[next(iter(self._told))]

    def of(self, container: str) -> Iterable[tuple[str, int | None]]:
        """What was told of this one, in order, and now no more."""
        return tuple(self._told.pop(container, {}).items())
