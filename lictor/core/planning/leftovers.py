"""Which entries in Consul nobody stands behind, and which of those may be taken out.

The rule is that of the rest: what is not *proved* to be left over stays. An entry of ours counts only
by the owner in its Meta, never by its id (hashicorp/nomad#2294). An entry of another agent counts
only when the document of its node names that very agent, nobody has the node's lease, and its check
is critical: an agent that dies stops nothing, and what still answers is somebody's service. What the
Consul agent of another, living host holds is left to that host. Nothing here asks or writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lictor.core.model.leftover import Gone, Leftover, Listed
from lictor.core.model.reason import Param, because
from lictor.core.planning.registration import Owner

#: Seconds without a word after which an agent without a lease counts as gone: longer than a restart,
#: an upgrade, or a lease that was lost and is taken again.
SURELY_GONE = 120.0


def find(
    listed: Iterable[Listed],
    owner: Owner,
    *,
    wanted: Collection[str],
    kept: Collection[str],
    gone: Iterable[Gone],
    alive: Collection[str],
) -> list[Leftover]:
    """Every leftover, in the order of `listed`.

    `wanted` are the ids that belong to services of this node now; `kept` those of them and of others
    with which the registrar is busy anyway. `alive` are the uuids of agents that have a lease.
    """
    ended = {(one.agent, one.node): one for one in gone if one.age >= SURELY_GONE}
    recent = {(one.agent, one.node) for one in gone if one.age < SURELY_GONE}
    found = []
    for entry in listed:
        if entry.owner == owner.uuid and entry.lictor_node == owner.node:
            leftover = _own(entry, wanted, kept)
        elif not entry.owner:
            leftover = Leftover(entry, because("leftover.look_alike", id=entry.id), False)
        elif entry.owner in alive or (entry.owner, entry.lictor_node) in recent:
            leftover = None
        else:
            leftover = _of_another(entry, ended.get((entry.owner, entry.lictor_node)))
        if leftover is not None:
            found.append(leftover)
    return found


def _own(entry: Listed, wanted: Collection[str], kept: Collection[str]) -> Leftover | None:
    if entry.here:
        if entry.id in wanted or entry.id in kept:
            return None
        return Leftover(entry, because("leftover.own", service=entry.service), True)
    # Ours on another node of Consul: this agent talked to another Consul agent once.
    if entry.upheld:
        return Leftover(entry, because("leftover.own_upheld", node=entry.node), False)
    return Leftover(entry, because("leftover.own_elsewhere", node=entry.node), True)


def _of_another(entry: Listed, gone: Gone | None) -> Leftover | None:
    if gone is None:
        if entry.health != "critical":
            return None  # somebody uses it, and nothing is known against that
        return Leftover(entry, because("leftover.nobody_known", agent=entry.owner), False)
    told: dict[str, Param] = {"node": gone.node, "age": gone.age}
    if entry.health != "critical":
        return Leftover(entry, because("leftover.still_works", **told), False)
    if not entry.here and entry.upheld:
        return Leftover(entry, because("leftover.upheld", consul=entry.node, **told), False)
    return Leftover(entry, because("leftover.agent_gone", **told), True)
