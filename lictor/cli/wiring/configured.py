"""Reads config.yml the way the agent does: the ports that Lictor chose before stay chosen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lictor.core.config.load import LoadContext, find, load
from lictor.core.config.settings import Config
from lictor.core.runtime.storage.datadir import write_atomically

_PORTS = "ports.json"


def read_config(path: Path) -> Config:
    """The config in `path`; raises `ConfigError` with every problem in it."""
    first = load(path, _context({}))
    remembered = _remembered_ports(first.agent.data_dir)
    if not first.allocated_ports or first.allocated_ports == remembered:
        return first
    return load(path, _context(remembered))


def find_config(explicit: str | None) -> Path:
    """Where config.yml is: `-c`, $LICTOR_CONFIG, ./config.yml, /etc/lictor/config.yml."""
    return find(explicit, os.environ).resolve()


def remember_ports(config: Config) -> None:
    """Keep the ports that were chosen, for the next load."""
    path = config.agent.data_dir / _PORTS
    if config.allocated_ports and _remembered_ports(path.parent) != config.allocated_ports:
        write_atomically(path, json.dumps(dict(config.allocated_ports), indent=1) + "\n")


def _context(allocated: Mapping[str, int]) -> LoadContext:
    return LoadContext(
        env=os.environ, allocated=allocated, python=sys.executable, is_root=os.geteuid() == 0
    )


def _remembered_ports(data_dir: Path) -> dict[str, int]:
    try:
        found = json.loads((data_dir / _PORTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): port for key, port in found.items() if isinstance(port, int)}
