"""Waiting for services without hanging: done, hopeless and too long are three different ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lictor.core.errors import TimedOut
from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning.reconcile import ordered_again
from lictor.core.runtime import views
from lictor.core.runtime.control import Emit
from lictor.core.runtime.logs.reading import last_lines
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_HOPELESS = frozenset({"dependency.failed", "dependency.stopped"})
_ON_ITS_WAY = frozenset({"dependency.waiting", "dependency.retrying"})
_ROUNDED = 0.001  # seconds: orders are written to the millisecond
_SHOW_EVERY = 0.5  # seconds between two progress lines of one service


@dataclass(frozen=True, slots=True)
class Goal:
    """`phase` is what is waited for; after an `order`, one failed start already is the answer.

    `restart` is when (Unix seconds) the order asked for a restart, if it did.
    """

    phase: Phase
    order: bool
    restart: float | None = None


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
        outcomes = {key: outcome_of(agent, key, goal) for key in keys}
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
            slow = because(
                "wait.not_stopped" if goal.phase is Phase.STOPPED else "wait.not_ready",
                limit=f"{limit:g}",
                services=names,
            )
            raise worded(TimedOut, slow, hint=because("next.status"))
        rest = _SHOW_EVERY if limit is None else min(_SHOW_EVERY, max(0.01, limit - elapsed))
        await agent.bell.wait(rest)


def in_force(want: DesiredService, goal: Goal) -> bool:
    """Whether an order is what is wanted by now (it may come back from Consul a moment later)."""
    if goal.phase is Phase.STOPPED:
        return want.state is DesiredState.STOPPED
    if want.state is DesiredState.STOPPED:
        return False
    return goal.restart is None or (want.restart_wall or 0.0) >= goal.restart - _ROUNDED


def outcome_of(agent: Agent, key: ServiceKey, goal: Goal) -> str:
    """`done`, `failed` when waiting is hopeless, or "" when it may still come."""
    runner = agent.reconciler.runners.get(key)
    want = agent.reconciler.desired.get(key)
    if runner is None or want is None:
        if goal.phase is not Phase.STOPPED:
            return "failed"
        return "" if runner is not None and _may_run(runner.state) else "done"
    if goal.order and not in_force(want, goal):
        # Refused documents never come into force; one that was overruled is somebody else's word.
        return "failed" if want.refused is not None else ""
    if goal.phase is Phase.STOPPED:
        return _towards_stopped(want, runner.state, goal)
    return _towards_ready(agent, key, want, goal)


def _towards_stopped(want: DesiredService, state: ServiceState, goal: Goal) -> str:
    if want.state is DesiredState.STOPPED or goal.order:
        return "" if _may_run(state) else "done"
    if state.phase is Phase.STOPPED and state.done:
        return "done"  # it ended by itself, as its policy allows
    # A program that runs to its end may do so any time; one that is always restarted never will.
    ends = want.state is DesiredState.RUNNING and want.spec.restart.policy != "always"
    return "" if ends and state.phase is not Phase.FAILED else "failed"


def _may_run(state: ServiceState) -> bool:
    return state.phase.running or state.phase is Phase.UNKNOWN


def _towards_ready(agent: Agent, key: ServiceKey, want: DesiredService, goal: Goal) -> str:
    state = agent.reconciler.runners[key].state
    phase = state.phase
    acted = not ordered_again(want, state)
    if phase is Phase.READY and acted:
        return "done"
    if phase in {Phase.FAILED, Phase.BLOCKED} and acted:
        return "failed"
    if want.state is DesiredState.STOPPED or want.blocked is not None:
        return "failed"
    if want.state is DesiredState.MAINTENANCE and not phase.running:
        return "failed"  # nobody starts it while hands are off
    if phase is Phase.QUEUED and _never_comes(agent, key):
        return "failed"
    if state.done and acted:
        return "done"
    return "failed" if goal.order and acted and phase is Phase.BACKOFF else ""


def _never_comes(agent: Agent, key: ServiceKey) -> bool:
    """Whether what a queued service waits for can never be ready, however far down that is."""
    seen: set[ServiceKey] = set()
    while key not in seen:
        seen.add(key)
        runner = agent.reconciler.runners.get(key)
        if runner is None or runner.state.phase is not Phase.QUEUED:
            return False
        reason = runner.state.reason
        if reason.code in _HOPELESS:
            return True
        if reason.code not in _ON_ITS_WAY:
            return False
        key = ServiceKey.parse(str(reason.params.get("dependency")))
    return False


def ended_for_good(key: ServiceKey) -> dict[str, Any]:
    """The row of a service that was taken out of the config and has ended."""
    why = because("config.removed")
    return {
        "service": str(key),
        "phase": Phase.STOPPED.value,
        **views.told(why),
        "reasons": [{"code": why.code, "params": {}}],
    }


def _phase(agent: Agent, key: ServiceKey) -> str:
    runner = agent.reconciler.runners.get(key)
    return runner.state.phase.value if runner is not None else "gone"


def _item(agent: Agent, key: ServiceKey, elapsed: float) -> dict[str, Any]:
    runner = agent.reconciler.runners.get(key)
    if runner is None:
        return {**ended_for_good(key), "elapsed": round(elapsed, 1), "log": ""}
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
