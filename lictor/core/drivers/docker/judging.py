"""Small judgements of the docker driver: what a container is to us, and how a refusal is told.

Apart from the driver so that it can be read at one sitting. `on_this_host` looks at the process
table, `why_no_gpus` at what it is given; the rest looks at values only.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from lictor.core.drivers.docker.request import Request
from lictor.core.drivers.docker.terms import (
    FINGERPRINT,
    EngineAway,
    EngineFacts,
    EngineRefused,
    Inspected,
    Seen,
)
from lictor.core.drivers.tree import read_proc
from lictor.core.errors import StartFailed
from lictor.core.model.container import published
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec


def on_this_host(container: str, pid: int) -> tuple[int, int]:
    """Pid and start time of the main process, if this host's process table shows it; else zeros.

    An engine may be on another machine or outside our own container: then the number means nothing
    here, or somebody else.
    """
    if pid <= 0:
        return 0, 0
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii", errors="replace")
        proc = read_proc(pid)
    except OSError:
        return 0, 0
    return (pid, proc.start) if proc is not None and container in groups else (0, 0)


async def why_no_gpus(ask: Callable[[], Awaitable[EngineFacts]]) -> Reason | None:
    """Why containers cannot have GPUs here, for `driver: auto`; None: they can."""
    try:
        facts = await ask()
    except EngineAway as away:
        absent = away.reason.code == "docker.absent"
        return because("driver.auto_no_engine") if absent else because("driver.auto_no_answer")
    except EngineRefused:
        return because("driver.auto_no_answer")
    return None if facts.gpu else because("driver.auto_no_gpus", version=facts.version)


def is_run_of(one: Seen, request: Request) -> bool:
    """Whether it runs just what is asked for."""
    return one.alive and one.name == request.name and one.fingerprint == request.labels[FINGERPRINT]


def port_is_hidden(spec: ServiceSpec) -> bool:
    """Whether the port that is registered leads nowhere, as far as the definition tells."""
    docker = spec.docker
    if docker is None or spec.port is None or docker.network == "host":
        return False
    elsewhere = not os.environ.get("DOCKER_HOST", "unix:").startswith("unix:")
    if elsewhere or (docker.network or "").startswith("container:"):
        return False
    return all(published(text).outside != spec.port for text in docker.ports)


def mute(away: EngineAway) -> StartFailed:
    """A start that had no answer."""
    params: dict[str, object] = dict(away.reason.params)
    return StartFailed(away.reason.code, reason_code=away.reason.code, params=params)


def refusal(refused: EngineRefused) -> StartFailed:
    """A start that the engine refused, in its words."""
    return StartFailed(refused.said, reason_code="docker.refused", params={"error": refused.said})


def name_taken(name: str, holder: Inspected) -> StartFailed:
    """A start under a name that another container has."""
    return StartFailed(
        f"the name {name} belongs to a container that is not this service's",
        reason_code="docker.name_taken",
        params={"name": name, "image": holder.image, "container": holder.id[:12]},
    )
