"""The observed driver: services that somebody else runs.

A database that systemd supervises, a program on another machine: Lictor registers and checks it,
and health decides what people see. This driver never starts, stops or signals anything, and needs
no right to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from lictor.core.drivers.tree import boot_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import DriverKind, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports import StopReport


class ObservedRunning:
    """A service without a process of ours: it "ends" only when we stop looking at it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._over = asyncio.Event()

    @property
    def identity(self) -> Identity:
        """Pid 0: there is no process."""
        return self._identity

    @property
    def containment(self) -> str:
        """Nothing: there are no processes of ours."""
        return ""

    @property
    def over(self) -> bool:
        """Whether we stopped looking."""
        return self._over.is_set()

    async def wait(self) -> Exit:
        """Wait for `stop`; the service's own end is seen by its health check, not here."""
        await self._over.wait()
        return Exit()

    async def stop(self, how: StopSpec) -> StopReport:  # noqa: ARG002 - there is nothing to signal
        """Stop looking. Returns at once; the service itself is untouched."""
        self._over.set()
        return StopReport(Exit())


class ObservedDriver:
    """Driver kind `observed`; see the module."""

    def __init__(self, boot: str | None = None) -> None:
        self._boot = boot_id() if boot is None else boot

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        return "observed"

    async def start(self, spec: ServiceSpec) -> ObservedRunning:  # noqa: ARG002 - nothing is started
        """Begin to look at the service."""
        return ObservedRunning(Identity(0, 0, self._boot))

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:  # noqa: ARG002
        """Jobs belong to whoever runs the service: nothing is done, and that is well."""
        return Exit(code=0)

    def recover(
        self,
        spec: ServiceSpec,  # noqa: ARG002
        identity: Identity | None,
        *,
        after: float = 0.0,  # noqa: ARG002
    ) -> ObservedRunning | None:
        """Go on looking at what an earlier agent of this boot looked at."""
        if identity is None or identity.pid != 0 or identity.boot_id != self._boot:
            return None
        return ObservedRunning(identity)

    def sweep(self, spec: ServiceSpec) -> None:
        """Nothing is ours to end."""

    def notes(self, spec: ServiceSpec) -> tuple[Reason, ...]:
        """Whoever runs the service limits it: all of our limits are without effect."""
        names = ", ".join(spec.limits.given())
        return (because("limits.no_effect", limits=names),) if names else ()

    def log_path(self, spec: ServiceSpec) -> Path | None:  # noqa: ARG002
        """There is no log of ours."""
        return None
