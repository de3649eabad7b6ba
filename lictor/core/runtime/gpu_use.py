"""Who uses a GPU service just now, so that nobody is stopped in the middle of it.

A service is busy while somebody is connected to its port, while its processes kept the card busy since
the last look, while it says itself that requests run or wait (vLLM's `vllm:num_requests_running` and
`vllm:num_requests_waiting`, where `metrics` is declared), and whenever that cannot be found out. A health
check that happens to be open at the moment of a look makes a service busy for that one look, which delays
an eviction by seconds; the other way round somebody's request would be cut. Since when a service is idle
is counted from the last look at which it was busy. Nothing here decides who has to leave.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from lictor.core.model.gpu import Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.probes.ports import connections

log = logging.getLogger(__name__)

_WITHIN = 1.0  # seconds a service has to tell its figures
_MOST = 1 << 20  # bytes of figures that are read
_LOADED = 10  # percent of a card's cores, where the driver does not tell whose work it is
_REQUESTS = re.compile(
    rb"^(?:vllm:num_requests_running|vllm:num_requests_waiting)(?:\{[^}]*\})?\s+([0-9.eE+-]+)\s*$",
    re.MULTILINE,
)


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
        connected = _connected(running)
        told = await asyncio.gather(*(_requests(spec) for spec in running))
        busy = {
            spec.key
            for spec, requests in zip(running, told, strict=True)
            if requests or spec.key in connected or works(pids.get(spec.key, ()), inventory)
        }
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
    path = spec.later.get("metrics")
    if not isinstance(path, str) or spec.port is None:
        return False
    try:
        async with asyncio.timeout(_WITHIN):
            text = await _get(spec, path)
    except (OSError, TimeoutError, ValueError):
        return True
    return any(float(value) > 0 for value in _REQUESTS.findall(text))


async def _get(spec: ServiceSpec, path: str) -> bytes:
    """One plain GET to the service on its own address; only the port of a whole URL is looked at."""
    parts = urlsplit(path)
    host, port = spec.host, parts.port or spec.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it binds
    reader, writer = await asyncio.open_connection(host, port)
    try:
        target = parts.path or "/metrics"
        writer.write(f"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise ValueError("no figures")
        return body
    finally:
        writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """What it sends until it closes, up to a limit."""
    data = b""
    while len(data) < _MOST and (piece := await reader.read(_MOST)):
        data += piece
    return data
