"""Watches the counters of services that have `health.stalled`, and tells their runners what they mean.

The health URL is not enough for a model server: it may answer while nothing comes out, and be silent
while it works for others. Each is looked at a few times within the time it is given. What follows is
the plan's business; here a service is only called unhealthy, or at work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Phase
from lictor.core.planning.progress import Progress, after, stands_still
from lictor.core.probes.figures import metrics_path, work
from lictor.core.runtime.supervision.careful import CarefulRunner

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_LOOKS = 5  # within the time that a service may stand still
_OFTEN, _SELDOM = 0.5, 10.0  # seconds between two looks, at the least and at the most


class ProgressWatch:
    """One watch for all services. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._seen: dict[ServiceKey, tuple[int, Progress | None]] = {}

    async def attend(self) -> None:
        """Look at whoever is due, for ever."""
        while True:
            watched = self._watched()
            self._seen = {
                runner.key: self._seen[runner.key] for runner in watched if self._knows(runner)
            }
            pauses = [runner.spec.health.stalled or _SELDOM for runner in watched]
            await asyncio.gather(*(self._look(runner) for runner in watched))
            await asyncio.sleep(min(_SELDOM, max(_OFTEN, min(pauses, default=_SELDOM) / _LOOKS)))

    def _watched(self) -> list[CarefulRunner]:
        return [
            runner
            for runner in self._agent.reconciler.runners.values()
            if isinstance(runner, CarefulRunner)
            and runner.spec.health.stalled is not None
            and metrics_path(runner.spec) is not None
            and runner.state.phase in {Phase.READY, Phase.UNHEALTHY}
        ]

    def _knows(self, runner: CarefulRunner) -> bool:
        """Whether what was seen is of the present run."""
        return runner.key in self._seen and self._seen[runner.key][0] == _run_of(runner)

    async def _look(self, runner: CarefulRunner) -> None:
        run, limit = _run_of(runner), runner.spec.health.stalled
        seen = await work(runner.spec)
        if limit is None or run != _run_of(runner):
            return  # another run by now: what was read is of nobody
        now = self._agent.tools.clock.now()
        progress = after(self._seen.get(runner.key, (run, None))[1], seen, now=now)
        self._seen[runner.key] = (run, progress)
        runner.work_seen(moving=progress is not None and progress.moving)
        still = stands_still(progress, limit, now=now)
        if still is not None and progress is not None:
            runner.stalled(
                f"nothing done for {still:.0f} s, {progress.in_flight:.0f} requests wait"
            )


def _run_of(runner: CarefulRunner) -> int:
    identity = runner.state.identity
    return (
        0 if identity is None else hash((identity.pid, identity.start_time, identity.container_id))
    )
