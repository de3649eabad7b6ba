"""What the shell needs for finding services, as protocols; a part of `core.ports`.

It stands apart because it is about everybody's services, and most there is about this host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from lictor.core.model.reason import Reason


class InstanceRecord(TypedDict):
    """One instance, as `lictor discover -o json` prints it.

    `health` is the worst of its checks: passing, warning, critical or maintenance; `output` is the
    first line of what that check says.
    """

    service: str
    id: str
    node: str
    address: str
    port: int
    tags: list[str]
    meta: dict[str, str]
    health: str
    output: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service as discovery sees it. `health` is that of its worst `check`."""

    service: str
    id: str
    node: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    health: str
    output: str
    check: str = ""

    def record(self) -> InstanceRecord:
        """The same as programs are given it."""
        return {
            "service": self.service,
            "id": self.id,
            "node": self.node,
            "address": self.address,
            "port": self.port,
            "tags": list(self.tags),
            "meta": dict(self.meta),
            "health": self.health,
            "output": self.output,
        }


class Discovery(Protocol):
    """Finding services, ours and others'."""

    async def discover(
        self,
        name: str | None = None,
        *,
        tag: str | None = None,
        dc: str | None = None,
        near: str | None = None,
    ) -> list[Instance]:
        """Every instance of `name` (None: of all), whatever its health; the one `near` first."""
        ...


class GroupQueries(Protocol):
    """The prepared queries of groups (`voice.query.consul`). Raises `ConsulError`."""

    async def ensure(self, names: Sequence[str]) -> Mapping[str, Reason]:
        """See that each group has its query. Why not, for those where that cannot be."""
        ...
