"""Counts entries that somebody took out from under us, and damps what comes and goes too often.

Two programs that disagree about one Consul agent fight for ever, and a service that dies as soon as
it is up makes its entry flap (hashicorp/nomad#4256, hashicorp/consul#2890). So an entry may come up
only so often a minute. What says that a service is *down* is never held back here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW = 60.0  # seconds
UPS = 10  # registrations of one entry, and changes of its status to passing, within a window


class Flaps:
    """The memory of one agent's life. `now` is seconds of any clock that only rises."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._ups: dict[tuple[str, str], deque[float]] = {}
        self._damped: dict[str, float] = {}

    def taken_out(self, service_id: str) -> int:
        """Somebody else deregistered it; gives how often that has happened."""
        self._taken[service_id] = self._taken.get(service_id, 0) + 1
        return self._taken[service_id]

    def count(self, service_id: str) -> int:
        """How often somebody else deregistered it while this agent ran."""
        return self._taken.get(service_id, 0)

    def may_come_up(self, service_id: str, kind: str, now: float) -> bool:
        """Whether it may come up once more now; if not, it counts as damped until it may."""
        ups = self._ups.get((service_id, kind))
        while ups and ups[0] <= now - WINDOW:
            ups.popleft()
        if ups is None or len(ups) < UPS:
            return True
        self._damped[service_id] = ups[0] + WINDOW
        return False

    def came_up(self, service_id: str, kind: str, now: float) -> None:
        """It was registered, or its check was made to pass."""
        self._ups.setdefault((service_id, kind), deque(maxlen=UPS)).append(now)

    def damped(self, now: float) -> Mapping[str, float]:
        """Entries that were held back, and for how many seconds they still are."""
        self._damped = {name: end for name, end in self._damped.items() if end > now}
        return {name: end - now for name, end in self._damped.items()}
