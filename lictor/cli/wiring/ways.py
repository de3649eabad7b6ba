"""The ways to run services that this program has: every driver, made and joined in one place.

The agent is given them by the word in config.yml. Making them costs nothing: the Docker engine is
not spoken to, and its library not loaded, before a service asks for it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lictor.core.drivers.auto import AutoDriver
from lictor.core.drivers.docker.driver import DockerDriver
from lictor.core.drivers.docker.judging import why_no_gpus
from lictor.core.drivers.observed import ObservedDriver
from lictor.core.drivers.process import ProcessDriver
from lictor.core.ports import Driver
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.engine_watch import EngineWatch


class Ways:
    """The drivers of one agent, made in its loop."""

    def __init__(self, logs: Path, agent_id: str, *, node: str) -> None:
        self.process = ProcessDriver(logs, agent_id, node=node)
        self.docker = DockerDriver(logs, agent_id, node=node)
        self.auto = AutoDriver(self.process, self.docker, partial(why_no_gpus, self.docker.facts))

    def all(self) -> dict[str, Driver]:
        """Each by its word."""
        made = (self.process, ObservedDriver(), self.docker, self.auto)
        return {driver.kind: driver for driver in made}

    def begin(self, agent: Agent) -> None:
        """The first services are starting: what takes its time may begin.

        From now on the agent hears of engines and of choices.
        """
        self.docker.listen(EngineWatch(agent))
        self.auto.tell(lambda key, choice: agent.record("driver", str(key), choice))
        self.docker.begin(wanted=any(spec.docker for spec in agent.config.services.values()))

    def close(self) -> None:
        """Let go of everything; services outlive their agent."""
        self.process.close()
        self.docker.close()
