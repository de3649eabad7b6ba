"""What every runner shares with its agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import ServiceState
from lictor.core.ports import Clock, Prober

if TYPE_CHECKING:
    from lictor.core.runtime.supervision.runner import Runner


def _as_it_is(spec: ServiceSpec) -> ServiceSpec:
    return spec


async def _at_once(_key: ServiceKey) -> None:
    """Nobody was told where the service is, so nobody has to be told that it goes."""


def _binds_here(spec: ServiceSpec) -> bool:
    """Whether its own program will bind the port on this host, or nothing will."""
    if spec.driver == "docker":  # (a published port is bound by the engine, which says so itself)
        return spec.docker is not None and spec.docker.network == "host"
    return spec.driver in {"process", "auto"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every runner shares.

    `changed(runner, before)` is called after each change of state; `wake(key)` asks for a new plan;
    `consul_watches(key)` says whether Consul's own check is known for this service at present, in
    which case the runner does not probe as well; `dressed(spec)` is the definition with what the
    next run alone is to have; `leave(key)` returns when nobody is sent to this service any more, and
    in bounded time whatever Consul does.
    """

    clock: Clock
    prober: Prober
    changed: Callable[[Runner, ServiceState], None]
    wake: Callable[[ServiceKey], None]
    consul_watches: Callable[[ServiceKey], bool]
    port_holder: Callable[[str, int], tuple[int, str] | None]
    jitter: Callable[[], float]
    dressed: Callable[[ServiceSpec], ServiceSpec] = _as_it_is
    leave: Callable[[ServiceKey], Awaitable[None]] = _at_once

    def refuse_taken_port(self, spec: ServiceSpec) -> None:
        """Raise `StartFailed` if somebody else holds the port of a service that we start."""
        if spec.port is None or not _binds_here(spec):
            return
        holder = self.port_holder(spec.host, spec.port)
        if holder is not None:
            pid, program = holder
            raise StartFailed(
                f"port {spec.port} is taken by {program} (pid {pid})",
                reason_code="start.port_taken",
                params={"port": spec.port, "pid": pid, "program": program},
            )
