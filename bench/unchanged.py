"""A pass over entries that are as they should be, beside one plain read of them.

And over entries of which one is not, because an answer that says the same as before is not worked
through again.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import replace

import aiohttp
from consul_server import Consul

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import Register
from lictor.core.model.spec import ProbeSpec, ServiceSpec
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning.registration import Owner, diff, wanted


def report(where: Consul, count: int) -> list[list[str]]:
    base, same, other = map(statistics.median, asyncio.run(_passes(where, count)))
    return [
        [
            f"a pass over {count} {which} (services and checks read, compared)",
            f"{mine * 1000:.1f}",
            f"{base * 1000:.1f}, one read of agent/services",
            f"{mine / base:.2f}",
        ]
        for which, mine in [
            ("unchanged services", same),
            ("services, one check of which was changed", other),
        ]
    ]


async def _passes(where: Consul, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each plain read, each pass that finds nothing, each that finds one thing."""
    owner = Owner("bench-owner", "bench")
    probe = ProbeSpec("tcp", "127.0.0.1:9", interval=600.0)
    state = ServiceState(phase=Phase.READY, health=Health.PASSING, started=1.0, ready_since=1.0)
    entries = []
    for number in range(count):
        spec = ServiceSpec(key=ServiceKey(f"p{number:04}"), driver="observed", port=9)
        spec = replace(spec, health=replace(spec.health, probe=probe))
        want = DesiredService(spec, DesiredState.RUNNING, Source.CONFIG)
        entry = wanted(want, state, owner, lambda reason: reason.code)
        assert entry is not None
        entries.append(entry)
    client = ConsulClient(where.address)
    registry = ConsulRegistry(client, "bench")
    try:
        gate = asyncio.Semaphore(16)

        async def write(one) -> None:
            async with gate:
                await registry.apply(one)

        for _ in range(3):  # an entry, and then the status of its checks
            todo = diff(entries, await registry.read(), owner)
            for kind in (Register, object):
                now = [one for one in todo if isinstance(one, kind)]
                todo = [one for one in todo if not isinstance(one, kind)]
                await asyncio.gather(*map(write, now))
        bare, same, other = [], [], []
        async with aiohttp.ClientSession() as session:
            for number in range(15):
                begun = time.perf_counter()
                async with session.get(f"{where.address}/v1/agent/services") as answer:
                    json.loads(await answer.read())
                bare.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                assert diff(entries, await registry.read(), owner) == []
                same.append(time.perf_counter() - begun)
                right = entries[0].status
                assert right is not None
                await registry.apply(replace(right, output=f"not what it should say: {number}"))
                begun = time.perf_counter()
                assert diff(entries, await registry.read(), owner) == [right]
                other.append(time.perf_counter() - begun)
                await registry.apply(right)
                await registry.read()
        await asyncio.gather(*map(write, diff([], await registry.read(), owner)))
    finally:
        await client.close()
    return bare, same, other
