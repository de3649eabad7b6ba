"""Asks services whether they work: one place for every kind of question.

Picks the asker for `ProbeSpec.kind`, measures the time and turns whatever happens into one short
line that is safe to show and true. The answer of the service itself is never part of that line for
http (what a service says stays on its host); it is for a command, whose output is meant for it.
This module decides nothing: how many failures make a service unhealthy is thought about elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.command import probe_command
from lictor.core.probes.http import HttpAsker
from lictor.core.probes.protocols import askers
from lictor.core.probes.tcp import probe_tcp
from lictor.core.probes.text import one_line

Asker = Callable[[ProbeSpec], Awaitable[ProbeResult]]


class LictorProber:
    """The `Prober` for `http`, `tcp`, `command` and the protocols. Close it when done.

    `more` adds askers for further kinds, or replaces these.
    """

    def __init__(self, more: dict[str, Asker] | None = None) -> None:
        self._http = HttpAsker()
        self._askers: dict[str, Asker] = {
            "http": self._http.probe,
            "tcp": probe_tcp,
            "command": probe_command,
            **askers(),
            **(more or {}),
        }

    async def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Ask once, within `spec.timeout` seconds. Never raises but for cancellation."""
        asker = self._askers.get(spec.kind)
        if asker is None:
            return ProbeResult(passed=False, output=one_line(f"unknown kind of check: {spec.kind}"))
        begun = time.perf_counter()
        try:
            result = await asker(spec)
        except Exception as error:  # noqa: BLE001 - a probe says that it failed, whatever happened
            said = f"the check itself failed: {type(error).__name__}: {error}"
            result = ProbeResult(passed=False, output=said)
        took = time.perf_counter() - begun
        return replace(result, output=one_line(result.output), took=took)

    async def close(self) -> None:
        """Close what is open. The prober can be used again afterwards."""
        await self._http.close()
