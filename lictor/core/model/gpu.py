"""GPUs: what a service asks of them, and what a host has.

Sizes are bytes. Nothing here knows NVML: `core.probes.nvml` fills these in, `planning.placement`
decides with them. A figure that a card does not tell is None, and None is never taken for 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Choice: TypeAlias = Literal["binpack", "spread"]


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """The `gpu:` part of a service.

    `memory` is what it will take, None: not known. `min_compute_capability` is CUDA's (7.5).
    `devices`: the GPUs it may use, each an index in PCI order or a UUID; empty: any. `pinned`: never
    stopped to make room for another. `utilization` is the share of a whole card that it takes (0.5:
    half), as vLLM's `--gpu-memory-utilization`. `placement`: of the cards with room, the one with
    the least left (`binpack`) or the most (`spread`).
    """

    memory: int | None = None
    min_compute_capability: float | None = None
    devices: tuple[str, ...] = ()
    pinned: bool = False
    utilization: float | None = None
    placement: Choice = "binpack"


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a card. `memory` None: the driver does not tell (WSL, some laptops).

    `busy` is how much of the card's cores it used lately, in percent; None: not told.
    """

    pid: int
    memory: int | None = None
    busy: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card, as NVML told it at one moment.

    `index` is the place in PCI order, `capability` CUDA's (8.6). `reserved` is what the driver keeps
    for itself and is in neither `used` nor `free`. `processes` None: the driver does not tell which.
    `lost`: it fell off the bus or must be reset; then all figures are None. `power` is watts.
    """

    uuid: str
    index: int
    name: str = "?"
    capability: float | None = None
    total: int | None = None
    free: int | None = None
    used: int | None = None
    reserved: int | None = None
    utilization: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    fan: int | None = None
    mig: bool | None = None
    lost: bool = False
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Every card of the host. No cards and a `problem`: why there is none that can be used.

    `problem`: `no_library`, `no_driver`, `no_cards`, `mismatch` (library and kernel module of different
    versions, as after an upgrade without a reboot) or `refused` (no right to ask).
    """

    cards: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    problem: str = ""

    def card(self, uuid: str) -> Gpu | None:
        """The card of that UUID."""
        return next((card for card in self.cards if card.uuid == uuid), None)
