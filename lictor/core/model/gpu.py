"""GPUs: what a service asks of them, and what a host has.

Sizes are bytes. Nothing here knows NVML: `core.probes.nvml` fills these in, `planning.placement`
decides with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """The `gpu:` part of a service.

    `memory` is what it will take, None: not known. `min_compute_capability` is CUDA's (7.5).
    `devices`: the GPUs it may use, each an index in PCI order or a UUID; empty: any. `pinned`: never
    stopped to make room for another.
    """

    memory: int | None = None
    min_compute_capability: float | None = None
    devices: tuple[str, ...] = ()
    pinned: bool = False
