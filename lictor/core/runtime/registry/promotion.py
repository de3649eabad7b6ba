"""Writes in an order in which a group's name is never without an answer.

Consul's local agent carries what it was told to the catalog at once, but in no particular order: told
to promote one engine and to demote another, it may demote first. So whoever gets the place is written
and seen in the catalog before anybody loses it. The wait is bounded: a catalog that does not follow
(no leader, no rights) must not keep a dead service passing. And a name of a group is taken out
before the entry whose verdict it repeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lictor.core.model.registration import Registration, RegistryView, Write
from lictor.core.planning.groups import names_first, promote_first
from lictor.core.ports import Registry

_FOLLOWS = 1.0  # seconds that the catalog gets
_PAUSE = (0.002, 0.05)  # seconds between two looks, first and longest


async def write_in_order(
    write: Callable[[Sequence[Write]], Awaitable[None]],
    registry: Registry,
    writes: Sequence[Write],
    seen: RegistryView,
) -> None:
    """Do all writes through `write`, promotions first. Raises `ConsulError`."""
    first, rest, awaited = promote_first(writes, seen)
    if first:
        await write(first)
    if awaited:
        await _followed(registry, awaited)
    leaving, rest = names_first(rest, seen)
    if leaving:
        await write(leaving)
    await write(rest)


async def _followed(registry: Registry, promoted: Sequence[Registration]) -> bool:
    """Whether the catalog shows the entries with their tags, waited for."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + _FOLLOWS, _PAUSE[0]
    while True:
        listed = await registry.in_catalog()
        if all(
            (there := listed.get(entry.service_id)) is not None
            and set(there.tags) == set(entry.tags)
            for entry in promoted
        ):
            return True
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, _PAUSE[1])
