"""The driver `auto`: who runs it is decided once, and what runs is taken over as what it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lictor.core.drivers.auto import AutoDriver
from lictor.core.drivers.docker.judging import why_no_gpus
from lictor.core.drivers.docker.terms import EngineAway, EngineFacts, EngineRefused
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.testing import FakeDriver
from tests.core.virtual import virtual

SPEC = ServiceSpec(key=ServiceKey("vllm"), driver="auto", command=("vllm",))
NO_GPUS = because("driver.auto_no_gpus", version="20.10")


class Asked:
    """An engine that gives one answer after another."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.times = 0

    async def __call__(self):
        self.times += 1
        return self.answers.pop(0)


def made(*answers):
    process, docker, asked, said = FakeDriver(), FakeDriver("docker"), Asked(*answers), []
    auto = AutoDriver(process, docker, asked, lambda key, choice: said.append((str(key), choice)))
    return auto, process, docker, asked, said


@pytest.mark.parametrize("answer", [None, NO_GPUS])
@virtual
async def test_it_is_decided_by_the_engine_told_and_kept(answer):
    auto, process, docker, asked, said = made(answer, None if answer else NO_GPUS)
    await auto.start(SPEC)
    await auto.run_job(SPEC, ("job",))
    await auto.start(SPEC)
    chosen, other = (docker, process) if answer is None else (process, docker)
    assert (len(chosen.started), len(other.started), chosen.jobs) == (2, 0, [("job",)])
    assert asked.times == 1
    why = because("driver.auto_docker") if answer is None else NO_GPUS
    assert said == [("vllm", why)]
    assert auto.notes(SPEC) == (why,)


@virtual
async def test_an_engine_that_hangs_holds_up_a_start_for_seconds_only():
    auto, process, *_ = made()
    auto._why_not = lambda: asyncio.sleep(1e9)
    await asyncio.wait_for(auto.start(SPEC), 20)
    assert len(process.started) == 1
    assert auto.notes(SPEC)[0].code == "driver.auto_no_answer"


@virtual
async def test_what_runs_is_taken_over_by_whoever_started_it():
    auto, process, docker, *_ = made()
    ours = await process.start(SPEC)
    assert auto.recover(SPEC, ours.identity) is ours
    boxed = await docker.start(SPEC)
    assert auto.recover(SPEC, replace(boxed.identity, container_id="c1")) is boxed
    ours.end(Exit(code=0))
    assert auto.recover(SPEC, None) is boxed
    assert auto.recover(SPEC, Identity(1, 1, "x", "gone")) is boxed


@virtual
async def test_what_is_left_is_swept_on_both_sides():
    auto, process, docker, *_ = made()
    assert auto.sweep(SPEC) is None
    for driver in (process, docker):
        (await driver.start(SPEC)).end(Exit(code=1), children=True)
    await auto.sweep(SPEC)
    assert process.live(SPEC.key) == docker.live(SPEC.key) == []


class Preparer(FakeDriver):
    """Makes the next run beside the present one."""

    def __init__(self, kind) -> None:
        super().__init__(kind)
        self.asked = []

    async def prepare(self, spec):
        self.asked.append(("prepare", spec.key))

    async def forgo(self, key):
        self.asked.append(("forgo", key))


@virtual
async def test_the_next_run_is_prepared_and_forgone_where_the_service_runs():
    docker = Preparer("docker")
    auto = AutoDriver(FakeDriver(), docker, Asked(None))
    await auto.forgo(SPEC.key)  # nothing is decided, so nothing was prepared
    assert docker.asked == []
    await auto.prepare(SPEC)
    await auto.forgo(SPEC.key)
    assert docker.asked == [("prepare", SPEC.key), ("forgo", SPEC.key)]
    plain = AutoDriver(FakeDriver(), docker, Asked(NO_GPUS))
    await plain.prepare(SPEC)
    await plain.forgo(SPEC.key)
    assert len(docker.asked) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (EngineFacts("25.0", "nvidia"), None),
        (EngineFacts("25.0", "cdi"), None),
        (EngineFacts("20.10"), "driver.auto_no_gpus"),
        (EngineAway(because("docker.absent", address="x")), "driver.auto_no_engine"),
        (EngineAway(because("docker.denied", address="x")), "driver.auto_no_answer"),
        (EngineRefused("no", 500), "driver.auto_no_answer"),
    ],
)
async def test_why_containers_cannot_have_gpus_is_said_truly(answer, code):
    async def ask():
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = await why_no_gpus(ask)
    assert (found.code if found else None) == code
