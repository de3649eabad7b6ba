"""Waiting for services without hanging: done, hopeless and too long are three different ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lictor.core.errors import TimedOut
from lictor.core.model.desired import DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Phase
from lictor.core.planning.reconcile import ordered_again
from lictor.core.runtime.control import Emit
from lictor.core.runtime.logs import last_lines

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_HOPELESS = frozenset({"dependency.failed", "dependency.stopped"})
_SHOW_EVERY = 0.5  # seconds between two progress lines of one service


@dataclass(frozen=True, slots=True)
class Goal:
    """`phase` is what is waited for; after an `order`, one failed start already is the answer."""

    phase: Phase
    order: bool


async def wait_for(
    agent: Agent, keys: list[ServiceKey], goal: Goal, *, limit: float | None, emit: Emit
) -> list[dict[str, Any]]:
    """Wait until each service has reached the goal or cannot any more.

    Raises `TimedOut` after `limit` seconds (None: as long as it takes), naming who is missing.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    shown: dict[ServiceKey, tuple[str, int]] = {}
    while True:
        outcomes = {key: _outcome(agent, key, goal) for key in keys}
        elapsed = loop.time() - begun
        for key in keys:
            stamp = (_phase(agent, key), int(elapsed / _SHOW_EVERY))
            if shown.get(key) != stamp:
                shown[key] = stamp
                await emit(_item(agent, key, elapsed))
        missing = [key for key, outcome in outcomes.items() if not outcome]
        if not missing:
            return [{**_item(agent, key, elapsed), "outcome": outcomes[key]} for key in keys]
        if limit is not None and elapsed >= limit:
            names = ", ".join(f"{key} ({_phase(agent, key)})" for key in missing)
            raise TimedOut(
                f"After {limit:g} s still not {goal.phase.value}: {names}.",
                hint="`lictor status` says why.",
            )
        rest = _SHOW_EVERY if limit is None else min(_SHOW_EVERY, max(0.01, limit - elapsed))
        await agent.bell.wait(rest)


def _outcome(agent: Agent, key: ServiceKey, goal: Goal) -> str:
    """`done`, `failed` when waiting is hopeless, or "" when it may still come."""
    runner = agent.reconciler.runners.get(key)
    want = agent.reconciler.desired.get(key)
    if runner is None or want is None:
        return "done" if goal.phase is Phase.STOPPED else "failed"
    phase = runner.state.phase
    if goal.phase is Phase.STOPPED:
        if want.state is DesiredState.STOPPED:
            return "" if phase.running else "done"
        return "failed" if not goal.order else ""
    acted = not ordered_again(want, runner.state)
    if phase is Phase.READY and acted:
        return "done"
    if phase in {Phase.FAILED, Phase.BLOCKED} and acted:
        return "failed"
    if want.state is DesiredState.STOPPED:
        return "failed"
    if phase is Phase.QUEUED and runner.state.reason.code in _HOPELESS:
        return "failed"
    if runner.state.done and acted:
        return "done"
    return "failed" if goal.order and acted and phase is Phase.BACKOFF else ""


def _phase(agent: Agent, key: ServiceKey) -> str:
    runner = agent.reconciler.runners.get(key)
    return runner.state.phase.value if runner is not None else "gone"


def _item(agent: Agent, key: ServiceKey, elapsed: float) -> dict[str, Any]:
    runner = agent.reconciler.runners.get(key)
    if runner is None:
        return {"service": str(key), "phase": "stopped", "elapsed": round(elapsed, 1)}
    record = agent.view(key, {})
    path = runner.log_path()
    lines = last_lines(path, 1) if path is not None and runner.state.phase.running else []
    return {
        "service": str(key),
        "phase": record["phase"],
        "sentence": record["sentence"],
        "reason": record["reason"],
        "reason_params": record["reason_params"],
        "reasons": record["reasons"],
        "elapsed": round(elapsed, 1),
        "log": lines[-1] if lines else "",
    }
