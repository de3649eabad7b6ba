"""`lictor discover` straight against Consul: once when no agent runs, and always to watch.

A watch has its own connection, because the agent's few watches are for what it attends to. While
Consul is away a watch goes on with what it saw last, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from time import time
from typing import Any

from lictor.cli.wiring.direct import Reach, with_consul
from lictor.consul_integration.discovery import ConsulDiscovery
from lictor.core.model.known import Unknown
from lictor.core.ports import Instance
from lictor.core.runtime.answers.discovering import carries, from_memory, record
from lictor.core.runtime.registry.finder import Found

Rows = list[dict[str, Any]]


def discover(name: str | None, *, tag: str | None, dc: str | None, near: str | None) -> Rows:
    """Every instance, those without `tag` too (`carries` tells which); raises `ConsulError`."""

    async def find(reach: Reach) -> Rows:
        found = await ConsulDiscovery(reach.client).discover(name, dc=dc, near=near)
        answer = Found(found, time(), 0.0)
        return [record(one, tag=tag, found=answer) for one in found]

    return with_consul(find)


def watch(
    name: str | None,
    *,
    tag: str | None,
    dc: str | None,
    show: Callable[[Rows, dict[str, Any] | None], None],
) -> None:
    """Call `show(rows, notice)` at first and at each change, for ever.

    `notice` says that Consul is away and how old the rows are; it comes once per outage. Raises
    `ConsulError` only if there was no good answer at all.
    """

    async def follow(reach: Reach) -> None:
        states: dict[tuple[str, str], tuple[str, float | None]] = {}
        last: Sequence[Instance] = ()
        at: float | None = None
        async with aclosing(ConsulDiscovery(reach.client).changes(name, dc=dc)) as changes:
            async for seen in changes:
                if isinstance(seen, Unknown):
                    found = Found(last, at or time(), time() - (at or time()), seen.reason)
                else:
                    states = _states(states, seen, first=at is None)
                    last, at = seen, time()
                    found = Found(seen, at, 0.0)
                rows = [
                    record(one, tag=tag, since=states[one.node, one.id][1], found=found)
                    for one in last
                ]
                show(rows, from_memory(found))

    with_consul(follow)


def wears(rows: Rows, tag: str | None) -> Rows:
    """The rows whose instance carries the tag."""
    return [row for row in rows if carries(row, tag)]


def _states(
    before: dict[tuple[str, str], tuple[str, float | None]],
    seen: Sequence[Instance],
    *,
    first: bool,
) -> dict[tuple[str, str], tuple[str, float | None]]:
    """Since when each instance is in its state; not known of those that were there at first."""
    now = None if first else time()
    found = {}
    for one in seen:
        key = (one.node, one.id)
        same = key in before and before[key][0] == one.health
        found[key] = before[key] if same else (one.health, now)
    return found
