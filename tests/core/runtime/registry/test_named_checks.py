"""Named checks that the agent asks: when, how often, and what Consul is told."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ProbeSpec, ServiceSpec
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.ports import ProbeResult
from lictor.core.runtime.clock import SystemClock
from lictor.core.runtime.registry.named_checks import NamedChecks

KEY = ServiceKey("shop")


@dataclass
class Service:
    spec: ServiceSpec
    state: ServiceState = field(default_factory=lambda: ServiceState(phase=Phase.READY))


class Answers:
    """Answers what it was told, by kind, and counts the questions."""

    def __init__(self) -> None:
        self.says: dict[str, tuple[bool, str]] = {}
        self.asked: list[str] = []

    async def probe(self, spec: ProbeSpec) -> ProbeResult:
        await asyncio.sleep(0)
        self.asked.append(spec.kind)
        return ProbeResult(*self.says.get(spec.kind, (True, "fine")))


class Scene:
    def __init__(self, **checks: ProbeSpec) -> None:
        self.service = Service(ServiceSpec(key=KEY, checks=checks))
        self.prober = Answers()
        self.woken = 0
        self.checks = NamedChecks({KEY: self.service}, SystemClock(), self.prober, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def told(self) -> dict[str, tuple[Health, str]]:
        return {
            status.check_id: (status.status, status.output)
            for status in self.checks.told(KEY, "id")
        }

    async def until(self, truth) -> None:
        deadline = time.monotonic() + 20
        while not truth():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.fixture
async def scene():
    made = Scene(
        cache=ProbeSpec("redis", "h:1", interval=0.05),
        job=ProbeSpec("command", argv=("x",), interval=0.05),
        port=ProbeSpec("tcp", "h:2", interval=0.05),
    )
    task = asyncio.create_task(made.checks.keep_asking())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_what_consul_asks_itself_is_left_to_it(scene):
    await scene.until(lambda: len(scene.told()) == 2)
    assert scene.told() == {
        "id:check:cache": (Health.PASSING, "fine"),
        "id:check:job": (Health.PASSING, "The command passes."),
    }
    assert "tcp" not in scene.prober.asked


async def test_consul_is_told_on_edges_only(scene):
    await scene.until(lambda: len(scene.told()) == 2)
    before = scene.woken
    scene.prober.says["redis"] = (True, "fine, in other words")
    asked = len(scene.prober.asked)
    await scene.until(lambda: len(scene.prober.asked) > asked + 10)
    assert scene.woken == before
    assert scene.told()["id:check:cache"] == (Health.PASSING, "fine")
    scene.prober.says["redis"] = (False, "connection refused")
    await scene.until(lambda: scene.told()["id:check:cache"][0] is Health.CRITICAL)
    assert scene.woken == before + 1
    scene.prober.says["redis"] = (False, "still loading")
    await scene.until(lambda: scene.told()["id:check:cache"][1] == "still loading")
    assert scene.woken == before + 2


async def test_what_a_command_prints_stays_here(scene):
    scene.prober.says["command"] = (False, "exit status 1: the password is x")
    await scene.until(lambda: scene.told().get("id:check:job", (0, 0))[0] is Health.CRITICAL)
    assert "password" not in scene.told()["id:check:job"][1]


async def test_a_service_that_is_down_is_not_asked_and_nothing_old_is_repeated(scene):
    await scene.until(lambda: len(scene.told()) == 2)
    scene.service.state = ServiceState(phase=Phase.BACKOFF)
    await scene.until(lambda: not scene.told())
    asked = len(scene.prober.asked)
    await asyncio.sleep(0.3)
    assert len(scene.prober.asked) == asked
    scene.service.state = ServiceState(phase=Phase.READY)
    await scene.until(lambda: len(scene.told()) == 2)


async def test_a_check_that_a_reload_took_away_is_forgotten(scene):
    await scene.until(lambda: len(scene.told()) == 2)
    scene.service.spec = ServiceSpec(key=KEY, checks={})
    await scene.until(lambda: not scene.told())
