"""Stopping badly behaved programs: after a stop nothing of a service is alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lictor.core.drivers.ending import signal_number
from lictor.core.drivers.process import ProcessDriver
from lictor.core.drivers.running import ProcessRunning
from lictor.core.drivers.tree import Proc, Snapshot, Tree
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import StopSpec
from lictor.core.model.state import Exit
from tests.support.children import alive, child, eventually, free_port, marked, open_fds, text_of

QUICK = StopSpec(timeout=0.5)
GENEROUS = StopSpec(timeout=30.0)


def lines(path: Path) -> list[str]:
    return text_of(path).split()


async def test_a_well_behaved_service_ends_at_once_and_is_not_killed(driver, spec, agent_id):
    running = await driver.start(spec(child("good")))
    await eventually(lambda: "ready" in text_of(driver.log_path(spec(()))))
    begun = time.monotonic()
    report = await running.stop(GENEROUS)
    assert report.exit == Exit(code=0)
    assert not report.killed
    assert report.survivors == 0
    assert time.monotonic() - begun < 5
    assert marked(agent_id) == []
    assert not alive(running.identity.pid)


async def test_a_service_deaf_to_term_is_killed_after_its_timeout(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("ignore-term", file=said)))
    await eventually(lambda: lines(said))
    begun = time.monotonic()
    report = await running.stop(QUICK)
    assert time.monotonic() - begun >= 0.5
    assert report.killed
    assert report.exit == Exit(signal=9)
    assert marked(agent_id) == []


async def test_a_slow_service_gets_the_time_it_was_given(driver, spec, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("slow-term", seconds=0.7, file=said)))
    await eventually(lambda: lines(said) == ["up"])
    report = await running.stop(GENEROUS)
    assert report.exit == Exit(code=0)
    assert not report.killed
    assert lines(said) == ["up", "clean"]


@pytest.mark.parametrize(
    ("name", "others"), [("grandchildren", 6), ("escape-group", 1), ("engine", 1), ("scrubbed", 1)]
)
async def test_children_that_outlive_their_parent_are_ended_too(
    driver, spec, agent_id, tmp_path, name, others
):
    said = tmp_path / "said"
    running = await driver.start(spec(child(name, count=3, port=free_port(), file=said)))
    await eventually(lambda: len(lines(said)) == others)
    pids = [int(word) for word in lines(said)]
    assert all(alive(pid) for pid in pids)
    report = await running.stop(QUICK)
    assert report.survivors == 0
    assert marked(agent_id) == []
    assert not any(alive(pid) for pid in [running.identity.pid, *pids])


async def test_a_frozen_service_gets_its_term_when_it_goes_on(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("stop-self", seconds=0.05, file=said)))
    pid = running.identity.pid
    await eventually(lambda: b") T" in Path(f"/proc/{pid}/stat").read_bytes())
    report = await running.stop(GENEROUS)
    assert report.exit == Exit(signal=15)
    assert not report.killed
    assert marked(agent_id) == []


async def test_a_name_with_brackets_and_newlines_hides_nothing(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("rename", file=said)))
    await eventually(lambda: lines(said))
    other = ProcessDriver(tmp_path / "logs", agent_id)
    found = other.recover(spec(()), running.identity)
    assert found is not None
    assert found.identity == running.identity
    other.close()
    await running.stop(QUICK)
    assert marked(agent_id) == []


async def test_a_daemon_is_seen_among_the_survivors_and_ended(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("double-fork", file=said)))
    exit_ = await running.wait()
    assert (exit_.code, exit_.reason().code) == (0, "exit.daemonised")
    await eventually(lambda: lines(said))
    assert [int(word) for word in lines(said)] == running.survivors()
    await running.stop(QUICK)
    assert running.survivors() == []
    assert marked(agent_id) == []


async def test_what_a_crashed_service_left_is_ended_by_stop(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("engine", port=free_port(), file=said)))
    await eventually(lambda: lines(said))
    os.kill(running.identity.pid, 9)
    assert await running.wait() == Exit(signal=9)
    assert len(marked(agent_id)) == 1
    report = await running.stop(QUICK)
    assert report.exit == Exit(signal=9)
    assert report.killed
    assert marked(agent_id) == []


async def test_a_child_that_keeps_the_output_open_delays_nothing(driver, spec, agent_id):
    running = await driver.start(spec(child("keep-pipe", seconds=60)))
    assert await running.wait() == Exit(code=0, left=1)
    await running.stop(QUICK)
    assert marked(agent_id) == []


async def test_all_of_many_waiters_get_the_same_exit_at_any_time(driver, spec):
    running = await driver.start(spec(child("exit-now", count=7)))
    first = await asyncio.gather(*(running.wait() for _ in range(5)))
    assert {*first, await running.wait()} == {Exit(code=7)}
    one, two = await asyncio.gather(running.stop(QUICK), running.stop(QUICK))
    assert one == two == await running.stop(QUICK)


async def test_a_second_stop_can_hurry_the_first(driver, spec, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("ignore-term", file=said)))
    await eventually(lambda: lines(said))
    patient = asyncio.create_task(running.stop(StopSpec(timeout=600)))
    await asyncio.sleep(0.05)
    assert not patient.done()
    hurried = await running.stop(StopSpec(timeout=0))
    assert hurried.killed
    assert (await asyncio.wait_for(patient, 10)).exit == Exit(signal=9)


async def test_a_cancelled_stop_can_be_called_again(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("ignore-term", file=said)))
    await eventually(lambda: lines(said))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await running.stop(StopSpec(timeout=600))
    assert marked(agent_id) == [running.identity.pid]
    await running.stop(StopSpec(timeout=0))
    assert marked(agent_id) == []


@contextlib.contextmanager
def without_descriptors():
    """Nothing more can be opened within."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = open_fds()
    hog: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                hog.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for fd in hog:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_agent_without_descriptors_does_not_take_a_living_service_for_gone(
    driver, spec, agent_id, tmp_path
):
    said = tmp_path / "said"
    running = await driver.start(spec(child("ignore-term", file=said)))
    await eventually(lambda: lines(said))
    with without_descriptors():
        patient = asyncio.create_task(running.stop(StopSpec(timeout=600)))
        await asyncio.sleep(0.5)
        assert not patient.done()
        assert running.exit is None
        # Blind as it is, it can still end the group; the freed descriptor then lets it look.
        report = await running.stop(StopSpec(timeout=0))
        assert (report.killed, report.exit) == (True, Exit(signal=9))
    assert (await patient).survivors == 0
    assert marked(agent_id) == []


