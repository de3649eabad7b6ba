"""A node as the others see it: what its agent wrote to Consul KV, and whether that agent is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lictor.core.model.names import ServiceKey


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """One node. `facts` is the document of `lictor/nodes/<node>`, empty if there is none.

    `held`: an agent has the lease of the node's name now (after a sudden death for up to twice its
    time to live). `services` are the documents of `lictor/actual/<node>/…`.
    """

    node: str
    held: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    services: Mapping[ServiceKey, Mapping[str, object]] = field(default_factory=dict)
