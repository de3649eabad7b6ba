"""Who uses a GPU service just now, so that nobody is stopped in the middle of it.

A service is busy while somebody is connected to its port, while its processes kept the card busy since
the last look, while it says itself that requests run or wait (vLLM's `vllm:num_requests_running` and
`vllm:num_requests_waiting`, where `metrics` is declared), and whenever that cannot be found out. Health
checks connect too, ours and Consul's, and an order that is to evict gives up on a busy service: so whoever
is busy by a connection alone is looked at again a moment later. A check that takes longer makes a service
busy for that one look, which delays an eviction; the other way round somebody's request would be cut. Since
when a service is idle is counted from the last look at which it was busy. Nothing here decides who has to
leave.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping

from lictor.core.model.gpu import Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.probes.figures import RUNNING, WAITING, figures, metrics_path, total
from lictor.core.probes.ports import connections

log = logging.getLogger(__name__)

_MOMENT = 0.1  # seconds in which an ordinary health check is over
_LOADED = 10  # percent of a card's cores, where the driver does not tell whose work it is


class UseWatch:
    """Looks at running GPU services; remembers since when each is idle."""

    def __init__(self) -> None:
        self._idle: dict[ServiceKey, float] = {}

    @property
    def idle_since(self) -> Mapping[ServiceKey, float]:
        """Services that were idle at the last look, and since when (monotonic seconds)."""
        return self._idle

    async def look(
        self,
        running: Collection[ServiceSpec],
        pids: Mapping[ServiceKey, Collection[int]],
        inventory: Inventory,
        now: float,
    ) -> None:
        """Look once. `pids` are the processes of each service on cards."""
        working = {spec.key for spec in running if works(pids.get(spec.key, ()), inventory)}
        # (before the questions, which are connections of our own)
        connected = await _kept_busy([spec for spec in running if spec.key not in working])
        told = await asyncio.gather(*(_requests(spec) for spec in running))
        asking = {spec.key for spec, requests in zip(running, told, strict=True) if requests}
        busy = working | connected | asking
        idle = {spec.key for spec in running} - busy
        self._idle = {key: self._idle.get(key, now) for key in idle}


def works(pids: Collection[int], inventory: Inventory) -> bool:
    """Whether these processes kept a card busy lately, as far as the driver tells."""
    for card in inventory.cards:
        for one in card.processes or ():
            if one.pid not in pids:
                continue
            if one.busy is None and (card.utilization or 0) >= _LOADED:
                return True  # somebody there works, and nobody says who
            if one.busy:
                return True
    return False


async def _kept_busy(running: Collection[ServiceSpec]) -> set[ServiceKey]:
    """Whoever is connected to, now and a moment later."""
    connected = _connected(running)
    if not connected:
        return connected
    await asyncio.sleep(_MOMENT)
    return _connected(spec for spec in running if spec.key in connected)


def _connected(running: Iterable[ServiceSpec]) -> set[ServiceKey]:
    ports = {spec.key: spec.port for spec in running if spec.port is not None}
    try:
        counts = connections(set(ports.values()))
    except OSError as error:
        log.debug("connections cannot be counted: %s", error)
        return set(ports)
    return {key for key, port in ports.items() if counts[port]}


async def _requests(spec: ServiceSpec) -> bool:
    """Whether it says that requests run or wait, or does not answer the question at all."""
    if metrics_path(spec) is None:
        return False
    told = await figures(spec)
    return told is None or bool(total(told, RUNNING | WAITING))
