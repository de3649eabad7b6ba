"""`lictor hold|release NAME --node b`: an operator's word over a service of another node.

The order is written for that node's agent, which keeps the hold on its own host and ends it at its
time, Consul or not. What that agent would refuse is refused here already, going by what it last
published; it judges for itself all the same. The answer waits a moment for it to be taken up, and
says so if it was not: an agent that is away does it when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lictor.core.errors import Refused, UsageError
from lictor.core.model.desired import DesiredState, HoldOrder
from lictor.core.model.names import ServiceKey
from lictor.core.model.node import NodeSeen
from lictor.core.model.reason import Reason, because
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.nodes_view import agent_state
from lictor.core.runtime.orders.remote import (
    Place,
    RemoteOrders,
    held_there,
    refuse_to_hurt_there,
    told_there,
)
from lictor.core.runtime.storage.codec import key_from
from lictor.core.worded import worded

_TAKEN_UP = 5.0  # seconds that the other agent gets; it publishes once a second
_LOOK = 0.25  # seconds between two looks
_ROUNDED = 0.01  # seconds; orders are written to the millisecond


class RemoteHolds:
    """Holds of other nodes, from this agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._orders = RemoteOrders(agent)

    async def send(
        self, order: HoldOrder, node: str, names: Sequence[object]
    ) -> list[dict[str, Any]]:
        """Order it for each service meant (`order.key` is not looked at); a row for each.

        A node of `_all` means every node that has the service now. Raises `NoSuchService`,
        `Refused`, and how Consul failed.
        """
        ports, nodes, places = await self._orders.meant(node, names)
        typed = [ServiceKey.parse(str(name)) for name in names]
        places = list(dict.fromkeys(_as_typed(place, typed) for place in places))
        for place in places:
            self._refuse(order, nodes[place.node], place, places)
        for place in places:
            await ports.desired.order_hold(replace(order, key=place.key), node=place.node)
            what = "release" if order.state is None else "hold"
            said = because("verb.ordered_on", by=order.by, what=what, node=place.node)
            self._agent.record("hold", str(place.key), said, who=order.by, outcome="requested")
        loop = asyncio.get_running_loop()
        end = loop.time() + _TAKEN_UP
        while True:
            nodes = {seen.node: seen for seen in await ports.nodes.read()}
            waiting = [p for p in places if not _is_so(order, nodes.get(p.node), p.key)]
            there = any(_runs(nodes.get(place.node)) for place in waiting)
            if not waiting or not there or loop.time() >= end:
                break
            await asyncio.sleep(_LOOK)
        return [_row(order, place, nodes, waits=place in waiting) for place in places]

    def _refuse(
        self, order: HoldOrder, seen: NodeSeen, place: Place, places: Sequence[Place]
    ) -> None:
        if order.state is None:
            _refuse_part_of_whole(seen, place.key)
            return
        for key, document in _documents(seen, place.key):
            if held_there(document) and document.get("by") != order.by:
                held = because("order.held_there_already", service=str(key), node=seen.node)
                ends = because("next.end_hold_there", service=str(key), node=seen.node)
                raise worded(Refused, held, *told_there(document), hint=ends, code="held")
        if order.state is DesiredState.STOPPED and not order.insist:
            refuse_to_hurt_there(seen, place, places, "stop")


def _refuse_part_of_whole(seen: NodeSeen, key: ServiceKey) -> None:
    whole = ServiceKey(key.name)
    if key != whole and seen.services.get(key, {}).get("held_as") == str(whole):
        part, all_of_it = str(key), str(whole)
        raise worded(
            UsageError,
            because("hold.of_whole_there", service=part, node=seen.node, whole=all_of_it),
            hint=because("next.end_hold_there", service=all_of_it, node=seen.node),
        )


def _as_typed(place: Place, typed: Iterable[ServiceKey]) -> Place:
    """The place under the name as typed: `piper` is held whole, not instance by instance."""
    whole = ServiceKey(place.key.name)
    return Place(place.node, whole) if whole in typed else place


def _documents(
    seen: NodeSeen | None, key: ServiceKey
) -> list[tuple[ServiceKey, Mapping[str, object]]]:
    """What a node published of a service: of all its instances, if the whole of it is meant."""
    if seen is None:
        return []
    return [
        (other, document)
        for other, document in sorted(seen.services.items())
        if other.meant_by(key)
    ]


def _is_so(order: HoldOrder, seen: NodeSeen | None, key: ServiceKey) -> bool:
    """Whether what the node published says that the order was taken up."""
    if not _runs(seen):
        return False
    found = [document for _, document in _documents(seen, key)]
    if order.state is None:
        return not any(_is_held_as(key, document) for document in found)
    wanted = ("hold", order.by, order.reason, order.state.value)
    return bool(found) and all(
        tuple(document.get(name) for name in ("source", "by", "why", "desired")) == wanted
        and _same_moment(document.get("until"), order.until)
        for document in found
    )


def _is_held_as(key: ServiceKey, document: Mapping[str, object]) -> bool:
    """Whether it is held under a name that a release of `key` means."""
    name = document.get("held_as")
    if document.get("source") != "hold" or not isinstance(name, str):
        return document.get("source") == "hold"  # an agent that does not tell the name yet
    held = key_from(name)
    return held is not None and held.meant_by(key)


def _same_moment(one: object, other: float | None) -> bool:
    if other is None or not isinstance(one, int | float):
        return one is other
    return abs(one - other) < _ROUNDED


def _runs(seen: NodeSeen | None) -> bool:
    return seen is not None and agent_state(seen) == "running"


def _row(
    order: HoldOrder, place: Place, nodes: Mapping[str, NodeSeen], *, waits: bool
) -> dict[str, Any]:
    parts: list[Reason]
    if waits:
        parts = [because("hold.on_its_way", node=place.node)]
    elif order.state is None:
        parts = [because("hold.released", by=order.by)]
    else:
        state, why = order.state.value, order.reason
        parts = [because("hold.by", by=order.by, state=state, why=why)]
        if order.until is not None:
            parts.append(because("until", until=order.until))
    away = not _runs(nodes.get(place.node))
    return {
        "service": str(place.key),
        "node": place.node,
        "result": ("pending" if away else "requested") if waits else "done",
        "sentence": " ".join(views.say(part) for part in parts),
        "reason": parts[0].code,
        "reason_params": dict(parts[0].params),
        "reasons": [{"code": part.code, "params": dict(part.params)} for part in parts],
    }
