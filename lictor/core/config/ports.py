"""Which port a service gets when it uses `{port}` and names none.

The same one as last time if that is possible, because others may have noted it; else the lowest
number of `agent.port_range` that no other service of the config uses. Whether something foreign
holds the port is not looked at: a load must give the same answer twice, and a port in use shows
itself, with its holder, when the service starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lictor.core.model.names import ServiceKey


class PortBook:
    """Hands out ports. `taken` are those that the config names itself."""

    def __init__(
        self,
        span: tuple[int, int],
        taken: Iterable[int],
        remembered: Mapping[str, int],
        keys: Iterable[ServiceKey],
    ) -> None:
        self.span = span
        self.allocated: dict[str, int] = {}
        self._used = set(taken)
        low, high = span
        # A port remembered for a service that still exists stays its own, whatever comes first.
        self._kept: dict[str, int] = {}
        for key in keys:
            port = remembered.get(str(key))
            if port is not None and low <= port <= high and port not in self._used:
                self._kept[str(key)] = port
                self._used.add(port)
        self._next = low

    def port(self, key: ServiceKey) -> int | None:
        """The port of this service; None when the range is used up."""
        name = str(key)
        if name not in self.allocated:
            port = self._kept.get(name) or self._lowest()
            if port is None:
                return None
            self.allocated[name] = port
        return self.allocated[name]

    def _lowest(self) -> int | None:
        while self._next <= self.span[1]:
            port, self._next = self._next, self._next + 1
            if port not in self._used:
                self._used.add(port)
                return port
        return None
