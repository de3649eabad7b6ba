"""Verbs for other nodes: `start|stop|restart NAME --node b`, and `--node _all` for every node.

They write that node's desired document, as its own agent would, and refuse what it would refuse,
going by what it last published. Waiting is looking at what it publishes. Nothing here talks to the
other agent: it may be away, and then its word is taken up when it comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lictor.core.errors import ConsulUnreachable, NoSuchService, Refused, TimedOut, UsageError
from lictor.core.locales import catalogue
from lictor.core.model.desired import AFTER_VERB, DesiredChange
from lictor.core.model.names import ServiceKey, is_label
from lictor.core.model.node import NodeSeen
from lictor.core.model.reason import Reason, because
from lictor.core.model.state import Phase
from lictor.core.ports import ConsulPorts
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import key_given
from lictor.core.runtime.answers.nodes_view import agent_state, service_record, unix
from lictor.core.runtime.control import Emit
from lictor.core.worded import worded

ALL_NODES = "_all"

_LOOK = 0.5  # seconds between two looks at what the others publish
_SETTLE = 1.5  # seconds until what happens there is written: once a second, and on its way
_ROUNDED = 0.001  # seconds: orders are written to the millisecond
_STUCK = frozenset({"failed", "backoff"})
_ENDED_BADLY = frozenset({"failed", "blocked", "backoff"})
_RUNNING = frozenset(phase.value for phase in Phase if phase.running)


@dataclass(frozen=True, slots=True)
class Verb:
    """What was ordered. `until` is RFC 3339; `limit` are seconds, None: wait for ever."""

    name: str
    who: str
    reason: str = ""
    until: str | None = None
    insist: bool = False
    wait: bool = False
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One service on one node, and the restart that was ordered of it (Unix seconds).

    `shared`: the order is the one for all nodes, which the node's own document overrules.
    """

    node: str
    key: ServiceKey
    restart: float | None = None
    shared: bool = False


