"""What would happen, and what has been: the preview of an order, and the last quarter of an hour.

Both are for people who look before they act. The preview asks the same questions as the order
(what is held, who would be hurt, what is Lictor's own) and plans with the same function; it changes
nothing. The figures are a ring of a few numbers for each service, in memory only: Lictor is no
time-series database, and Prometheus is asked for anything longer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from lictor.core import worded
from lictor.core.errors import NoSuchService, Refused
from lictor.core.model.desired import Desired
from lictor.core.model.names import ServiceKey
from lictor.core.planning.foresee import foresee, ordered
from lictor.core.planning.reconcile import order_wall
from lictor.core.runtime import views
from lictor.core.runtime.answers.meant import services_meant, services_to_order
from lictor.core.runtime.desired.order_words import verb_of
from lictor.core.runtime.orders.refusals import (
    held_against,
    hurt_by,
    refuse_infrastructure,
    told,
)

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent
    from lictor.core.runtime.control import Emit

EVERY = 30.0  # seconds between two samples
KEPT = 30  # samples: fifteen minutes
_MIB = 1024 * 1024


class Foresight:
    """The operations `preview` and `history`; `watch` fills the latter."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._cpu: dict[ServiceKey, deque[float | None]] = {}
        self._memory: dict[ServiceKey, deque[float | None]] = {}
        self.ops = {"preview": self._preview, "history": self._history}

    async def watch(self) -> None:
        """Sample every thirty seconds, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            self.sample()

    def sample(self) -> None:
        """One more figure for each service; a service that does not run uses nothing."""
        usage, runners = self._agent.usage(), self._agent.reconciler.runners
        for gone in self._cpu.keys() - runners.keys():
            del self._cpu[gone], self._memory[gone]
        for key, runner in runners.items():
            cpu, memory = views.drawn(runner.state, usage.get(key))
            for rings, value in ((self._cpu, cpu), (self._memory, memory)):
                rings.setdefault(key, deque(maxlen=KEPT)).append(value)

    async def _history(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """`{"every_s", "services": {name: {"cpu_percent": [...], "memory_mb": [...]}}}`."""
        services = {
            str(key): {"cpu_percent": list(ring), "memory_mb": list(self._memory[key])}
            for key, ring in self._cpu.items()
        }
        return {"every_s": EVERY, "services": services}

    async def _preview(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        """What `verb` would lead to for `names` (none: all).

        `steps` in order; `hurts`: running services that need one that would stop; `held`: those that
        would be left alone; `refused`: why it would not be done at all.
        """
        verb, names = verb_of(args), list(args.get("names") or [])
        agent = self._agent
        await agent.gpus.refreshed()
        keys, refused = services_meant(agent, names), None
        try:
            keys = services_to_order(agent, names, verb)
            if names:
                refuse_infrastructure(agent, keys)
        except (NoSuchService, Refused) as error:
            refused = {
                "code": error.code,
                "params": {},
                "sentence": error.message,
                "reasons": worded.record(error)["reasons"],
            }
        holds = {key: held_against(agent, key, verb) for key in keys}
        moved = [key for key in keys if holds[key] is None]
        hurts = hurt_by(agent, moved) if names and verb != "start" else []
        return {
            "verb": verb,
            "steps": [] if refused else self._steps(moved, verb, who),
            "hurts": [str(key) for key in hurts],
            "held": [
                {
                    "service": str(key),
                    "reasons": [
                        {"code": why.code, "params": dict(why.params)} for why in told(hold)
                    ],
                }
                for key, hold in holds.items()
                if hold is not None
            ],
            "refused": refused,
        }

    def _steps(self, keys: list[ServiceKey], verb: str, who: str) -> list[dict[str, Any]]:
        agent = self._agent
        desired = agent.reconciler.desired
        wall = order_wall(keys, desired, agent.reconciler.actual(), agent.tools.clock.wall())
        after = ordered(desired, keys, verb, by=who, wall=wall)
        return consequences(agent, after, keys, wall=wall, pressed=() if verb == "stop" else keys)


def consequences(
    agent: Agent,
    after: Desired,
    moved: Collection[ServiceKey],
    *,
    wall: float,
    pressed: Collection[ServiceKey] = (),
) -> list[dict[str, Any]]:
    """A row for each step that follows if `after` is what is desired of `moved`, in order.

    `pressed` would be ordered to start: others may be stopped for them. `wall` is Unix seconds. Ask
    `gpus.refreshed` before: what is known of the cards must be young enough to plan with.
    """
    reconciler, now = agent.reconciler, agent.tools.clock.now()
    actual, board = reconciler.actual(), agent.gpus.board()
    # What is under way anyway is no consequence of this.
    anyway = {
        (step.verb, step.service)
        for step in foresee(reconciler.desired, actual, now, wall=wall, board=board)
        if step.service not in moved
    }
    told_so = board.as_ordered(pressed) if board is not None else None
    return [
        views.step(step)
        for step in foresee(after, actual, now, wall=wall, board=told_so)
        if (step.verb, step.service) not in anyway
    ]
