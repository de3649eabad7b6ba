"""All nodes as people and programs are shown them, from what each agent last wrote.

A record of another node has the fields of `lictor status`; what only its own host measures (CPU,
memory, uptime) is None, and 0 of what does not run. An agent that is not there is shown as such, with the age of the last word
from it, and of what it ran nothing is claimed to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lictor.core.model.names import ServiceKey
from lictor.core.model.node import NodeSeen
from lictor.core.model.reason import Reason, because
from lictor.core.model.state import Phase
from lictor.core.runtime.views import say

#: Fields of a status record that only the node itself knows.
_UNMEASURED = ("uptime_s", "cpu_percent", "memory_mb", "registered")
#: What a service uses that does not run, wherever it does not.
_NOTHING = {"uptime_s": 0.0, "cpu_percent": 0.0, "memory_mb": 0.0}
_FACTS = (
    *("agent", "version", "host", "address", "cpus", "memory_mb", "gpus", "gpu_memory"),
    *("ui", "since"),
)
_RUNNING = frozenset(phase.value for phase in Phase if phase.running)


def agent_state(seen: NodeSeen) -> str:
    """How a node's agent is: `running`, `ended` (in order), `gone`, or `unknown` (no document)."""
    if seen.held:
        return "running"
    if not seen.facts:
        return "unknown"
    return "ended" if seen.facts.get("ended") else "gone"


def node_record(seen: NodeSeen, wall: float) -> dict[str, Any]:
    """One node. `age_s` is since the last word of its agent; 0 while it is there."""
    state = agent_state(seen)
    age = 0.0 if state == "running" else last_word(seen, wall)
    why = _why(seen.node, state, age)
    return {
        "node": seen.node,
        "state": state,
        "age_s": age,
        **{name: seen.facts.get(name) for name in _FACTS},
        "services": len(seen.services),
        "sentence": say(why) if why is not None else "",
        "reason": why.code if why is not None else None,
        "reason_params": dict(why.params) if why is not None else {},
    }


def service_record(
    seen: NodeSeen, key: ServiceKey, document: Mapping[str, Any], wall: float
) -> dict[str, Any]:
    """One service of another node, in the shape of `lictor status -o json`."""
    node = node_record(seen, wall)
    phase = str(document.get("phase") or Phase.UNKNOWN.value)
    record = {
        "name": key.name,
        "instance": key.instance or None,
        "node": seen.node,
        "display_name": str(key),
        **document,
        **dict.fromkeys(_UNMEASURED),
        **(_NOTHING if phase not in {*_RUNNING, Phase.UNKNOWN.value} else {}),
        "phase": phase,
        "agent_state": node["state"],
        "agent_age_s": node["age_s"],
    }
    if node["state"] == "running" or node["reason"] is None:
        return record
    parts = [
        {"code": node["reason"], "params": node["reason_params"]},
        *(document.get("reasons") or []),
    ]
    said = f"{node['sentence']} {document.get('sentence') or ''}".strip()
    if phase in _RUNNING:
        # It may still run: an agent that dies stops nothing. But nobody can say.
        record |= {"phase": Phase.UNKNOWN.value, "health": None}
    return {
        **record,
        "last_phase": phase,
        "sentence": said,
        "reason": node["reason"],
        "reason_params": node["reason_params"],
        "reasons": parts,
    }


def service_records(
    nodes: Iterable[NodeSeen], names: Iterable[ServiceKey], wall: float
) -> list[dict[str, Any]]:
    """The services of these nodes, sorted by node and name; `names` empty: all of them."""
    wanted = list(names)
    return [
        service_record(seen, key, seen.services[key], wall)
        for seen in nodes
        for key in sorted(seen.services)
        if not wanted or any(key.meant_by(name) for name in wanted)
    ]


def _why(node: str, state: str, age: float | None) -> Reason | None:
    if state == "running":
        return None
    if state == "ended":
        return because("node.ended", node=node, age=age)
    if state == "gone":
        return because("node.gone", node=node, age=age)
    return because("node.unknown", node=node, age=age)


def last_word(seen: NodeSeen, wall: float) -> float | None:
    """Seconds since the agent last wrote anything; its clock may differ from ours, so never < 0."""
    stamps = [seen.facts.get("ended"), seen.facts.get("at")]
    if not seen.facts.get("ended"):
        stamps += [document.get("at") for document in seen.services.values()]
    times = [moment for stamp in stamps if (moment := unix(stamp)) is not None]
    return round(max(0.0, wall - max(times)), 1) if times else None


def unix(stamp: object) -> float | None:
    """RFC 3339 as Unix seconds; None for what is none."""
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return None
    return moment.astimezone(moment.tzinfo or UTC).timestamp()