async def test_an_agent_without_descriptors_still_knows_how_a_service_ended(driver, spec, tmp_path):
    go = tmp_path / "go"
    running = await driver.start(spec(("sh", "-c", "while [ ! -e go ]; do sleep 0.02; done")))
    with without_descriptors():
        go.mkdir()  # (which needs no descriptor)
        assert await running.wait() == Exit(code=0)


async def test_an_agent_without_descriptors_can_still_kill_at_once(driver, spec):
    running = await driver.start(spec(("sleep", "60")))
    with without_descriptors():
        running.kill_now()
        assert await running.wait() == Exit(signal=9)


def test_a_strangers_session_under_our_number_is_not_ours():
    stranger = Proc(pid=5_000_000, ppid=1, pgrp=1, session=5_000_000, state="S", threads=1, start=9)
    table = Snapshot({stranger.pid: stranger}, {stranger.session: [stranger]}, {}, {}, {})
    assert Tree(stranger.pid, start=5, mark=b"ours:piper").members(table) == []
    assert Tree(stranger.pid, start=9, mark=b"ours:piper").members(table) == [stranger]


async def test_many_services_stop_together_and_no_descriptor_is_left(driver, spec, agent_id):
    before = open_fds()
    started: list[ProcessRunning] = []
    for number in range(40):
        one = spec(("sleep", "60"), key=ServiceKey(f"s{number}"))
        started.append(await driver.start(one))
    # (a program that was executed a moment ago shows its environment a moment later)
    await eventually(lambda: len(marked(agent_id)) == 40)
    reports = await asyncio.gather(*(one.stop(GENEROUS) for one in started))
    assert {report.exit for report in reports} == {Exit(signal=15)}
    assert marked(agent_id) == []
    await eventually(lambda: open_fds() == before)


async def test_stopping_one_service_leaves_its_neighbour_alone(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    one = await driver.start(spec(child("grandchildren", count=2, file=said)))
    neighbour = spec(child("escape-group", file=tmp_path / "b"), key=ServiceKey("piper", "b"))
    two = await driver.start(neighbour)
    await eventually(lambda: len(lines(said)) == 4 and lines(tmp_path / "b"))
    await one.stop(QUICK)
    assert sorted(marked(agent_id)) == sorted([two.identity.pid, *two.survivors()])
    assert len(marked(agent_id)) == 2
    await two.stop(QUICK)
    assert marked(agent_id) == []


async def test_the_signal_of_the_config_is_the_one_that_is_sent(driver, spec):
    running = await driver.start(spec(("sleep", "60")))
    assert (await running.stop(StopSpec(signal="INT", timeout=20))).exit == Exit(signal=2)


@pytest.mark.parametrize(
    ("name", "number"), [("TERM", 15), ("sigquit", 3), ("9", 9), ("NONSENSE", 15), ("0", 15)]
)
def test_a_signal_is_known_by_name_or_number_and_else_is_term(name, number):
    assert signal_number(name) == number


PLAIN_AGENT = """
import asyncio, codecs, os, sys
from pathlib import Path
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec, StopSpec

async def main():
    folder, agent_id, *argv = sys.argv[1:]
    codecs.lookup("ascii")  # nobody may not be able to read the codecs, nor what else comes late
    os.setgid(65534), os.setuid(65534)
    driver = ProcessDriver(Path(folder), agent_id)
    running = await driver.start(ServiceSpec(ServiceKey("piper"), command=tuple(argv), cwd="/"))
    await asyncio.sleep(1)
    report = await running.stop(StopSpec(timeout=0.5))
    print(running.containment, report.survivors, sep="|")
    driver.close()

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize(
    "script",
    [
        "sleep 60 & (sleep 60 & sleep 60 & wait) & wait",
        "setsid sleep 60 & sleep 60",
        "trap '' TERM; sh -c 'while :; do sleep 1; done' & exit 3",
        "(setsid sh -c 'setsid sleep 60 & sleep 60' &) ; exit 0",
    ],
    ids=["grandchildren", "escape-group", "engine", "double-fork"],
)
async def test_a_plain_users_agent_leaves_nobody_behind_either(agent_id, script):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o777)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", PLAIN_AGENT, folder, agent_id, "sh", "-c", script],
            check=True,
            capture_output=True,
            timeout=60,
        )
    assert done.stdout.decode().strip() == "group, session, mark|0"
    assert marked(agent_id) == []
