"""A host with NVIDIA cards that are a text file, for the real pynvml: see `stub.c` and `state`."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.nvml.state import GIB, Cards
from tests.support.tools import missing

__all__ = ["GIB", "Cards", "environment", "library"]

_SOURCE = Path(__file__).with_name("stub.c")


@functools.cache
def library(*, old: bool = False) -> Path:
    """The folder with our libnvidia-ml.so.1, built once. `old`: without newer functions."""
    gcc = shutil.which("gcc") or shutil.which("cc") or missing("gcc")
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"lictor-nvml-{os.getuid()}-{version}{'-old' * old}")
    target = folder / "libnvidia-ml.so.1"
    if target.exists():
        return folder
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{os.getpid()}.so"  # two runs at once never load half a library
    subprocess.run(
        [
            *(gcc, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"),
            *("-Wl,-soname,libnvidia-ml.so.1", *(["-DOLD"] if old else [])),
            *("-o", str(made), str(_SOURCE)),
        ],
        check=True,
        timeout=60,
    )
    made.replace(target)
    return folder


def environment(cards: Cards, *, old: bool = False) -> dict[str, str]:
    """What an agent, or the helper, needs to meet these cards."""
    return {"LD_LIBRARY_PATH": str(library(old=old)), "LICTOR_TEST_NVML": cards.path}
