"""What the composition root hands to the agent: everything that stands behind a port, ready to use.

One value, so that the agent is made in one line and a test says at a glance which parts are real.
It holds no state and does nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lictor.core.config.settings import Config
from lictor.core.ports import Clock, ConsulLink, Driver, Prober, UsageProbe
from lictor.core.ports_gpu import GpuProbe
from lictor.core.runtime.storage.datadir import DataDir
from lictor.core.runtime.storage.store import SqliteStore

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the composition root hands to the agent.

    `load` reads config.yml again; `web` serves the HTTP side until cancelled (None: no web);
    `gpus` looks at the cards (None: there are none).
    """

    datadir: DataDir
    store: SqliteStore
    clock: Clock
    drivers: Mapping[str, Driver]
    prober: Prober
    usage: UsageProbe
    link: ConsulLink
    load: Callable[[], Config]
    port_holder: Callable[[str, int], tuple[int, str] | None]
    web: Callable[[Agent], Awaitable[None]] | None = None
    gpus: GpuProbe | None = None
