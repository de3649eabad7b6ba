"""What was left over in Consul: the list with the reason of each, and taking chosen ones out.

There is no "clean up everything": who orders it names each entry, as the list showed it, and each is
judged anew at that moment. `planning.leftovers` decides what counts and what may go; the registrar
looks after this node's own entries anyway, so what stands here is what it cannot see or may not
write. Every removal stands in the journal with who ordered it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lictor.core.errors import ConsulError, ConsulUnreachable, UsageError
from lictor.core.model.leftover import Gone, Leftover
from lictor.core.model.reason import Reason, because
from lictor.core.planning.leftovers import find
from lictor.core.runtime import views
from lictor.core.runtime.answers import nodes_view
from lictor.core.runtime.control import Emit
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.ports import ConsulPorts
    from lictor.core.runtime.agent import Agent

_MOST = 500  # entries in one order

_Place = tuple[str, str]  # Consul's node, and the id there


class CleanUp:
    """The operations `leftovers` and `clean_up`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"leftovers": self._leftovers, "clean_up": self._clean_up}

    async def _leftovers(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """Every leftover; `removable` says whether `clean_up` would take it out."""
        return [_record(one) for one in await self._find(self._ports())]

    async def _clean_up(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        """Take out those of `entries` that are left over, each judged anew.

        One row for each: `done`, `already` (not there, or no leftover any more), `refused`, `failed`.
        """
        places, ports = _asked(args), self._ports()
        found = {(one.entry.node, one.entry.id): one for one in await self._find(ports)}
        rows = []
        for place in places:
            leftover = found.get(place)
            if leftover is None:
                rows.append(_row(place, None, "already", because("leftover.none", id=place[1])))
            elif not leftover.removable:
                rows.append(_row(place, leftover, "refused", leftover.reason))
            else:
                rows.append(await self._take_out(ports, place, leftover, who))
        return rows

    async def _take_out(
        self, ports: ConsulPorts, place: _Place, leftover: Leftover, who: str
    ) -> dict[str, Any]:
        entry = leftover.entry
        try:
            there = await ports.attic.take_out(entry)
        except ConsulError as error:
            why = because("leftover.failed", id=entry.id, message=error.message)
            self._note(entry.service, why, who, "failed")
            return _row(place, leftover, "failed", why)
        if not there:
            return _row(place, leftover, "already", because("leftover.none", id=entry.id))
        why = because("leftover.taken_out", id=entry.id, node=entry.node, by=who)
        self._note(entry.service, why, who, "done")
        return _row(place, leftover, "done", why)

    def _note(self, service: str, why: Reason, who: str, outcome: str) -> None:
        self._agent.record("consul", service, why, who=who, outcome=outcome)
        self._agent.bell.ring()

    def _ports(self) -> ConsulPorts:
        """Consul as we know it now; raises while it is not certain what it holds."""
        consul = self._agent.consul
        if consul.ports is None or consul.state.code != "consul.ok":
            raise worded(ConsulUnreachable, consul.state)
        return consul.ports

    async def _find(self, ports: ConsulPorts) -> list[Leftover]:
        agent = self._agent
        # The nodes first: an agent that comes up in between is then seen by its entries as alive.
        seen, wall = await ports.nodes.read(), agent.tools.clock.wall()
        listed = await ports.attic.listed()
        gone = []
        for node in seen:
            age = nodes_view.last_word(node, wall)
            if not node.held and node.facts and age is not None:
                gone.append(Gone(node.node, str(node.facts.get("agent") or ""), age))
        refused = agent.consul.refused
        return find(
            listed,
            agent.owner,
            wanted=agent.consul.wanted_ids(),
            # What the local Consul agent holds of ours the registrar takes out within seconds.
            kept={one.id for one in listed if one.held and one.id not in refused},
            gone=gone,
            alive={str(node.facts.get("agent")) for node in seen if node.held},
        )


def _asked(args: Mapping[str, Any]) -> list[_Place]:
    entries = args.get("entries")
    if not isinstance(entries, list) or not entries:
        raise worded(UsageError, because("ask.entries"))
    if len(entries) > _MOST:
        raise worded(UsageError, because("ask.entries_many", limit=_MOST))
    places = [
        (str(one.get("node") or ""), str(one.get("id") or ""))
        for one in entries
        if isinstance(one, Mapping)
    ]
    if len(places) < len(entries) or not all(node and entry_id for node, entry_id in places):
        raise worded(UsageError, because("ask.entry"))
    return list(dict.fromkeys(places))


def _record(one: Leftover) -> dict[str, Any]:
    entry = one.entry
    return {
        "id": entry.id,
        "service": entry.service,
        "node": entry.node,
        "lictor": entry.lictor_node or None,
        "health": entry.health,
        "removable": one.removable,
        **views.told(one.reason),
    }


def _row(place: _Place, leftover: Leftover | None, result: str, why: Reason) -> dict[str, Any]:
    node, entry_id = place
    service = leftover.entry.service if leftover is not None else None
    return {"id": entry_id, "node": node, "service": service, "result": result, **views.told(why)}
