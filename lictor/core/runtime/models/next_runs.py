"""What drivers make for a service's next run while the present one goes on (`ports_prepare`).

Each is made from the definition as that run will have it, and is let go of when nobody is to start it
any more: what a start took is not there then, and nothing is done. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.model.spec import ParamValue
from lictor.core.ports_prepare import Preparing
from lictor.core.runtime import views

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

log = logging.getLogger(__name__)

_AT_END = 5.0  # seconds that an agent which ends waits for an engine


class NextRuns:
    """The prepared runs of one agent. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._made_by: dict[ServiceKey, Preparing] = {}
        self._going: set[asyncio.Task[None]] = set()

    def can(self, key: ServiceKey) -> bool:
        """Whether the service's driver has such a step."""
        return isinstance(self._agent.reconciler.runners[key].driver, Preparing)

    async def prepare(self, key: ServiceKey, values: Mapping[str, ParamValue]) -> str:
        """Prepare a run with these parameters; what is in its way, in words, or nothing."""
        runner = self._agent.reconciler.runners[key]
        driver = runner.driver
        if not isinstance(driver, Preparing):
            return ""
        try:
            await driver.prepare(self._agent.dressed(runner.spec.with_params(values)))
        except StartFailed as error:
            params = {name: str(value) for name, value in error.params.items()}
            return views.say(Reason(error.reason_code, params))
        finally:  # (not before: who forgoes it meanwhile is too early)
            self._made_by[key] = driver
        return ""

    def forgo(self, key: ServiceKey) -> None:
        """Begin to remove what was prepared for a service and was not started."""
        driver = self._made_by.pop(key, None)
        if driver is not None:
            task = asyncio.create_task(self._forgo(key, driver))
            self._going.add(task)
            task.add_done_callback(self._going.discard)

    async def end(self) -> None:
        """Remove all of it, in bounded time: the next agent prepares anew what it still wants."""
        for key in list(self._made_by):
            self.forgo(key)
        if self._going:
            await asyncio.wait(self._going, timeout=_AT_END)

    async def _forgo(self, key: ServiceKey, driver: Preparing) -> None:
        try:
            await driver.forgo(key)
        except Exception:
            log.exception("what was prepared for %s is left", key, extra={"service": str(key)})
