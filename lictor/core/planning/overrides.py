"""Merge what config.yml says with what KV says over it, and what an operator's hold says over all.

A document that does not fit is refused whole and the last good one of the same key stays in force
(Consul's own users lost whole trees to half-applied reads, hashicorp/consul#3975). An expired
document or hold (`until` passed) counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lictor.core.model.desired import (
    Desired,
    DesiredService,
    DesiredState,
    Entry,
    Hold,
    KvSnapshot,
    Override,
    Source,
)
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class InForce:
    """The documents in force: the last good ones. `refused` are this node's wrong ones, by key."""

    node: Mapping[ServiceKey, Override] = field(default_factory=dict)
    all_nodes: Mapping[ServiceKey, Override] = field(default_factory=dict)
    refused: Mapping[ServiceKey, Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Host:
    """What this host can do: its mode, and the drivers it has."""

    mode: str = "full"
    drivers: frozenset[str] = frozenset({"process", "observed"})


def keep_good(before: InForce, snapshot: KvSnapshot) -> InForce:
    """The documents in force after a *good* read: new ones, and old ones where the new is wrong."""
    refused = {
        key: entry.refused
        for entries in (snapshot.all_nodes, snapshot.node)
        for key, entry in entries.items()
        if entry.refused is not None
    }
    return InForce(
        node=_good(before.node, snapshot.node),
        all_nodes=_good(before.all_nodes, snapshot.all_nodes),
        refused=refused,
    )


def _good(
    before: Mapping[ServiceKey, Override], entries: Mapping[ServiceKey, Entry]
) -> dict[ServiceKey, Override]:
    result: dict[ServiceKey, Override] = {}
    for key, entry in entries.items():
        if entry.override is not None:
            result[key] = entry.override
        elif key in before:
            result[key] = before[key]
    return result


Holds = Mapping[ServiceKey, Hold]


def merge(
    specs: Iterable[ServiceSpec],
    documents: InForce,
    *,
    wall: float,
    host: Host,
    holds: Holds | None = None,
) -> Desired:
    """What is wanted of every service of this host now."""
    return {
        spec.key: _merge_one(spec, documents, hold_of(spec.key, holds or {}, wall), wall, host)
        for spec in specs
    }


def hold_of(key: ServiceKey, holds: Holds, wall: float) -> Hold | None:
    """The hold in force on a service."""
    place = held_as(key, holds, wall)
    return None if place is None else holds[place]


def held_as(key: ServiceKey, holds: Holds, wall: float) -> ServiceKey | None:
    """The name under which it is held: that of the instance goes before that of the whole service."""
    for place in (key, ServiceKey(key.name)):
        hold = holds.get(place)
        if hold is not None and (hold.until is None or hold.until > wall):
            return place
    return None


def next_expiry(documents: InForce, wall: float, holds: Holds | None = None) -> float | None:
    """When the next document or hold in force ends (Unix seconds), so that somebody wakes up."""
    ends = [document.until for document in documents.node.values()]
    ends += [document.until for document in documents.all_nodes.values()]
    ends += [hold.until for hold in (holds or {}).values()]
    return min((end for end in ends if end is not None and end > wall), default=None)


def _merge_one(
    spec: ServiceSpec, documents: InForce, hold: Hold | None, wall: float, host: Host
) -> DesiredService:
    whole = ServiceKey(spec.key.name)
    layers = (  # weakest first
        (Source.KV_ALL, documents.all_nodes.get(whole)),
        (Source.KV_ALL, documents.all_nodes.get(spec.key) if spec.key.instance else None),
        (Source.KV_NODE, documents.node.get(whole)),
        (Source.KV_NODE, documents.node.get(spec.key) if spec.key.instance else None),
    )
    wanted = spec.activation == "always"
    state = DesiredState.RUNNING if wanted else DesiredState.STOPPED
    source, by, why = Source.CONFIG, "", ""
    restart: float | None = None
    until: float | None = None
    for layer_source, override in layers:
        if override is None or (override.until is not None and override.until <= wall):
            continue
        if override.params:
            spec = spec.with_params(override.params)
        if override.restart is not None:
            restart = max(restart or 0.0, override.restart)
        if override.state is not None:
            state, source = override.state, layer_source
            by, why, until = override.by, override.reason, override.until
    if hold is not None:
        state, source = hold.state, Source.HOLD
        by, why, until = hold.by, hold.reason, hold.until
    refused = documents.refused.get(spec.key) or documents.refused.get(whole)
    return DesiredService(
        spec=spec,
        state=state,
        source=source,
        restart_wall=restart,
        until=until,
        by=by,
        why=why,
        refused=refused,
        blocked=_blocked(spec, host),
    )


def _blocked(spec: ServiceSpec, host: Host) -> Reason | None:
    if spec.modes and host.mode not in spec.modes:
        return because("blocked.mode", mode=host.mode, modes=", ".join(spec.modes))
    if spec.driver not in host.drivers:
        return because("blocked.driver", driver=spec.driver)
    return None
