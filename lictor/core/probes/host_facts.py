"""What a host has: cores, memory, GPUs. Read once, cheaply, for others to see.

GPUs are what NVIDIA's driver lists in /proc; where that driver is not loaded, nobody asked any
other, so nothing is claimed. It measures no load and loads no library.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

_NVIDIA = Path("/proc/driver/nvidia/gpus")
_MIB = 1024 * 1024


def host_facts(nvidia: Path = _NVIDIA) -> dict[str, Any]:
    """`host` (its name), `cpus`, `memory_mb`, `gpus` (a list of names; None: not known)."""
    return {
        "host": socket.gethostname(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MIB,
        "gpus": _gpus(nvidia),
    }


def _gpus(nvidia: Path) -> list[str] | None:
    try:
        folders = sorted(nvidia.iterdir())
        return [_model(folder / "information") for folder in folders]
    except OSError:
        return None


def _model(path: Path) -> str:
    """The line `Model:  NVIDIA A100` of one GPU's file."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Model":
            return " ".join(value.split())
    return "?"
