"""Weighs the services that may be recycled for their memory, now and then.

One look at the process table every ten seconds, and none at all while no running service has
`recycle.rss`. What was seen goes to the reconciler, whose plan decides; age needs no looking, every
plan knows it. What this never does: restart anything itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Phase
from lictor.core.ports import Usage
from lictor.core.runtime.supervision.reconciler import Reconciler

#: Seconds between two looks: memory that leaks does so over hours.
INTERVAL = 10.0


class Recycler:
    """`sample` says what each running service uses (see `Agent.usage`)."""

    def __init__(
        self, reconciler: Reconciler, sample: Callable[[], Mapping[ServiceKey, Usage]]
    ) -> None:
        self._reconciler = reconciler
        self._sample = sample

    async def watch(self) -> None:
        """Look every ten seconds, for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Weigh once, and ask for a plan of those that are too heavy."""
        runners = self._reconciler.runners
        limits = {
            key: runner.spec.recycle.rss
            for key, runner in runners.items()
            if runner.spec.recycle.rss is not None
            and runner.state.phase in {Phase.READY, Phase.UNHEALTHY}
        }
        if not limits:
            self._reconciler.weighed({})
            return
        usage = self._sample()
        weights = {}
        for key in limits:
            identity, seen = runners[key].state.identity, usage.get(key)
            if identity is not None and seen is not None and seen.memory_bytes is not None:
                weights[key] = (identity, seen.memory_bytes)
        self._reconciler.weighed(weights)
        self._reconciler.wake(*(key for key, (_, used) in weights.items() if used > limits[key]))
