"""Finding services, ours and others': the answer that Consul's HTTP API gives, health included.

It is the adapter behind `ports.Discovery`. DNS shows only what passes; this shows every instance and
says why one is left out. Consul leaves out without a word what the token may not see; so an empty
answer is given only where the token may see, and a `Forbidden` that names the rule otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.failures import one_line
from lictor.consul_integration.inspection import ConsulInspection
from lictor.consul_integration.watch import Pace, Watch
from lictor.core.errors import Forbidden, Garbage, NotFound
from lictor.core.model.access import Rule
from lictor.core.model.known import Unknown
from lictor.core.model.reason import because
from lictor.core.model.state import Health
from lictor.core.ports import Instance
from lictor.core.worded import worded

#: Questions under way at a time; below the pool's size, so that other calls are not held up.
_CONCURRENCY = 4

_WORST_FIRST = (Health.MAINTENANCE, Health.CRITICAL, Health.WARNING, Health.PASSING)


class ConsulDiscovery:
    """`ports.Discovery` over Consul's catalog and health endpoints."""

    def __init__(self, client: ConsulClient) -> None:
        self._client = client

    async def discover(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        dc: str | None = None,
        near: str | None = None,
    ) -> list[Instance]:
        """Every instance of `name` (None: of all services), sorted by service, node and id.

        `tag` keeps the instances that carry it; `dc` asks another datacenter; `near` sorts by the
        round trip from that node instead (`_agent`: from the local one). A service that does not
        exist gives an empty list; an unknown datacenter raises `BadRequest`, and a token that is not
        shown it `Forbidden`.
        """
        if name is None:
            found = await self._everything(dc)
        else:
            found = await self._instances(name, tag, dc, near)
        if not found and dc is None:
            await self._require_sight(name)
        if name is None:
            return [one for one in found if tag is None or carries(one, tag)]
        return found if near else sorted(found, key=_order)

    async def _require_sight(self, name: str | None) -> None:
        """Raise `Forbidden` unless an empty answer can be believed.

        Without rights Consul answers "nothing" to everything (measured on 1.8.7).
        """
        rules = (
            Rule("service", name, "read", "finds it")
            if name is not None
            else Rule("service_prefix", "", "read", "finds services"),
            Rule("node_prefix", "", "read", "says where they are"),
        )
        try:
            lacking = await ConsulInspection(self._client).denied(rules)
        except NotFound:  # older than the question: nobody can tell
            return
        if lacking:
            await self._client.check_token()  # none at all is said as such
            rule, other = (*(each.hcl for each in lacking), "")[:2]
            hidden = because(
                "token.lacks_rules" if other else "token.lacks_rule", rule=rule, other=other
            )
            raise worded(Forbidden, hidden, hint=because("next.policy"))

    async def changes(
        self, name: str | None, *, dc: str | None = None, pace: Pace | None = None
    ) -> AsyncGenerator[list[Instance] | Unknown, None]:
        """What `discover` gives, at first and after each change, for ever; `Unknown` on a failure.

        A blocking query: on the service itself, or, for all of them, on every check and then a read
        of everything.
        """
        watch = Watch(
            lambda index, wait: self._step(name, dc, index, wait),
            pace=pace,
            contact=self._client.transport.contact,
        )
        last: list[Instance] | None = None
        async with aclosing(watch.answers()) as answers:
            async for answer in answers:
                if isinstance(answer, Unknown):
                    last = None
                    yield answer
                elif answer.data != last:
                    last = answer.data
                    yield answer.data

    async def _step(
        self, name: str | None, dc: str | None, index: int, wait: float
    ) -> tuple[int, list[Instance]]:
        if name is None:
            seen, _ = await self._client.all_checks(dc, index, wait)
            found = await self._everything(dc)
        else:
            seen, entries = await self._client.watch_service(name, dc, index, wait)
            found = sorted(_parsed(name, entries), key=_order)
        if not found and dc is None:
            await self._require_sight(name)
        return seen, found

    async def _everything(self, dc: str | None) -> list[Instance]:
        """All instances in as few questions as there are nodes or services, whichever are fewer."""
        nodes, named = await asyncio.gather(
            self._client.catalog_nodes(dc), self._client.catalog_services(dc)
        )
        if len(nodes) < len(named):
            _, checks = await self._client.all_checks(dc)
            found = await self._each(nodes, lambda node: self._on_node(node, checks, dc))
        else:
            found = await self._each(named, lambda name: self._instances(name, None, dc, None))
        return sorted(found, key=_order)

    async def _each(
        self, things: Iterable[str], ask: Callable[[str], Awaitable[list[Instance]]]
    ) -> list[Instance]:
        gate = asyncio.Semaphore(_CONCURRENCY)

        async def one(thing: str) -> list[Instance]:
            async with gate:
                return await ask(thing)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(thing)) for thing in things]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        return [found for task in tasks for found in task.result()]

    async def _on_node(
        self, node: str, checks: Sequence[Mapping[str, Any]], dc: str | None
    ) -> list[Instance]:
        found = await self._client.catalog_node(node, dc)
        mine = [check for check in checks if check.get("Node") == node]
        try:
            return [
                _instance(
                    {
                        "Node": found["Node"],
                        "Service": service,
                        "Checks": [c for c in mine if c.get("ServiceID") in {"", service["ID"]}],
                    }
                )
                for service in (found.get("Services") or {}).values()
            ]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise worded(Garbage, because("reply.senseless_node", node=node)) from error

    async def _instances(
        self, name: str, tag: str | None, dc: str | None, near: str | None
    ) -> list[Instance]:
        entries = await self._client.service_health(name, tag=tag, dc=dc, near=near)
        return _parsed(name, entries)


def carries(one: Instance, tag: str) -> bool:
    """Whether an instance has a tag, in Consul's sense: the case of letters does not matter."""
    return tag.lower() in {each.lower() for each in one.tags}


def _parsed(name: str, entries: Sequence[Mapping[str, Any]]) -> list[Instance]:
    try:
        return [_instance(entry) for entry in entries]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise worded(Garbage, because("reply.senseless_about", name=name)) from error


def _instance(entry: Mapping[str, Any]) -> Instance:
    node, service = entry["Node"], entry["Service"]
    health, output, check = _worst(entry.get("Checks") or [])
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
        check=check,
    )


def _worst(checks: Sequence[Mapping[str, Any]]) -> tuple[Health, str, str]:
    """The health that the worst check gives, the first line of what it says, and its id."""
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
        return Health.PASSING, "", ""  # as in Consul's DNS: no check, no objection
    place, _, check_id, check = judged[0]
    said = str(check.get("Output") or check.get("Notes") or "")
    first = next((line for line in said.splitlines() if line.strip()), "")
    return _WORST_FIRST[place], one_line(first), check_id


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
