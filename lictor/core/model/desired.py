"""What should be: config.yml, what KV says over it, and the result of merging the two.

Order of authority, highest first: operator hold, KV of this node, KV `_all`, config.yml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.model.spec import ParamValue, ServiceSpec


class DesiredState(StrEnum):
    """What is wanted of one service."""

    RUNNING = "running"
    STOPPED = "stopped"
    MAINTENANCE = "maintenance"  # leave the process, make its check critical


#: What each verb asks for; a restart asks for a new run besides.
AFTER_VERB: Mapping[str, DesiredState] = {
    "start": DesiredState.RUNNING,
    "stop": DesiredState.STOPPED,
    "restart": DesiredState.RUNNING,
}


class Source(StrEnum):
    """Who decided it."""

    CONFIG = "config"
    KV_ALL = "kv_all"
    KV_NODE = "kv_node"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Override:
    """One valid document of `lictor/desired/<node|_all>/<service>`.

    `restart` and `until` are Unix seconds. `restart` acts once, if newer than the last start;
    after `until` the document counts as absent.
    """

    state: DesiredState | None = None
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    restart: float | None = None
    until: float | None = None
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator's word about one service on this host, stronger than any document.

    It leaves parameters and restart orders alone. `since` and `until` are Unix seconds; after
    `until` it counts as absent.
    """

    state: DesiredState
    by: str
    reason: str
    since: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class HoldOrder:
    """An operator's word from another node about a service here: a hold, or its end (`state` None).

    `until` is Unix seconds. `insist`: also if others need the service. `index` tells one order from
    the next for the same service.
    """

    key: ServiceKey
    state: DesiredState | None
    by: str
    reason: str = ""
    until: float | None = None
    insist: bool = False
    index: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One KV key as read: the document, or why it was refused. `text` is what was in KV."""

    text: str
    override: Override | None = None
    refused: Reason | None = None
    modify_index: int = 0


@dataclass(frozen=True, slots=True)
class KvSnapshot:
    """All documents below the prefix at one index, by service, for this node and for all nodes.

    The sentinel is already checked and left out. Keys that are no service name at all are in
    `strays`, with the reason. `hold_orders` are from other nodes, and not taken up yet.
    """

    node: Mapping[ServiceKey, Entry] = field(default_factory=dict)
    all_nodes: Mapping[ServiceKey, Entry] = field(default_factory=dict)
    strays: Mapping[str, Reason] = field(default_factory=dict)
    index: int = 0
    hold_orders: tuple[HoldOrder, ...] = ()


@dataclass(frozen=True, slots=True)
class DesiredService:
    """What is wanted of one service, after merging.

    `spec` has the parameters in force. `refused` names a KV document that is not in force because
    it is wrong (the last good one is). `blocked` says why it can never run here as configured.
    `by` and `why` come from whoever set the override.
    """

    spec: ServiceSpec
    state: DesiredState
    source: Source = Source.CONFIG
    restart_wall: float | None = None
    until: float | None = None
    by: str = ""
    why: str = ""
    refused: Reason | None = None
    blocked: Reason | None = None


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """A change of one desired document. None leaves a field alone; `remove` deletes the key.

    `unset_params` removes these parameters; `clear_state` returns the state to the config;
    `clear_until` takes the end away; `anew` keeps nothing of what the document said before (it had
    expired: nothing of it may come to life again).
    """

    state: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    unset_params: tuple[str, ...] = ()
    clear_state: bool = False
    restart: str | None = None
    until: str | None = None
    by: str = ""
    reason: str = ""
    remove: bool = False
    clear_until: bool = False
    anew: bool = False


Desired = Mapping[ServiceKey, DesiredService]