class RemoteOrders:
    """Orders from this agent for services of other nodes."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def change(self, verb: Verb, node: str, names: Sequence[object], emit: Emit) -> Any:
        """Write what was ordered, and wait for it if asked; a row for each service and node."""
        ports, nodes, places = await self.meant(node, names)
        if names:
            self._refuse(verb, nodes, places)
        free = [place for place in places if _hold(nodes, place, verb) is None]
        keys = [place.key for place in free]
        if node == ALL_NODES:  # one word for all: not only for the instances that exist today
            keys = [ServiceKey.parse(str(name)) for name in names] or [
                ServiceKey(key.name) for key in keys
            ]
        ordered = await self._write(ports, verb, node, keys, free, nodes)
        done = await self._wait(verb, ordered, nodes, emit) if verb.wait else {}
        after = {seen.node: seen for seen in await ports.nodes.read()}
        return [self._row(after, place, done, held=place not in free) for place in places]

    async def meant(
        self, node: str, names: Sequence[object]
    ) -> tuple[ConsulPorts, dict[str, NodeSeen], list[Place]]:
        """The way to Consul, the nodes meant by `node`, and every service meant on them."""
        if node != ALL_NODES and not is_label(node):
            raise worded(UsageError, because("ask.node_name", node=node))
        ports = self._ports()
        nodes = self._nodes_meant(node, await ports.nodes.read())
        return ports, nodes, _places(nodes, names, node)

    def _ports(self) -> ConsulPorts:
        ports = self._agent.consul.ports
        if ports is None:
            through = because("next.through_consul")
            raise worded(ConsulUnreachable, self._agent.consul.state, hint=through)
        return ports

    def _nodes_meant(self, node: str, seen: Sequence[NodeSeen]) -> dict[str, NodeSeen]:
        found = {one.node: one for one in seen if node in {ALL_NODES, one.node}}
        if not found:
            none, known = because("node.none", node=node), _there_are(one.node for one in seen)
            raise worded(NoSuchService, none, hint=known, code="node.unknown")
        return found

    def _refuse(self, verb: Verb, nodes: Mapping[str, NodeSeen], places: Sequence[Place]) -> None:
        """Refuse what the other agent would refuse."""
        for place in places:
            hold = _hold(nodes, place, verb)
            if hold is not None:
                held = because("order.held_there", service=str(place.key), node=place.node)
                ends = because("next.end_hold_there", service=str(place.key), node=place.node)
                raise worded(Refused, held, *told_there(hold), hint=ends, code="held")
            if verb.name in {"stop", "restart"} and not verb.insist:
                refuse_to_hurt_there(nodes[place.node], place, places, verb.name)

    async def _write(
        self,
        ports: ConsulPorts,
        verb: Verb,
        node: str,
        keys: Sequence[ServiceKey],
        places: Sequence[Place],
        nodes: Mapping[str, NodeSeen],
    ) -> list[Place]:
        """Write each document once, with compare-and-set; the places with what they wait for."""
        now, shared = self._agent.tools.clock.wall(), node == ALL_NODES
        stamps = _stamps(verb, places, nodes, now)
        # A start renews what is stuck, and nothing else that the same document is about.
        apart = shared and verb.name == "start"
        for key in dict.fromkeys(keys):
            document = await ports.nodes.document(node, key)
            meant = () if apart else (place for place in stamps if place.key.meant_by(key))
            stamp = max((stamps[place] for place in meant), default=None)
            await ports.desired.change(key, _change(verb, document, stamp, now), node=node)
            said = because("verb.ordered_on", by=verb.who, what=verb.name, node=node)
            self._agent.record("verb", str(key), said, who=verb.who, outcome="requested")
        for place, stamp in stamps.items() if apart else ():
            document = await ports.nodes.document(place.node, place.key)
            again = _renewal(verb, document, stamp, now)
            await ports.desired.change(place.key, again, node=place.node)
        return [replace(place, restart=stamps.get(place), shared=shared) for place in places]

    async def _wait(
        self, verb: Verb, places: Sequence[Place], before: Mapping[str, NodeSeen], emit: Emit
    ) -> dict[tuple[str, ServiceKey], str]:
        """Look until each has an outcome; raises `TimedOut`.

        What a node had written `before` the order may be a second old, and not say what was ordered
        there just then; it is believed when it has stood for as long as a new word may take.
        """
        ports, loop = self._ports(), asyncio.get_running_loop()
        begun = loop.time()
        while True:
            nodes = {seen.node: seen for seen in await ports.nodes.read()}
            elapsed = loop.time() - begun
            outcomes = {
                (p.node, p.key): _outcome(verb, nodes.get(p.node), p)
                if elapsed >= _SETTLE or _is_new(p, before, nodes)
                else ""
                for p in places
            }
            for place in places:
                await emit(_item(nodes, place, elapsed))
            missing = [place for place, word in outcomes.items() if not word]
            if not missing:
                return outcomes
            if verb.limit is not None and elapsed >= verb.limit:
                raise _not_yet(missing, verb.limit)
            await asyncio.sleep(_LOOK)

    def _row(
        self,
        nodes: Mapping[str, NodeSeen],
        place: Place,
        done: Mapping[tuple[str, ServiceKey], str],
        *,
        held: bool,
    ) -> dict[str, Any]:
        seen = nodes.get(place.node) or NodeSeen(place.node)
        document = seen.services.get(place.key, {})
        record = service_record(seen, place.key, document, self._agent.tools.clock.wall())
        away = agent_state(seen) != "running"
        word = done.get((place.node, place.key)) or ("pending" if away else "requested")
        return {
            "service": str(place.key),
            "node": place.node,
            "phase": record["phase"],
            "sentence": record.get("sentence") or "",
            "reason": record.get("reason"),
            "reason_params": record.get("reason_params") or {},
            "reasons": record.get("reasons") or [],
            "result": "held" if held else word,
        }


def _places(nodes: Mapping[str, NodeSeen], names: Sequence[object], node: str) -> list[Place]:
    """Every service meant, on every node meant; raises `NoSuchService` for a name on none."""
    everywhere = [(seen.node, key) for seen in nodes.values() for key in sorted(seen.services)]
    if not names:
        return [Place(*one) for one in everywhere]
    found: dict[Place, None] = {}
    for name in names:
        wanted = key_given(name)
        there = [Place(*one) for one in everywhere if one[1].meant_by(wanted)]
        if not there:
            none = because("service.none_there", name=str(name), node=node)
            if node == ALL_NODES:
                none = because("service.none_anywhere", name=str(name))
            known = _there_are(sorted({str(key) for _, key in everywhere}))
            raise worded(NoSuchService, none, hint=known)
        found.update(dict.fromkeys(there))
    return list(found)


def _there_are(names: Iterable[str]) -> Reason:
    known = ", ".join(names)
    return because("next.there_are", known=known) if known else because("next.there_are_none")


def _not_yet(missing: Sequence[tuple[str, ServiceKey]], limit: float) -> TimedOut:
    *others, last = missing
    return worded(
        TimedOut,
        because("wait.not_yet", limit=f"{limit:g}"),
        *(because("wait.place_more", service=str(key), node=node) for node, key in others),
        because("wait.place_last", service=str(last[1]), node=last[0]),
        hint=because("next.order_stands"),
    )


def _hold(nodes: Mapping[str, NodeSeen], place: Place, verb: Verb) -> Mapping[str, Any] | None:
    """The document of a service that somebody holds against this verb; None: it may be done."""
    document = nodes[place.node].services.get(place.key, {})
    if not held_there(document):
        return None
    if verb.name == "restart" and document.get("desired") == "running":
        return None
    return document


def held_there(document: Mapping[str, Any]) -> bool:
    """Whether somebody holds a service, by what its node published.

    An agent that ends holds all that it has in nobody's name, and its last word stays; that binds
    nobody who orders something for its return.
    """
    return document.get("source") == "hold" and bool(document.get("by"))


def told_there(document: Mapping[str, Any]) -> list[Reason]:
    """What a node published of how a service is, as reasons; as it said it if some are not ours."""
    given, known = _list(document.get("reasons")), catalogue("en", "reasons")
    found = [
        Reason(part["code"], part["params"])
        for part in given
        if isinstance(part, dict)
        and str(part.get("code")) in known
        and isinstance(part.get("params"), dict)
    ]
    if found and len(found) == len(given):
        return found
    said = document.get("sentence")
    return [because("order.said_there", sentence=str(said))] if said else []


def refuse_to_hurt_there(seen: NodeSeen, place: Place, places: Sequence[Place], verb: str) -> None:
    """Stopping what others need is refused there as it is here, until it is said twice."""
    hurt = _hurt_there(seen, place, places)
    if hurt:
        key, others = str(place.key), ", ".join(hurt)
        hurts = because("order.hurts_there", verb=verb, service=key, node=seen.node, others=others)
        raise worded(Refused, hurts, hint=because("next.insist"))


def _hurt_there(seen: NodeSeen, place: Place, places: Sequence[Place]) -> list[str]:
    """What runs on that node, needs the service, and is not among `places` itself."""
    moved = {other.key for other in places if other.node == place.node}
    return [
        str(key)
        for key, document in sorted(seen.services.items())
        if key not in moved
        and document.get("phase") in _RUNNING
        and place.key.name in _list(document.get("needs"))
    ]


def _stamps(
    verb: Verb, places: Sequence[Place], nodes: Mapping[str, NodeSeen], now: float
) -> dict[Place, float]:
    """When the restart of each place is to have been ordered; none where none is needed.

    An order counts if it is newer than the last start *by the other host's clock*, so it is never
    older than what that host last wrote; and it is another than the one that was acted on last,
    which a clock that is ahead may have dated in the future.
    """
    stamps = {}
    for place in places:
        document = nodes[place.node].services.get(place.key, {})
        stuck = document.get("phase") in _STUCK or bool(document.get("done"))
        if verb.name == "restart" or (verb.name == "start" and stuck):
            # Further than orders are rounded: waiting must tell it from the one acted on.
            acted = (_number(document.get("restart_order")) or 0.0) + _ROUNDED
            stamps[place] = max(now, unix(document.get("at")) or 0.0, acted) + _ROUNDED
    return stamps


def _change(
    verb: Verb, document: Mapping[str, object] | None, restart: float | None, now: float
) -> DesiredChange:
    """The change of a document that a verb means; a document has one end for all it says."""
    change = DesiredChange(
        state=AFTER_VERB[verb.name].value,
        by=verb.who,
        reason=verb.reason,
        until=verb.until,
        restart=None if restart is None else _text(restart),
    )
    if not document:
        return change
    end = unix(document.get("until")) if "until" in document else None
    if end is not None and end <= now:
        return replace(change, anew=True)
    if verb.until is None:
        return replace(change, clear_until=not document.get("params"))
    if end is None and (document.get("params") or document.get("state") == "stopped"):
        lost = because("order.ends_there_too")
        raise worded(UsageError, lost, hint=because("next.hold_until_there"))
    return change


def _is_new(place: Place, before: Mapping[str, NodeSeen], nodes: Mapping[str, NodeSeen]) -> bool:
    """Whether the node has written of the service since, or cannot because its agent is away."""
    seen = nodes.get(place.node)
    if seen is None or agent_state(seen) != "running":
        return True
    return seen.services.get(place.key) != before[place.node].services.get(place.key)


def _renewal(
    verb: Verb, document: Mapping[str, object] | None, stamp: float, now: float
) -> DesiredChange:
    """One node's own word that a service is to be started again, whatever is said of its state."""
    end = unix(document.get("until")) if document and "until" in document else None
    return DesiredChange(
        by=verb.who,
        reason=verb.reason,
        restart=_text(stamp),
        anew=end is not None and end <= now,
    )


