"""The local Consul agent's list of services, in memory, with failures on demand.

It never expires a TTL, asks no service and carries nothing to a catalog: the test plays Consul.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from lictor.core.errors import ConsulError, NotFound
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import because
from lictor.core.model.registration import (
    Deregister,
    Register,
    RegistryView,
    SeenCheck,
    SeenService,
    SetStatus,
    Write,
)
from lictor.core.model.state import Health
from lictor.core.planning.groups import GROUP_META
from lictor.core.planning.registration import after


class FakeRegistry:
    """A Consul agent's list of services in memory.

    It keeps what matters of the real one: registering keeps the status of checks that exist,
    deregistering takes the checks along, a status needs its check, repeating changes nothing.
    """

    def __init__(self) -> None:
        self.view = RegistryView()
        self.writes: list[Write] = []
        self.reads = 0
        self.token = ""
        self.ghosts: dict[str, SeenService] = {}
        self.lost_by_catalog: set[str] = set()
        self.refuse: Callable[[Write], ConsulError | None] = lambda _: None
        self._failure: ConsulError | None = None
        self._bell = asyncio.Event()

    def fail(self, error: ConsulError | None) -> None:
        """From now on everything raises `error` (None: works again)."""
        self._failure = error
        self._ring()

    def put_service(self, service: SeenService) -> None:
        """An entry that somebody else registered."""
        services = {**self.view.services, service.service_id: service}
        self.view = RegistryView(services, self.view.checks)

    def lose_in_catalog(self, service_id: str) -> None:
        """Somebody deregistered it in the catalog; the agent does not notice."""
        self.lost_by_catalog.add(service_id)
        self._ring()

    def put_ghost(self, service: SeenService) -> None:
        """An entry that the catalog keeps although the agent has dropped it."""
        self.ghosts[service.service_id] = service
        self._ring()

    def put_check(self, check_id: str, status: str, output: str = "", service_id: str = "") -> None:
        """Consul's own verdict on a check, or a check that somebody else made."""
        known = self.view.checks.get(check_id)
        of = service_id or (known.service_id if known else "")
        checks = {**self.view.checks, check_id: SeenCheck(check_id, of, status, output)}
        self.view = RegistryView(self.view.services, checks)
        self._ring()

    def status(self, check_id: str) -> str | None:
        """The status of a check; None if there is no such check."""
        known = self.view.checks.get(check_id)
        return None if known is None else known.status

    async def read(self) -> RegistryView:
        """Everything, ours and foreign."""
        self.reads += 1
        await self.ready()
        return self.view

    async def in_catalog(self) -> Mapping[str, SeenService]:
        """What the agent holds, but for `lost_by_catalog`; and the `ghosts`."""
        await self.ready()
        there = {k: v for k, v in self.view.services.items() if k not in self.lost_by_catalog}
        return {**there, **self.ghosts}

    def credential(self) -> str:
        """The `token`."""
        return self.token

    async def ready(self) -> None:
        """Raise the failure, if one was told."""
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure

    async def apply(self, write: Write) -> None:
        """Do one write and record it."""
        await self.ready()
        error = self.refuse(write)
        if error is not None:
            raise error
        if isinstance(write, SetStatus):
            if write.check_id not in self.view.checks:
                raise NotFound(f"Unknown check {write.check_id}.")
            if write.status is Health.MAINTENANCE:  # no status of a check in Consul
                write = SetStatus(write.check_id, Health.CRITICAL, write.output)
        self.writes.append(write)
        self.view = after(self.view, write)
        if isinstance(write, Register):  # the agent pushes it to the catalog, known or not
            self.lost_by_catalog.discard(write.registration.service_id)
        elif isinstance(write, Deregister):
            self.ghosts.pop(write.service_id, None)
        self._ring()

    async def watch_health(
        self,
    ) -> AsyncGenerator[Known[Mapping[str, tuple[str, str]]] | Unknown, None]:
        """Status and output of every check, on each change; `Unknown` while it fails."""
        last: Known[Mapping[str, tuple[str, str]]] | Unknown | None = None
        while True:
            bell = self._bell
            seen = self._verdicts()
            if seen != last:
                last = seen
                yield seen
                continue  # something may have changed while the caller worked on it
            await bell.wait()

    def _verdicts(self) -> Known[Mapping[str, tuple[str, str]]] | Unknown:
        if self._failure is not None:
            return Unknown(because(self._failure.code))
        listed = {
            name: (c.status, c.output)
            for name, c in self.view.checks.items()
            if c.service_id not in self.lost_by_catalog
        }
        kept = {
            f"{name}:{'alias' if GROUP_META in ghost.meta else 'lictor'}": ("passing", "")
            for name, ghost in self.ghosts.items()
        }
        return Known({**listed, **kept})

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()
