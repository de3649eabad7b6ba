"""Entries in Consul that nobody may stand behind any more, as the catalog lists them.

They are nouns of their own because a registration is what *we* want, and these are what is found:
ours, other agents', and strangers' that only look like one. Nothing here says which may be removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from lictor.core.model.reason import Reason


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of the catalog that carries Lictor's mark, or an id like those of Lictor.

    `node` is Consul's name of the node, `lictor_node` the one that the entry says; `owner` is the
    uuid of the installation that made it, "" where it says none. `here`: its node is that of the
    local Consul agent, which then is the one to ask; `held`: that agent has it itself. `upheld`: the
    Consul agent of its node is alive, and would put back what is only taken out of the catalog.
    `health` is that of its worst check.
    """

    id: str
    service: str
    node: str
    owner: str
    lictor_node: str
    health: str
    here: bool
    held: bool
    upheld: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """An agent that has no lease any more: its node, its uuid, and the seconds since its last word."""

    node: str
    agent: str
    age: float


@dataclass(frozen=True, slots=True)
class Leftover:
    """An entry that nobody stands behind, why it counts as one, and whether it may be taken out."""

    entry: Listed
    reason: Reason
    removable: bool
