"""The local Consul agent's list of services: reading it, writing to it, watching its checks.

It is the adapter behind `ports.Registry`. It does what the registration plan says, one write at a
time, and never decides: which entries are ours, and whether a write is needed, is worked out in
`core.planning` from what `read` returns. It never touches an id that it was not given, never uses
`replace-existing-checks` and never ends maintenance.

A registration keeps the status of checks that already exist (Consul does that: measured on 1.8.7,
no critical sample over 20 re-registrations). So a `Register` whose check says passing does *not*
reset a check that is critical at the agent: send `RemoveCheck` first, then `Register`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.lease import Lease
from lictor.consul_integration.repeated import Repeated
from lictor.consul_integration.watch import Edge, Fresh, Pace, Watch
from lictor.core.errors import Garbage, NoLeader
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import because
from lictor.core.model.registration import (
    NODE_META,
    OWNER_META,
    CheckDef,
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SeenCheck,
    SeenService,
    SetStatus,
    Write,
)
from lictor.core.model.state import Health
from lictor.core.worded import worded

#: Years: only the agent sets the status of a TTL check of ours, so it must not expire by itself.
TTL = "876000h"

Checks = Mapping[str, tuple[str, str]]


class ConsulRegistry:
    """`ports.Registry` over the HTTP API of the local Consul agent.

    `node` is Lictor's name of this host; Consul may call it otherwise (`consul_node_name`). With a
    `lease` nothing is written while another agent is known to have the node's name.
    """

    def __init__(
        self,
        client: ConsulClient,
        node: str,
        *,
        pace: Pace | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._client = client
        self.node = node
        self._lease = lease
        self._pace = pace or Pace()
        self._consul_node = ""
        self._services = Repeated(client.transport, "/v1/agent/services", _service)
        self._checks = Repeated(client.transport, "/v1/agent/checks", _check)

    async def ready(self) -> None:
        """Return if Consul can be written to by us now; else raise what says why not.

        Asks about the token first: without rights every read looks like "nothing there". Raises
        `Forbidden`, `NoLeader`, `NodeTaken`, or how Consul could not be reached.
        """
        await self._client.check_token()
        if not await self._client.leader():
            raise NoLeader("The Consul servers have no leader at present.")
        if self._lease is not None:
            await self._lease.claim()

    async def read(self) -> RegistryView:
        """Everything the local agent holds that we may see. Call `ready` first: see there."""
        services, checks = await asyncio.gather(self._services.read(), self._checks.read())
        return RegistryView(self._inherited(services), checks)

    async def apply(self, write: Write) -> None:
        """Do one write; doing it again changes nothing.

        Success means that the *local agent* took it; Consul carries it to the catalog by itself.
        `SetStatus` raises `NotFound` for a check that the agent does not have: register again.
        """
        if self._lease is not None:
            self._lease.require()
        match write:
            case Register(registration=wanted):
                await self._client.register_service(
                    wanted.service_id,
                    wanted.name,
                    address=wanted.address,
                    port=wanted.port,
                    tags=wanted.tags,
                    meta=wanted.meta,
                    checks=[_check_body(check) for check in wanted.checks],
                )
            case Deregister(service_id=service_id):
                await self._client.deregister_service(service_id)
            case RemoveCheck(check_id=check_id):
                await self._client.deregister_check(check_id)
            case SetStatus(check_id=check_id, status=status, output=output):
                await self._client.update_check(check_id, _status(status), output)

    def _inherited(self, seen: Mapping[str, SeenService]) -> Mapping[str, SeenService]:
        """Entries as ours, if an agent left them that had our node's name before us.

        Their definitions carry the owner in their hash, so they are registered anew or taken out.
        For any other owner's entries nothing changes.
        """
        if self._lease is None or not self._lease.heir_of:
            return seen
        heir_of, owner = self._lease.heir_of, self._lease.owner
        return {
            service_id: replace(entry, meta={**entry.meta, OWNER_META: owner})
            if entry.meta.get(OWNER_META) in heir_of and entry.meta.get(NODE_META) == self.node
            else entry
            for service_id, entry in seen.items()
        }

    async def in_catalog(self) -> Mapping[str, SeenService]:
        """What the catalog has of this node; empty also where the node may not be read."""
        listed = await self._client.node_services(await self.consul_node_name())
        return {sid: _service(sid, seen) for sid, seen in listed.items()}

    def credential(self) -> str:
        """A mark of the token used now; see `ConsulClient.credential`."""
        return self._client.credential()

    async def consul_node_name(self) -> str:
        """What Consul calls the node of the local agent (asked once). Needs `agent:read`."""
        if not self._consul_node:
            about = await self._client.agent_self()
            config = about.get("Config")
            name = config.get("NodeName") if isinstance(config, Mapping) else None
            if not isinstance(name, str) or not name:
                raise worded(Garbage, because("reply.no_node", what="agent/self"))
            self._consul_node = name
        return self._consul_node

    async def watch_health(self) -> AsyncGenerator[Known[Checks] | Unknown, None]:
        """Status and output of every check of this node, on each change, for ever.

        An answer without any check is `Unknown`: every live node has `serfHealth`, so it means that
        the token may not read the node, or that it is not in the catalog yet.
        """
        watch = Watch(self._fetch, pace=self._pace, contact=self._client.transport.contact)
        edge = Edge()
        last: Checks | None = None
        async with aclosing(watch.answers()) as answers:
            async for answer in answers:
                seen = self._judge(answer)
                if isinstance(seen, Unknown):
                    last = None
                    if edge.broke(seen):
                        yield seen
                elif seen != last:
                    last = seen
                    edge.recovered()
                    yield Known(seen)

    def _judge(self, answer: Fresh[Checks] | Unknown) -> Checks | Unknown:
        if isinstance(answer, Unknown):
            self._consul_node = ""  # another Consul may be behind the address by now
            return answer
        if not answer.data:
            return Unknown(because("consul.node_hidden", node=self._consul_node))
        return answer.data

    async def _fetch(self, index: int, wait: float, /) -> tuple[int, Checks]:
        node = await self.consul_node_name()
        seen, listed = await self._client.node_checks(node, index, wait)
        checks = {
            str(check.get("CheckID", "")): (
                str(check.get("Status", "")),
                str(check.get("Output", "")),
            )
            for check in listed
        }
        return seen, checks


def _service(service_id: str, seen: Mapping[str, Any]) -> SeenService:
    """What we compare; what Consul adds by itself (tagged addresses, weights) is left out.

    Comparing those too makes an agent register for ever (hashicorp/nomad#18538).
    """
    meta = seen.get("Meta") or {}
    if not isinstance(meta, Mapping):
        raise worded(Garbage, because("reply.senseless_meta", id=service_id))
    try:
        return SeenService(
            service_id=service_id,
            name=str(seen.get("Service", "")),
            address=str(seen.get("Address") or ""),
            port=int(seen.get("Port") or 0),
            tags=tuple(str(tag) for tag in seen.get("Tags") or ()),
            meta={str(name): str(value) for name, value in meta.items()},
        )
    except (TypeError, ValueError) as error:
        raise worded(Garbage, because("reply.senseless_entry", id=service_id)) from error


def _check(check_id: str, seen: Mapping[str, Any]) -> SeenCheck:
    # Who puts an entry into maintenance says why in the notes.
    said = "Notes" if check_id.startswith("_service_maintenance:") else "Output"
    return SeenCheck(
        check_id=check_id,
        service_id=str(seen.get("ServiceID") or ""),
        status=str(seen.get("Status") or ""),
        output=str(seen.get(said) or ""),
    )


def _check_body(check: CheckDef) -> dict[str, Any]:
    body: dict[str, Any] = {
        "CheckID": check.check_id,
        "Name": check.name,
        "Status": _status(check.status),
        "Notes": check.notes,
    }
    if check.kind == "ttl":
        body["TTL"] = TTL
    elif check.kind == "alias":
        body["AliasService"] = check.target
    else:
        body["HTTP" if check.kind == "http" else "TCP"] = check.target
        body["Interval"] = _duration(check.interval)
        body["Timeout"] = _duration(check.timeout)
    if check.deregister_after is not None:
        body["DeregisterCriticalServiceAfter"] = _duration(check.deregister_after)
    return body


def _status(health: Health) -> str:
    # Maintenance is no status of a check in Consul but a critical check of its own.
    return (Health.CRITICAL if health is Health.MAINTENANCE else health).value


def _duration(seconds: float) -> str:
    # Whole milliseconds: Go reads no exponents ("1e-05s"), and Consul counts no finer.
    return f"{max(1, round(seconds * 1000))}ms"
