"""All nodes: who holds which name, and what each agent last wrote of its services.

It is the adapter behind `ports.Nodes`. It reads `<prefix>/nodes/` and `<prefix>/actual/` whole, when
somebody asks, and keeps no watch on them: a host with a hundred neighbours should not be woken by
each of them. It never judges how old is too old.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from lictor.consul_integration.client import ConsulClient, KvItem
from lictor.consul_integration.lease import Lease, facts_of
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.node import NodeSeen
from lictor.core.model.reason import Reason


class KvNodes:
    """`ports.Nodes` over KV."""

    def __init__(self, client: ConsulClient, lease: Lease, *, prefix: str = "lictor") -> None:
        self._client = client
        self._lease = lease
        self._prefix = prefix.strip("/")

    def introduce(
        self,
        facts: Callable[[], Mapping[str, object]],
        on_change: Callable[[Reason], None],
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """See `Lease.introduce`."""
        self._lease.introduce(facts, on_change, on_loss)

    @property
    def lease(self) -> Reason:
        """How the lease of this node's name is."""
        return self._lease.state

    async def keep(self) -> None:
        """Keep the lease, for ever."""
        await self._lease.keep()

    async def release(self) -> None:
        """Give the lease back."""
        await self._lease.release()

    async def read(self) -> Sequence[NodeSeen]:
        """Every node that has a document, sorted by name.

        Raises `Forbidden` when nothing is shown and the token may not see it: 1.8.7 leaves out what
        is not allowed without a word.
        """
        return await read_nodes(self._client, self._prefix, self._lease.node)

    async def document(self, node: str, key: ServiceKey) -> Mapping[str, object] | None:
        """A desired document as it is written; None if there is none, or if it is no object."""
        item = await self._client.kv_get(f"{self._prefix}/desired/{node}/{key}")
        if item is None:
            return None
        return facts_of(item.value) or None


async def read_nodes(client: ConsulClient, prefix: str, node: str) -> Sequence[NodeSeen]:
    """Every node below a prefix. `node` is one whose key proves what the token may see."""
    (_, leases), (_, records) = await asyncio.gather(
        client.kv_list(f"{prefix}/nodes/"), client.kv_list(f"{prefix}/actual/")
    )
    if not leases and not records:
        await client.kv_may_read(f"{prefix}/nodes/{node}")
    return _sorted(leases, records, prefix)


def _sorted(leases: Iterable[KvItem], records: Iterable[KvItem], prefix: str) -> Sequence[NodeSeen]:
    held = {item.key.removeprefix(f"{prefix}/nodes/"): item for item in leases}
    services: dict[str, dict[ServiceKey, Mapping[str, object]]] = {}
    for item in records:
        name, _, last = item.key.removeprefix(f"{prefix}/actual/").partition("/")
        try:
            key = ServiceKey.parse(last)
            document = json.loads(item.value)
        except (BadName, ValueError, RecursionError):
            continue  # nothing that an agent wrote
        if isinstance(document, dict):
            services.setdefault(name, {})[key] = document
    return [
        NodeSeen(
            node=name,
            held=name in held and bool(held[name].session),
            facts=facts_of(held[name].value) if name in held else {},
            services=services.get(name, {}),
        )
        for name in sorted({*held, *services})
        if name and "/" not in name
    ]
