"""Judges a change of desired state that nobody wrote: documents that are gone.

A deleted key is an order only by inference, and inference from absence has erased whole trees
(hashicorp/consul-replicate#82). One deleted document is believed; a deletion that would stop many
services is held until an operator confirms it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lictor.core.model.desired import Desired, DesiredState, Override
from lictor.core.model.names import ServiceKey
from lictor.core.planning.overrides import InForce

_FEW = 2  # so many stops are believed whatever else runs


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A change that waits for a person: what would stop, of how many, because of which documents."""

    services: tuple[ServiceKey, ...]
    of: int
    documents: tuple[str, ...]
    kept: InForce


def hold_back(
    before: InForce,
    after: InForce,
    merged: Callable[[InForce], Desired],
    *,
    holding: bool = False,
) -> HeldBack | None:
    """What to hold of the step from `before` to `after`; None: it may take effect.

    It is held if the documents that are gone, and not those that say something new, would stop more
    than two services and more than half of those that are wanted now. `merged` gives the desired
    state that documents make. `holding`: some are held already; what then is still gone stays held
    however little it is, for whoever writes a lost tree again does so key by key.
    """
    node, gone_here = _with_absent(before.node, after.node)
    everywhere, gone_everywhere = _with_absent(before.all_nodes, after.all_nodes)
    if not gone_here and not gone_everywhere:
        return None
    kept = replace(after, node=node, all_nodes=everywhere)
    wanted, then = _running(merged(kept)), _running(merged(after))
    stops = tuple(key for key in wanted if key not in then)
    few = len(stops) <= _FEW or 2 * len(stops) <= len(wanted)
    if not stops or (few and not holding):
        return None
    documents = (*map(str, gone_here), *(f"_all/{key}" for key in gone_everywhere))
    return HeldBack(stops, len(wanted), documents, kept)


def _with_absent(
    before: Mapping[ServiceKey, Override], after: Mapping[ServiceKey, Override]
) -> tuple[dict[ServiceKey, Override], list[ServiceKey]]:
    gone = [key for key in before if key not in after]
    return {**after, **{key: before[key] for key in gone}}, gone


def _running(desired: Desired) -> list[ServiceKey]:
    """Services that have a process if all goes well: maintenance leaves it."""
    return [
        key
        for key, want in desired.items()
        if want.state is not DesiredState.STOPPED and want.blocked is None
    ]
