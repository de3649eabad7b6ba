"""What the shell needs to know of other nodes, as a protocol; a part of `core.ports`.

It stands apart because it is about several hosts, and everything else there is about this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lictor.core.model.names import ServiceKey
from lictor.core.model.node import NodeSeen
from lictor.core.model.reason import Reason


class Nodes(Protocol):
    """All nodes as Consul KV knows them, and the lease of this node's name. Raises `ConsulError`."""

    def introduce(
        self,
        facts: Callable[[], Mapping[str, object]],
        on_change: Callable[[Reason], None],
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """Say who we are, before anything else is called.

        `facts` gives the document of this node; its `agent`, `boot` and `lock` tell us from any
        other agent. `on_change` hears of every change of `lease`; `on_loss` is called when the
        document that we had written is gone, so that Consul may have lost the rest of it too.
        """
        ...

    @property
    def lease(self) -> Reason:
        """How the lease is: `lease.held`, `lease.refused` (rights), `lease.none`, `node.taken`."""
        ...

    async def keep(self) -> None:
        """Take the lease, renew it, and take it again whenever it was lost; for ever."""
        ...

    async def release(self) -> None:
        """Give the lease back at an orderly end, and say so in the node's document."""
        ...

    async def read(self) -> Sequence[NodeSeen]:
        """Every node, sorted by name."""
        ...

    async def document(self, node: str, key: ServiceKey) -> Mapping[str, object] | None:
        """The desired document of a service on another node (or `_all`), as it is written."""
        ...
