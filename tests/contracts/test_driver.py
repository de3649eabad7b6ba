"""`ports.Driver` and `ports.Running`: their tables, for processes, containers and fakes."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from lictor.core.drivers.docker.driver import DockerDriver
from lictor.core.drivers.docker.gate import Engine
from lictor.core.drivers.process import ProcessDriver
from lictor.core.errors import StartFailed
from lictor.core.model.container import ContainerSpec
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.testing import FakeDriver
from tests.support.children import child
from tests.support.dockerd import IMAGE
from tests.support.patience import soon, until

HOW = StopSpec(timeout=5.0)
SHORT = StopSpec(timeout=0.3)


class RealHost:
    """Processes. `next_agent` is a driver that knows only what the marks and identities say."""

    def __init__(self, folder, agent_id) -> None:
        self._folder, self._agent_id = folder, agent_id
        self.drivers = []
        self.driver = self.next_agent()

    def next_agent(self):
        for driver in self.drivers:
            driver.close()
        self.drivers.append(ProcessDriver(self._folder / "logs", self._agent_id))
        return self.drivers[-1]

    def spec(self, kind="good", key="piper") -> ServiceSpec:
        file = self._folder / "said"
        commands = {
            "good": child("good"),
            "deaf": child("ignore-term", file=file),
            "children": child("escape-group", file=file),
            "missing": (str(self._folder / "no-such-program"),),
        }
        env = {"PATH": os.environ["PATH"]}
        return ServiceSpec(
            key=ServiceKey.parse(key), command=commands[kind], cwd=str(self._folder), env=env
        )

    async def up(self, running, kind="good") -> None:
        """Until the program can hear signals."""
        if kind == "good":
            log = self._folder / "logs" / "piper.log"
            await until(lambda: "ready" in log.read_text())
        else:
            await until((self._folder / "said").exists)

    def crash(self, running) -> Exit:
        os.kill(running.identity.pid, signal.SIGSEGV)
        return Exit(signal=signal.SIGSEGV)

    def job(self, code: int):
        return child("exit-now", count=code)

    def long_job(self):
        return child("good")


class FakeHost:
    def __init__(self, folder) -> None:
        self.driver = FakeDriver(log_dir=folder)

    def next_agent(self):
        return self.driver

    def spec(self, kind="good", key="piper") -> ServiceSpec:
        self.driver.stop_takes = {"deaf": 1e9, "children": 1e9}.get(kind, 0.0)
        if kind == "missing":
            self.driver.fail(StartFailed("no", reason_code="start.no_program", params={}))
        return ServiceSpec(key=ServiceKey.parse(key), command=(kind,))

    async def up(self, running, kind="good") -> None:
        pass

    def crash(self, running) -> Exit:
        running.end(Exit(signal=signal.SIGSEGV), children=running.stop_takes > 0)
        return Exit(signal=signal.SIGSEGV)

    def job(self, code: int):
        self.driver.job_exits[f"job{code}"] = Exit(code=code)
        return (f"job{code}",)

    def long_job(self):
        self.driver.job_takes = 600.0
        return ("long",)


class DockerHost:
    """Containers. What a driver learns from its engine soon after its begin, it is given at once."""

    _LOOP = "while :; do sleep 0.05; done"

    def __init__(self, folder, agent_id, engine) -> None:
        self._folder, self._agent_id, self._engine = folder, agent_id, engine
        self._said = folder / "said"
        self._said.mkdir(mode=0o777)
        self.drivers = []
        self.driver = self.next_agent()

    def next_agent(self):
        driver = DockerDriver(
            self._folder / "logs", self._agent_id, node="contract", address=self._engine.address
        )
        driver.begin()
        gate = Engine(self._engine.address)
        listing = gate.listing(self._agent_id, 30)
        driver._listing = {one.id: one for one in listing}
        for one in listing:
            if one.alive and not one.job:
                driver._strays[one.service] = gate.inspect(one.id, 30)
        gate.leave()
        self.drivers.append(driver)
        return driver

    def spec(self, kind="good", key="piper") -> ServiceSpec:
        commands = {
            "good": ("sh", "-c", f"echo > /said/good; {self._LOOP}"),
            "deaf": ("sh", "-c", f"trap '' TERM; echo > /said/deaf; {self._LOOP}"),
            "children": ("sh", "-c", f"sleep 900 & echo > /said/children; {self._LOOP}"),
            "missing": ("/no-such-program",),
        }
        container = ContainerSpec(
            IMAGE, network="none", volumes=(f"{self._said}:/said",), init=kind != "missing"
        )
        return ServiceSpec(
            key=ServiceKey.parse(key),
            driver="docker",
            command=commands[kind],
            cwd=str(self._folder),
            docker=container,
        )

    async def up(self, running, kind="good") -> None:
        await until((self._said / kind).exists)

    def crash(self, running) -> Exit:
        first = running.identity.pid  # the init of the container, which hands the status on
        (main,) = _text(f"/proc/{first}/task/{first}/children").split()[:1]
        os.kill(int(main), signal.SIGSEGV)
        return Exit(signal=signal.SIGSEGV)

    def job(self, code: int):
        return ("sh", "-c", f"exit {code}")

    def long_job(self):
        return ("sleep", "600")


def _text(path: str) -> str:
    return Path(path).read_text(encoding="ascii")


@pytest.fixture(params=["real", "docker", "fake"])
async def host(request, tmp_path, agent_id):
    if request.param == "docker":
        engine = request.getfixturevalue("engine")
        containers = DockerHost(tmp_path, agent_id, engine)
        yield containers
        for driver in containers.drivers:
            driver.close()
        engine.remove_of(agent_id)
        return
    if request.param == "fake":
        yield FakeHost(tmp_path)
        return
    real = RealHost(tmp_path, agent_id)
    yield real
    for driver in real.drivers:
        driver.close()


async def test_a_start_returns_while_the_service_runs(host):
    running = await host.driver.start(host.spec())
    waiting = asyncio.create_task(running.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await running.stop(HOW)
    await soon(waiting)


async def test_what_cannot_be_started_is_a_failed_start_with_a_reason(host):
    with pytest.raises(StartFailed) as failed:
        await host.driver.start(host.spec("missing"))
    assert failed.value.reason_code.startswith(("start.", "docker."))


async def test_an_end_by_itself_is_told_to_everybody_who_waits_always_the_same(host):
    running = await host.driver.start(host.spec())
    await host.up(running)
    waiting = [asyncio.create_task(running.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not running.over
    expected = host.crash(running)
    assert await soon(asyncio.gather(*waiting)) == [expected] * 3
    assert running.over
    assert await soon(running.wait()) == expected
    assert (await soon(running.stop(HOW))).exit == expected
    assert await soon(running.wait()) == expected


async def test_one_who_stops_waiting_ends_nothing(host):
    running = await host.driver.start(host.spec())
    waiting = asyncio.create_task(running.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert host.driver.recover(host.spec(), running.identity) is not None
    await running.stop(HOW)


async def test_a_stop_ends_what_runs_and_says_how_it_went(host):
    running = await host.driver.start(host.spec())
    await host.up(running)
    report = await soon(running.stop(HOW))
    assert (report.killed, report.survivors) == (False, 0)
    assert await soon(running.wait()) == report.exit
    assert await soon(running.stop(HOW)) == report
    assert host.next_agent().recover(host.spec(), running.identity) is None


async def test_what_is_deaf_is_killed_after_the_timeout(host):
    running = await host.driver.start(host.spec("deaf"))
    await host.up(running, "deaf")
    report = await soon(running.stop(SHORT))
    assert (report.killed, report.exit) == (True, Exit(signal=signal.SIGKILL))


async def test_a_stop_that_is_cut_short_can_be_done_again(host):
    running = await host.driver.start(host.spec("deaf"))
    await host.up(running, "deaf")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.stop(replace(HOW, timeout=600.0)), 0.1)
    assert (await soon(running.stop(SHORT))).killed


async def test_children_that_outlive_the_main_process_are_ended_by_a_stop(host):
    running = await host.driver.start(host.spec("children"))
    await host.up(running, "children")
    expected = host.crash(running)
    assert await soon(running.wait()) == expected
    report = await soon(running.stop(SHORT))
    assert (report.exit, report.survivors) == (expected, 0)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_job_is_run_to_its_end(host, code):
    assert await soon(host.driver.run_job(host.spec(), host.job(code))) == Exit(code=code)


async def test_a_job_can_be_cut_short(host):
    job = asyncio.create_task(host.driver.run_job(host.spec(), host.long_job()))
    await asyncio.sleep(0.3)
    job.cancel()
    await soon(asyncio.wait([job]))
    assert job.cancelled()


async def test_another_agent_takes_over_what_runs_by_identity_and_by_mark(host):
    running = await host.driver.start(host.spec())
    await host.up(running)
    for identity in (running.identity, None):
        adopted = host.next_agent().recover(host.spec(), identity)
        assert adopted is not None
        assert adopted.identity == running.identity
    await soon(adopted.stop(HOW))
    await soon(adopted.wait())
    assert host.next_agent().recover(host.spec(), None) is None


async def test_what_outlived_its_main_process_is_swept_by_another_agent(host):
    running = await host.driver.start(host.spec("children"))
    await host.up(running, "children")
    host.crash(running)
    await soon(running.wait())
    spec = replace(host.spec("children"), stop=SHORT)
    other = host.next_agent()
    assert other.recover(spec, running.identity) is None
    sweep = other.sweep(spec)
    assert sweep is not None
    await soon(sweep)
    assert host.next_agent().sweep(spec) is None


async def test_nobody_elses_process_is_taken_over(host):
    running = await host.driver.start(host.spec())
    await host.up(running)
    stranger = Identity(os.getpid(), 1, running.identity.boot_id)
    nextone = host.next_agent()
    found = nextone.recover(host.spec(), stranger)
    assert found is None or found.identity == running.identity
    assert nextone.recover(host.spec(key="other"), running.identity) is None
    for driver in (host.driver, host.next_agent()):
        ours = driver.recover(host.spec(), running.identity)
        if ours is not None:
            await soon(ours.stop(HOW))


async def test_the_log_belongs_to_the_service(host):
    assert host.driver.log_path(host.spec()).name == "piper.log"
    assert host.driver.log_path(host.spec(key="piper@a")).name == "piper@a.log"
