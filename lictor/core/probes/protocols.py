"""The checks that speak a protocol, by their word in config.yml.

Each stands in a module of its own and is imported when it is first asked for: most hosts use one or
two of them. To add one: write its module, name it here and in the schema (`PROTOCOL_KINDS`).
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult

_MODULES = ("postgres", "mysql", "redis", "kafka", "amqp", "mongodb", "grpc", "websocket")


def askers() -> dict[str, Callable[[ProbeSpec], Awaitable[ProbeResult]]]:
    """One asker for each protocol."""
    return {name: _asker(name) for name in _MODULES}


def _asker(name: str) -> Callable[[ProbeSpec], Awaitable[ProbeResult]]:
    async def ask(spec: ProbeSpec) -> ProbeResult:
        module = importlib.import_module(f"lictor.core.probes.{name}")
        asked: Callable[[ProbeSpec], Awaitable[ProbeResult]] = getattr(module, f"probe_{name}")
        return await asked(spec)

    return ask
