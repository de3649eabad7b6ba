"""The driver `auto`: a container where the Docker engine gives out GPUs, else a plain process.

One config serves a host with a GPU server's engine and a laptop without one. It is decided at the
first start of each service and kept while this agent lives, so that a restart does not land
somewhere else because an engine was slow; what runs already is taken over by whoever started it.
Nothing is decided by the presence of a file: the engine itself is asked, within seconds. To decide
oneself, one writes `driver: docker` or `driver: process`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import DriverKind, ServiceSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports import Driver, Running
from lictor.core.ports_prepare import Preparing

_PATIENCE = 8.0  # seconds that an engine has to say whether it can

#: Asks whether containers can have GPUs: None if so, else why not.
WhyNot = Callable[[], Awaitable[Reason | None]]


class Chosen(Protocol):
    """Who hears of a choice."""

    def __call__(self, key: ServiceKey, choice: Reason) -> None:
        """`choice` says which it is and why."""
        ...


class AutoDriver:
    """Hands each service to one of two drivers. Raises what they raise."""

    def __init__(
        self, process: Driver, docker: Driver, why_not: WhyNot, chosen: Chosen | None = None
    ) -> None:
        self._process = process
        self._docker = docker
        self._why_not = why_not
        self._chosen = chosen
        self._choices: dict[ServiceKey, tuple[Driver, Reason]] = {}
        self._asking = asyncio.Lock()

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        return "auto"

    def tell(self, chosen: Chosen) -> None:
        """From now on this one hears of choices."""
        self._chosen = chosen

    async def start(self, spec: ServiceSpec) -> Running:
        """Decide, if that was not done before, and start it there."""
        return await (await self._choose(spec)).start(spec)

    async def prepare(self, spec: ServiceSpec) -> None:
        """Prepare a start where the service runs, if there is anything to prepare there."""
        driver = await self._choose(spec)
        if isinstance(driver, Preparing):
            await driver.prepare(spec)

    async def forgo(self, key: ServiceKey) -> None:
        """Let it remove what was prepared."""
        made = self._choices.get(key)
        if made is not None and isinstance(made[0], Preparing):
            await made[0].forgo(key)

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:
        """Run one `before` job where the service will run."""
        return await (await self._choose(spec)).run_job(spec, argv)

    def recover(
        self, spec: ServiceSpec, identity: Identity | None, *, after: float = 0.0
    ) -> Running | None:
        """Take over what runs, wherever it does."""
        if identity is not None and identity.container_id is not None:
            return self._docker.recover(spec, identity, after=after)
        found = self._process.recover(spec, identity, after=after)
        return found if found is not None else self._docker.recover(spec, identity, after=after)

    def sweep(self, spec: ServiceSpec) -> asyncio.Task[None] | None:
        """Begin to end what is left of it, on either side."""
        tasks = [task for one in (self._process, self._docker) if (task := one.sweep(spec))]
        return asyncio.get_running_loop().create_task(_all(tasks)) if tasks else None

    def notes(self, spec: ServiceSpec) -> tuple[Reason, ...]:
        """Which it is and why, and what that driver says."""
        made = self._choices.get(spec.key)
        return (made[1], *made[0].notes(spec)) if made is not None else ()

    def log_path(self, spec: ServiceSpec) -> Path | None:
        """The same file in either case."""
        return self._process.log_path(spec)

    async def _choose(self, spec: ServiceSpec) -> Driver:
        async with self._asking:
            if spec.key not in self._choices:
                self._choices[spec.key] = await self._decided()
                if self._chosen is not None:
                    self._chosen(spec.key, self._choices[spec.key][1])
        return self._choices[spec.key][0]

    async def _decided(self) -> tuple[Driver, Reason]:
        try:
            async with asyncio.timeout(_PATIENCE):
                why_not = await self._why_not()
        except TimeoutError:
            why_not = because("driver.auto_no_answer")
        if why_not is None:
            return self._docker, because("driver.auto_docker")
        return self._process, why_not


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        await task
