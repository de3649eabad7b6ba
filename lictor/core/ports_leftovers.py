"""What the shell needs to find and to take out entries that were left over; a part of `core.ports`.

It stands apart because everything else there writes only what this node's services are; this is the
one door through which an entry of another, dead node may be removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lictor.core.model.leftover import Listed


class Attic(Protocol):
    """The entries with Lictor's mark in the whole datacenter. Raises `ConsulError`."""

    async def listed(self) -> Sequence[Listed]:
        """Every entry that carries the mark, or an id like ours, sorted by node and id."""
        ...

    async def take_out(self, entry: Listed) -> bool:
        """Remove this one, if it is still there and still of the same owner; else False."""
        ...
