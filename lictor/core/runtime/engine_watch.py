"""Who listens to the Docker engine for the agent: doubt, progress, and runs that nobody holds.

It hands each word to the runners it concerns, and nothing more: what follows from it they and the
plan decide.
"""

from __future__ import annotations

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.supervision.careful import CarefulRunner


class EngineWatch:
    """The `EngineEars` of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def doubt(self, trouble: Reason | None) -> None:
        """Every service in a container is unknown from now on, or known again."""
        for runner in self._careful():
            runner.doubt(trouble)
        self._agent.bell.ring()

    def told(self, key: ServiceKey, progress: Reason) -> None:
        """A start goes on."""
        runner = self._agent.reconciler.runners.get(key)
        if isinstance(runner, CarefulRunner):
            runner.told(progress)

    def found(self, key: ServiceKey) -> bool:
        """Let its service take over a run that nothing was written down about."""
        runner = self._agent.reconciler.runners.get(key)
        if runner is None or runner.driver.kind not in {"docker", "auto"}:
            return False
        if not runner.state.phase.running:
            runner.adopt_stray()
            self._agent.reconciler.wake(key)
        return True

    def _careful(self) -> list[CarefulRunner]:
        runners = self._agent.reconciler.runners.values()
        return [runner for runner in runners if isinstance(runner, CarefulRunner)]
