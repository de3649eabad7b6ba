"""Finding services, ours and others': the answer that Consul's HTTP API gives, health included.

It is the adapter behind `ports.Discovery`. DNS shows only what passes; this shows every instance and
says why one is left out. What it cannot show is what the token may not see: Consul leaves that out
without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.failures import one_line
from lictor.core.errors import Garbage
from lictor.core.model.state import Health
from lictor.core.ports import Instance

#: Questions under way at a time; below the pool's size, so that other calls are not held up.
_CONCURRENCY = 4

_WORST_FIRST = (Health.MAINTENANCE, Health.CRITICAL, Health.WARNING, Health.PASSING)


class ConsulDiscovery:
    """`ports.Discovery` over Consul's catalog and health endpoints."""

    def __init__(self, client: ConsulClient) -> None:
        self._client = client

    async def discover(
        self, name: str | None = None, *, tag: str | None = None, dc: str | None = None
    ) -> list[Instance]:
        """Every instance of `name` (None: of all services), sorted by service, node and id.

        `tag` keeps the instances that carry it; `dc` asks another datacenter. A service that does
        not exist gives an empty list; an unknown datacenter raises `BadRequest`.
        """
        if name is not None:
            return sorted(await self._instances(name, tag, dc), key=_order)
        named = await self._client.catalog_services(dc)
        names = [each for each, tags in named.items() if tag is None or tag in tags]
        gate = asyncio.Semaphore(_CONCURRENCY)

        async def ask(each: str) -> list[Instance]:
            async with gate:
                return await self._instances(each, tag, dc)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(each)) for each in names]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return sorted((found for task in tasks for found in task.result()), key=_order)

    async def _instances(self, name: str, tag: str | None, dc: str | None) -> list[Instance]:
        try:
            entries = await self._client.service_health(name, tag=tag, dc=dc)
            return [_instance(entry) for entry in entries]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise Garbage(f"Consul's answer about {name!r} makes no sense.") from error


def _instance(entry: Mapping[str, Any]) -> Instance:
    node, service = entry["Node"], entry["Service"]
    health, output = _worst(entry.get("Checks") or [])
    return Instance(
        service=str(service["Service"]),
        id=str(service["ID"]),
        node=str(node["Node"]),
        # An entry without an address means the node's (Consul's DNS does the same).
        address=str(service.get("Address") or node.get("Address") or ""),
        port=int(service.get("Port") or 0),
        tags=tuple(str(tag) for tag in service.get("Tags") or ()),
        meta={str(key): str(value) for key, value in (service.get("Meta") or {}).items()},
        health=health.value,
        output=output,
    )


def _worst(checks: Sequence[Mapping[str, Any]]) -> tuple[Health, str]:
    """The health that the worst check gives, and the first line of what it says."""
    judged = sorted(
        (
            # Among equals, one that says something: Consul reports a passing output minutes later.
            (
                _WORST_FIRST.index(_judge(check)),
                not check.get("Output"),
                str(check["CheckID"]),
                check,
            )
            for check in checks
        ),
        key=lambda each: each[:3],
    )
    if not judged:
        return Health.PASSING, ""  # as in Consul's DNS: no check, no objection
    place, _, _, check = judged[0]
    said = str(check.get("Output") or check.get("Notes") or "")
    first = next((line for line in said.splitlines() if line.strip()), "")
    return _WORST_FIRST[place], one_line(first)


def _judge(check: Mapping[str, Any]) -> Health:
    check_id = str(check["CheckID"])
    if check_id == "_node_maintenance" or check_id.startswith("_service_maintenance:"):
        return Health.MAINTENANCE
    try:
        return Health(str(check["Status"]))
    except ValueError:
        return Health.CRITICAL  # a word that a later Consul may invent is no good news


def _order(instance: Instance) -> tuple[str, str, str]:
    return instance.service, instance.node, instance.id