def _outcome(verb: Verb, seen: NodeSeen | None, place: Place) -> str:
    """`done`, `failed` when waiting is hopeless, `pending` while its agent is away, else "" ."""
    if seen is None or agent_state(seen) != "running":
        return "pending"
    document = seen.services.get(place.key)
    if document is None:
        return "done" if verb.name == "stop" else "failed"
    if document.get("refused"):
        return "failed"
    phase, target = document.get("phase"), AFTER_VERB[verb.name]
    if document.get("desired") != target:
        # Not read yet; or the node's own word stands over the one for all nodes.
        overruled = place.shared and document.get("source") in {"kv_node", "hold"}
        return "overtaken" if overruled else ""
    if verb.name == "stop":
        return "" if phase in _RUNNING else "done"
    acted = _number(document.get("restart_order"))
    if place.restart is not None and (acted is None or acted < place.restart - _ROUNDED):
        return ""
    if phase == Phase.READY.value:
        return "done"
    return "failed" if phase in _ENDED_BADLY else ""


def _item(nodes: Mapping[str, NodeSeen], place: Place, elapsed: float) -> dict[str, Any]:
    seen = nodes.get(place.node) or NodeSeen(place.node)
    document = seen.services.get(place.key, {})
    return {
        "service": f"{place.key} ({place.node})",
        "phase": document.get("phase") or Phase.UNKNOWN.value,
        "sentence": document.get("sentence") or "",
        "reasons": document.get("reasons") or [],
        "elapsed": round(elapsed, 1),
        "log": "",
    }


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
