"""Entries that were left over: the look at the whole catalog, and the removal of one.

It is the adapter behind `ports.Attic`. An entry that the local Consul agent holds is deregistered
there; of a node whose Consul agent is dead it is taken out of the catalog, because nobody would do it
otherwise for three days (Consul's `reconnect_timeout`). Before each removal the entry is read again,
and it goes only if its owner is still the one that was judged: between a look and a click somebody
may have registered a service under the same id. Which entries are left over is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.discovery import ConsulDiscovery
from lictor.consul_integration.lease import Lease
from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.model.leftover import Listed
from lictor.core.model.registration import NODE_META, OWNER_META

_LIKE_OURS = "lictor:"
_ALIVE = "serfHealth"  # the check that Consul itself gives to each node that has an agent


class ConsulAttic:
    """`ports.Attic` over the catalog and the local Consul agent."""

    def __init__(self, client: ConsulClient, registry: ConsulRegistry, lease: Lease) -> None:
        self._client = client
        self._registry = registry
        self._lease = lease
        self._discovery = ConsulDiscovery(client)

    async def listed(self) -> Sequence[Listed]:
        """Every entry with an owner of Lictor's, or an id like ours, sorted by node and id."""
        here = await self._registry.consul_node_name()
        held = await self._client.agent_services()
        _, checks = await self._client.all_checks()
        alive = {
            str(check.get("Node"))
            for check in checks
            if check.get("CheckID") == _ALIVE and check.get("Status") == "passing"
        }
        found = [
            Listed(
                id=one.id,
                service=one.service,
                node=one.node,
                owner=one.meta.get(OWNER_META, ""),
                lictor_node=one.meta.get(NODE_META, ""),
                health=one.health,
                here=one.node == here,
                held=one.node == here and one.id in held,
                upheld=one.node in alive,
            )
            for one in await self._discovery.discover()
            if OWNER_META in one.meta or one.id.startswith(_LIKE_OURS)
        ]
        return sorted(found, key=lambda one: (one.node, one.id))

    async def take_out(self, entry: Listed) -> bool:
        """Remove it, if it is there and of the owner that it had; False: it is not, or not any more.

        Raises `NodeTaken` while another agent has this node's name, `Forbidden` without the right.
        """
        self._lease.require()
        if entry.here:
            there = (await self._client.agent_services()).get(entry.id)
            if there is not None:
                if _owner(there) != entry.owner:
                    return False
                await self._client.deregister_service(entry.id)
                return True
        listed = (await self._client.node_services(entry.node)).get(entry.id)
        if listed is None or _owner(listed) != entry.owner:
            return False
        await self._client.catalog_deregister(entry.node, entry.id)
        return True


def _owner(entry: Mapping[str, Any]) -> str:
    meta = entry.get("Meta")
    return str(meta.get(OWNER_META) or "") if isinstance(meta, Mapping) else ""
