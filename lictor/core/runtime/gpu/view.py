"""The GPUs as people and programs are shown them: cards, who holds them, and who would have to leave.

One shape for `lictor gpu`, `/admin/gpu`, the monitor and the dashboard. Memory is in MiB here, as in every
record that people read; a figure that a card does not tell is None. Nothing here changes anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lictor.core.model.gpu import Gpu, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.planning.gpu_plan import takes_gpu, verdict_of
from lictor.core.planning.placement import (
    Card,
    Evict,
    Placed,
    Tenant,
    Verdict,
)
from lictor.core.probes.text import one_line
from lictor.core.runtime import views
from lictor.core.runtime.control import Emit

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_MIB = 1024 * 1024
_STEP = 1024  # MiB; what other nodes are told of free memory moves in steps, or it would never rest


class GpuView:
    """The operation `gpu`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"gpu": self._gpu}

    async def _gpu(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """`{"node", "driver", "cuda", "gpus", "services", "why"}`; `why`: why there are none."""
        agent = self._agent
        seen = await agent.gpus.look()
        inventory = seen.value if isinstance(seen, Known) else Inventory()
        return {
            "node": agent.node,
            "driver": inventory.driver,
            "cuda": inventory.cuda,
            "gpus": rows(agent),
            "services": [_service(agent, key) for key in _concerned(agent)],
            "why": told(why) if (why := why_none(seen)) is not None else None,
        }


def why_none(seen: Known[Inventory] | Unknown) -> Reason | None:
    """Why there is nothing to show."""
    if isinstance(seen, Unknown):
        return seen.reason
    if seen.value.cards:
        return None
    return because("gpu.mismatch") if seen.value.problem == "mismatch" else because("gpu.none")


def told(reason: Reason) -> dict[str, Any]:
    """A reason in the shape of the monitor's `unknown`."""
    params = dict(reason.params)
    return {"code": reason.code, "params": params, "sentence": views.say(reason)}


def rows(agent: Agent) -> list[dict[str, Any]]:
    """Every card as it was last seen, with everybody who holds memory of it."""
    return [_card(card, agent) for card in agent.gpus.cards()]


def _card(card: Card, agent: Agent) -> dict[str, Any]:
    gpu = card.gpu
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "capability": gpu.capability,
        "lost": gpu.lost,
        "mig": gpu.mig,
        "memory": {
            "total_mb": _mib(gpu.total),
            "used_mb": _mib(gpu.used),
            "free_mb": _mib(gpu.free),
            "reserved_mb": _mib(gpu.reserved),
            "room_mb": None if gpu.free is None else _mib(max(0, card.room)),
        },
        "util_percent": gpu.utilization,
        "temperature_c": gpu.temperature,
        "power_w": gpu.power,
        "power_limit_w": gpu.power_limit,
        "fan_percent": gpu.fan,
        "owners": list(_owners(card, agent)),
    }


def _owners(card: Card, agent: Agent) -> Iterable[dict[str, Any]]:
    found = [
        *(_tenant(one, card.gpu, agent) for one in card.tenants),
        *(
            {**_NOBODY, "service": str(one.key), "memory_mb": _mib(one.memory), "state": "ended"}
            for one in card.lingering
            if not one.coming and one.memory >= _MIB
        ),
        *(
            {
                **_NOBODY,
                "pid": one.pid,
                "name": _name_of(one.pid),
                "memory_mb": _mib(one.memory),
                "state": "orphan" if one.ours else "stranger",
            }
            for one in card.strangers
        ),
    ]
    return sorted(found, key=lambda row: -(row["memory_mb"] or 0.0))


_NOBODY: Mapping[str, Any] = {
    "service": None,
    "pid": None,
    "name": None,
    "memory_mb": None,
    "claim_mb": None,
    "state": "stranger",
    "idle_s": None,
    "evictable": False,
}


def _tenant(one: Tenant, gpu: Gpu, agent: Agent) -> dict[str, Any]:
    pids = [pid for pid, where in agent.gpus.process_ids(one.key).items() if where == gpu.uuid]
    state = one.stage if one.stage != "running" else one.spared or "idle"
    return {
        **_NOBODY,
        "service": str(one.key),
        "pid": pids[0] if pids else None,
        "memory_mb": _mib(one.holds),
        "claim_mb": _mib(one.gives),
        "state": state,
        "idle_s": None if one.idle is None else round(one.idle),
        "evictable": one.stage == "running" and not one.spared,
    }


def _name_of(pid: int) -> str | None:
    """What a stranger's program is called; its command line is nobody's business."""
    with contextlib.suppress(OSError):
        return one_line(Path(f"/proc/{pid}/comm").read_bytes(), 32)
    return None


def _concerned(agent: Agent) -> list[ServiceKey]:
    return [key for key, want in agent.reconciler.desired.items() if takes_gpu(want)]


def _service(agent: Agent, key: ServiceKey) -> dict[str, Any]:
    """One service that needs a card: what it asks for, and what a start would lead to if ordered."""
    reconciler = agent.reconciler
    want, state = reconciler.desired[key], reconciler.runners[key].state
    gpu = want.spec.gpu
    board = agent.gpus.board()
    row: dict[str, Any] = {
        "service": str(key),
        "phase": state.phase.value,
        "sentence": views.say(state.reason),
        "reason": state.reason.code,
        "reason_params": dict(state.reason.params),
        "claim_mb": _mib(gpu.memory) if gpu is not None else None,
        "peak_mb": _mib(board.peaks.get(key)) if board is not None else None,
        "gpu": None,
        "evicts": [],
        "start": None,
    }
    if state.phase.running:
        place = board.places.get(key) if board is not None else None
        row["gpu"] = place.uuid if place is not None else None
        return row
    verdict = None
    if board is not None:
        now = agent.tools.clock.now()
        verdict = verdict_of(key, reconciler.desired, reconciler.actual(), now, board)
    return row | _foreseen(verdict)


def _foreseen(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    if isinstance(verdict, Placed):
        return {"gpu": verdict.uuid}
    if isinstance(verdict, Evict):
        names = [str(key) for key in verdict.victims]
        why = because("gpu.would_evict", gpu=verdict.index, services=", ".join(names))
        return {"gpu": verdict.uuid, "evicts": names, "start": told(why)}
    return {"start": told(verdict.reason)}


def facts(seen: Known[Inventory] | Unknown) -> dict[str, Any]:
    """What other nodes are told: names, and memory in whole GiB. Empty where nothing was seen."""
    if isinstance(seen, Unknown) or not seen.value.cards:
        return {}
    cards = seen.value.cards
    return {
        "gpus": [card.name for card in cards],
        "gpu_memory": [
            {
                "total_mb": None if card.total is None else card.total // _MIB,
                "free_mb": None if card.free is None else card.free // _MIB // _STEP * _STEP,
                "capability": card.capability,
            }
            for card in cards
        ],
    }


def _mib(value: int | None) -> float | None:
    return None if value is None else round(value / _MIB, 1)
