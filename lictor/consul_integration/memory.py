"""What is remembered of the last good read of KV, to tell a loss from an order.

An empty answer can mean that an operator deleted the keys, that Consul lost its disk, or that the
token may not read them. Which one it is shows only against what was seen before, so that is kept
here as a plain value, which the agent writes to disk and gives back at its next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Remembered:
    """One good read. A missing `Remembered` means that this node never met any Consul.

    `index`: the KV index of the read. `servers`: node ids of the Consul servers, empty if they may
    not be read. `node` and `all_nodes`: the last *good* text of each document, by its key's last
    part (`piper`, `piper@a`).
    """

    index: int = 0
    servers: frozenset[str] = frozenset()
    node: Mapping[str, str] = field(default_factory=dict)
    all_nodes: Mapping[str, str] = field(default_factory=dict)

    def lost_since(self, *, index: int, servers: frozenset[str]) -> bool:
        """Whether Consul lost its state since: its index fell, or every server is a new one.

        A raft index never falls otherwise, and a server makes itself a new id only with an empty
        disk. `index` must be that of the whole KV store, because the index of a prefix also falls
        when Consul forgets old deletions (after 15 minutes).
        """
        if index < self.index:
            return True
        return bool(self.servers and servers) and self.servers.isdisjoint(servers)

    def as_record(self) -> dict[str, object]:
        """A plain JSON-able form of it."""
        return {
            "index": self.index,
            "servers": sorted(self.servers),
            "node": dict(self.node),
            "all_nodes": dict(self.all_nodes),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Self:
        """What `as_record` gave; fields that do not fit are taken as not remembered."""
        index, servers = record.get("index"), record.get("servers")
        return cls(
            index=index if isinstance(index, int) else 0,
            servers=frozenset(map(str, servers)) if isinstance(servers, list) else frozenset(),
            node=_texts(record.get("node")),
            all_nodes=_texts(record.get("all_nodes")),
        )


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}
