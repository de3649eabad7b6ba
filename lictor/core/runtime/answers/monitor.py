"""What the host does, for those who watch: measured when asked, at most every second, by a thread.

It joins what the machine says with what the agent knows: which of the busy processes belong to
which service. With nobody asking, nothing is measured.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Any

from lictor.core.model.reason import Reason
from lictor.core.ports_engine import EngineView
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.services_view import moment
from lictor.core.runtime.control import Emit
from lictor.core.runtime.gpu import view as gpu_view

if TYPE_CHECKING:
    from lictor.core.probes.machine import Look, Machine

_FRESH = 1.0  # seconds that one look serves all who ask
_FIRST = 0.3  # seconds between the two looks that make the first rates
_LONG_AGO = 30.0  # seconds after which rates would be about something long past


class Monitor:
    """The operation `monitor`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._machine: Machine | None = None
        self._lock = asyncio.Lock()
        self._at = 0.0
        self._found: dict[str, Any] = {}
        self.ops = {"monitor": self._monitor}

    async def _monitor(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        async with self._lock:  # those who ask meanwhile get the same answer
            if not self._found or time.monotonic() - self._at > _FRESH:
                look = await self._look(again=time.monotonic() - self._at > _LONG_AGO)
                await self._add_gpus(look)
                self._found = self._joined(look)
                self._at = time.monotonic()
        return self._found

    async def _look(self, *, again: bool) -> Look:
        if self._machine is None:
            module = await asyncio.to_thread(importlib.import_module, "lictor.core.probes.machine")
            self._machine = module.Machine()
        machine: Machine = self._machine
        look = await asyncio.to_thread(machine.look)
        if again:
            await asyncio.sleep(_FIRST)
            look = await asyncio.to_thread(machine.look)
        await self._containers(look)
        return look

    async def _add_gpus(self, look: Look) -> None:
        why = gpu_view.why_none(await self._agent.gpus.look(max_age=_FRESH))
        if why is None:
            look.values["gpu"] = gpu_view.rows(self._agent)
        else:
            look.values["gpu"] = None
            look.missing("gpu", why)

    async def _containers(self, look: Look) -> None:
        """What an engine runs, where the agent speaks with one."""
        driver: object = self._agent.tools.drivers.get("docker")
        if "docker" not in look.unknown or not isinstance(driver, EngineView):
            return
        found = await driver.containers()
        if not isinstance(found, Reason):
            look.values["docker"] = [dict(one) for one in found]
            del look.unknown["docker"]
        elif found.code != "monitor.docker_unread":
            look.missing("docker", found)

    def _joined(self, look: Look) -> dict[str, Any]:
        mains = {
            runner.state.identity.pid: str(key)
            for key, runner in self._agent.reconciler.runners.items()
            if runner.state.identity is not None
        }
        processes = look.values.get("processes")
        for row in processes or ():
            row["service"] = mains.get(row["pid"])
        return {
            "at": moment(self._agent.tools.clock.wall()),
            "node": self._agent.node,
            **look.values,
            "unknown": {
                name: {
                    "code": why.code,
                    "params": dict(why.params),
                    "sentence": views.say(why),
                }
                for name, why in look.unknown.items()
            },
        }
