"""What every runner shares with its agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import ServiceState
from lictor.core.ports import Clock, Prober

if TYPE_CHECKING:
    from lictor.core.runtime.runner import Runner


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every runner shares.

    `changed(runner, before)` is called after each change of state; `wake(key)` asks for a new plan;
    `consul_watches(key)` says whether Consul's own check is known for this service at present, in
    which case the runner does not probe as well.
    """

    clock: Clock
    prober: Prober
    changed: Callable[[Runner, ServiceState], None]
    wake: Callable[[ServiceKey], None]
    consul_watches: Callable[[ServiceKey], bool]
    port_holder: Callable[[str, int], tuple[int, str] | None]
    jitter: Callable[[], float]
