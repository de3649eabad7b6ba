"""Asks the named checks that Consul cannot ask (a protocol's hello, a command) and keeps what they say.

Each is asked at its own interval while its service runs, one question at a time, and what is told to
Consul changes on edges: another verdict, or another reason for the same bad one. The output of a
command is what a service prints, so it stays on this host; Consul hears that it failed and where to
look. This part judges no service: a named check that fails takes it out of DNS and restarts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import SetStatus
from lictor.core.model.spec import ProbeSpec
from lictor.core.model.state import Health, Phase
from lictor.core.ports import Clock, Prober
from lictor.core.runtime.supervision.presence import ask
from lictor.core.runtime.supervision.runner import Runner

_LOOK = 0.25  # seconds between two looks at what is due
_SELDOM = 2.0  # the same while no service has a check that we would ask
_UP = frozenset({Phase.READY, Phase.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class Said:
    """The last answer of one check: whether it passed, and our sentence about it."""

    passed: bool
    output: str


class NamedChecks:
    """`wake` is called when something that Consul should hear of has changed."""

    def __init__(
        self,
        runners: Mapping[ServiceKey, Runner],
        clock: Clock,
        prober: Prober,
        wake: Callable[[], None],
    ) -> None:
        self._runners = runners
        self._clock = clock
        self._prober = prober
        self._wake = wake
        self._said: dict[tuple[ServiceKey, str], Said] = {}
        self._asking: dict[tuple[ServiceKey, str], asyncio.Task[None]] = {}

    def told(self, key: ServiceKey, service_id: str) -> tuple[SetStatus, ...]:
        """What Consul should be told of this service's checks; nothing of those not asked yet."""
        return tuple(
            SetStatus(
                f"{service_id}:check:{name}",
                Health.PASSING if said.passed else Health.CRITICAL,
                said.output,
            )
            for (owner, name), said in sorted(self._said.items(), key=lambda item: item[0][1])
            if owner == key
        )

    async def keep_asking(self) -> None:
        """Ask, for ever."""
        try:
            while True:
                asks = any(runner.spec.checks for runner in self._runners.values())
                if asks or self._asking or self._said:
                    self._begin_and_end()
                await asyncio.sleep(_LOOK if asks else _SELDOM)
        finally:
            for task in self._asking.values():
                task.cancel()
            self._asking.clear()

    def _begin_and_end(self) -> None:
        """One task for each check of a service that is up, none for others."""
        wanted = {
            (key, name)
            for key, runner in self._runners.items()
            if runner.spec.checks and runner.state.phase in _UP
            for name, probe in runner.spec.checks.items()
            if not probe.asked_by_consul
        }
        for gone in self._asking.keys() - wanted:
            self._asking.pop(gone).cancel()
        for gone in self._said.keys() - wanted:
            del self._said[gone]  # its entry is critical or away: nothing old is to be repeated
        for key, name in wanted - self._asking.keys():
            self._asking[key, name] = asyncio.create_task(self._keep(key, name))

    async def _keep(self, key: ServiceKey, name: str) -> None:
        while (probe := self._probe(key, name)) is not None:
            result = await ask(self._prober, self._clock, probe)
            said = Said(result.passed, _sentence(probe, result.output, passed=result.passed))
            before = self._said.get((key, name))
            if (
                before is None
                or before.passed != said.passed
                or not (said.passed or before == said)
            ):
                self._said[key, name] = said
                self._wake()
            await asyncio.sleep(probe.interval)

    def _probe(self, key: ServiceKey, name: str) -> ProbeSpec | None:
        runner = self._runners.get(key)
        return runner.spec.checks.get(name) if runner is not None else None


def _sentence(probe: ProbeSpec, output: str, *, passed: bool) -> str:
    if probe.kind != "command":
        return output
    return "The command passes." if passed else "The command fails: `lictor health` shows why."
