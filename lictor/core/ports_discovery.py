"""What the shell needs for finding services, as protocols; a part of `core.ports`.

It stands apart because it is about everybody's services, and most there is about this host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lictor.core.model.reason import Reason


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
