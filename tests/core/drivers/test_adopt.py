"""Taking over what an earlier agent started: the same process, once, and never a stranger."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from lictor.core.drivers import process, spawn
from lictor.core.drivers.cgroup import Cell
from lictor.core.drivers.pidfd import can_tell_exit
from lictor.core.drivers.process import ProcessDriver
from lictor.core.drivers.tree import TICKS, boot_id, read_proc
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from tests.support.children import alive, child, eventually, free_port, marked, text_of

QUICK = StopSpec(timeout=0.5)

#: An agent that starts one service and dies at once, as after `kill -9`.
SHORT_AGENT = """
import asyncio, json, os, sys
from pathlib import Path
from lictor.core.drivers.cgroup_find import discover
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

async def main():
    logs, agent_id, cwd, argv, job, cgroups = json.loads(sys.argv[1])
    driver = ProcessDriver(Path(logs), agent_id, ground=discover(membership=cgroups))
    spec = ServiceSpec(key=ServiceKey("piper"), command=tuple(argv), cwd=cwd)
    if job:
        task = asyncio.create_task(driver.run_job(spec, tuple(argv)))
        await asyncio.sleep(0.05)
        os._exit(0)
    identity = (await driver.start(spec)).identity
    print(json.dumps([identity.pid, identity.start_time, identity.boot_id]), flush=True)
    os._exit(0)

asyncio.run(main())
"""


@pytest.fixture
def dead_agent(tmp_path: Path, agent_id: str, ground):
    """Start a service by an agent that is dead already; its child is not ours."""

    def start(argv: tuple[str, ...], *, job: bool = False) -> Identity | None:
        logs = str(tmp_path / "logs")
        order = json.dumps([logs, agent_id, str(tmp_path), argv, job, ground.version])
        done = subprocess.run(
            [sys.executable, "-c", SHORT_AGENT, order], check=True, capture_output=True, timeout=60
        )
        return None if job else Identity(*json.loads(done.stdout))

    return start


async def test_a_service_is_adopted_with_the_same_pid_and_stopped(
    driver, spec, agent_id, dead_agent, tmp_path
):
    said = tmp_path / "said"
    identity = dead_agent(child("engine", port=free_port(), file=said))
    await eventually(lambda: text_of(said))
    assert read_proc(identity.pid).ppid != os.getpid()
    running = driver.recover(spec(()), identity)
    assert running.identity == identity
    assert len(marked(agent_id)) == 2
    report = await running.stop(QUICK)
    assert report.survivors == 0
    assert marked(agent_id) == []


#: An init: its orphans' statuses are collected at once (`collect`), or never.
INIT = """
import os, subprocess, sys, time
from lictor.core.drivers.tree import become_subreaper
assert become_subreaper()
subprocess.run([sys.executable, "-c", *sys.argv[2:]], check=True)
while sys.argv[1] == "collect":
    os.wait()
time.sleep(300)
"""


@pytest.mark.parametrize(
    ("init", "told"),
    [("collect", Exit(signal=9) if can_tell_exit() else Exit()), ("idle", Exit())],
)
async def test_the_end_of_an_adopted_service_is_seen_and_its_status_if_the_kernel_tells(
    driver, spec, agent_id, ground, tmp_path, monkeypatch, init, told
):
    if init == "collect":
        # The reaper has to be scheduled in this time; the wait ends when it was.
        monkeypatch.setattr("lictor.core.drivers.running._REAPED_WITHIN", 20.0)
    order = [str(tmp_path / "logs"), agent_id, str(tmp_path), ("sleep", "60"), False]
    argv = [sys.executable, "-c", INIT, init, SHORT_AGENT, json.dumps([*order, ground.version])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as reaper:
        identity = Identity(*json.loads(await asyncio.to_thread(reaper.stdout.readline)))
        await eventually(lambda: read_proc(identity.pid).ppid == reaper.pid)
        running = driver.recover(spec(()), identity)
        waiting = asyncio.create_task(running.wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        os.kill(identity.pid, 9)
        try:
            assert await asyncio.wait_for(waiting, 10) == told
            assert (await running.stop(QUICK)).survivors == 0
        finally:
            reaper.kill()


#: An agent that starts many services and dies at once.
BUSY_AGENT = """
import asyncio, os, sys
from pathlib import Path
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

async def main():
    driver = ProcessDriver(Path(sys.argv[1]), sys.argv[2])
    for n in range(int(sys.argv[3])):
        await driver.start(ServiceSpec(ServiceKey(f"s{n}"), command=("sleep", "60"), cwd="/"))
    os._exit(0)

asyncio.run(main())
"""


def test_in_the_agents_own_loop_no_end_of_an_adopted_service_is_missed(agent_id, tmp_path):
    # Its timers may come a moment before their time, and its clock goes in milliseconds.
    count = 40
    argv = [sys.executable, "-c", BUSY_AGENT, str(tmp_path), agent_id, str(count)]
    subprocess.run(argv, check=True, timeout=60)

    async def one_after_the_other() -> None:
        driver = ProcessDriver(tmp_path, agent_id)
        specs = [ServiceSpec(ServiceKey(f"s{n}"), command=(), cwd="/") for n in range(count)]
        await eventually(lambda: len(marked(agent_id)) == count)
        adopted = [driver.recover(one, None) for one in specs]
        for running in adopted:
            os.kill(running.identity.pid, 9)
            await asyncio.wait_for(running.wait(), 10)
        driver.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(one_after_the_other())


async def test_a_service_is_found_by_its_mark_when_nothing_was_written_down(
    driver, spec, dead_agent, tmp_path
):
    said = tmp_path / "said"
    identity = dead_agent(child("escape-group", file=said))
    await eventually(lambda: text_of(said))
    running = driver.recover(spec(()), None)
    assert running.identity == identity
    assert driver.recover(spec((), key=ServiceKey("piper", "a")), None) is None
    assert driver.recover(spec((), key=ServiceKey("pipe")), None) is None
    await running.stop(QUICK)


async def test_another_agents_service_is_never_adopted(spec, dead_agent, tmp_path, agent_id):
    identity = dead_agent(("sleep", "60"))
    await eventually(lambda: marked(agent_id))
    other = ProcessDriver(tmp_path / "logs", "another-agent")
    assert other.recover(spec(()), identity) is None
    assert other.recover(spec(()), None) is None
    assert marked(agent_id) == [identity.pid]


@pytest.mark.checklist(
    23,
    "a remembered pid",
    "another program has it now",
    "neither adopted nor killed",
)
async def test_a_stranger_with_a_reused_pid_is_refused(driver, spec, tmp_path):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        proc = read_proc(stranger.pid)
        for identity in (
            Identity(stranger.pid, proc.start - 1, boot_id()),
            Identity(stranger.pid, proc.start, "another-boot"),
        ):
            assert driver.recover(spec(()), identity) is None
        assert stranger.poll() is None
        stranger.kill()


async def test_a_service_of_ours_with_another_name_is_refused(driver, spec, agent_id, dead_agent):
    identity = dead_agent(("sleep", "60"))
    await eventually(lambda: marked(agent_id))
    assert driver.recover(spec((), key=ServiceKey("vosk")), identity) is None


async def test_with_a_stale_identity_the_service_is_still_found(driver, spec, agent_id, dead_agent):
    identity = dead_agent(("sleep", "60"))
    await eventually(lambda: marked(agent_id))
    stale = replace(identity, pid=identity.pid, start_time=identity.start_time - 500)
    running = driver.recover(spec(()), stale)
    assert running.identity == identity
    await running.stop(QUICK)


@pytest.mark.parametrize(
    ("module", "step"), [(process, "open_log"), (Cell, "make"), (spawn, "_require_installed")]
)
async def test_a_start_that_is_held_up_before_its_program_begins_is_still_found_by_its_mark(
    spec, agent_id, tmp_path, monkeypatch, module, step
):
    at_once = getattr(module, step)

    def slowly(*args, **options):
        time.sleep(0.7)
        return at_once(*args, **options)

    first = ProcessDriver(tmp_path / "logs", agent_id)
    with monkeypatch.context() as patch:
        patch.setattr(module, step, slowly)
        identity = (await first.start(spec(("sleep", "60")))).identity
    first.close()
    await eventually(lambda: marked(agent_id))
    second = ProcessDriver(tmp_path / "logs", agent_id)
    running = second.recover(spec(()), None)
    assert running is not None
    assert running.identity == identity
    await running.stop(QUICK)
    second.close()


async def test_nothing_is_recovered_where_nothing_runs(driver, spec):
    assert driver.recover(spec(()), None) is None
    assert driver.recover(spec(()), Identity(1, 0, boot_id())) is None
    assert driver.recover(spec(()), Identity(0, 0, boot_id())) is None


async def test_a_start_ends_what_a_dead_agent_left_and_runs_once(
    driver, spec, agent_id, dead_agent, tmp_path
):
    said = tmp_path / "said"
    identity = dead_agent(child("engine", file=said))
    await eventually(lambda: text_of(said))
    os.kill(identity.pid, 9)
    await eventually(lambda: not alive(identity.pid))
    one = spec(("sleep", "60"), stop=QUICK)
    assert driver.recover(one, identity) is None
    running = await driver.start(one)
    await eventually(lambda: marked(agent_id) == [running.identity.pid])
    await running.stop(QUICK)


async def test_a_child_that_left_is_not_taken_for_the_service(
    driver, spec, agent_id, dead_agent, tmp_path
):
    said = tmp_path / "said"
    identity = dead_agent(("sh", "-c", f"sleep 1; setsid sleep 60 & echo $! > {said}; wait"))
    await eventually(lambda: len(marked(agent_id)) == 2 and text_of(said), within=20)
    await eventually(
        lambda: any(read_proc(pid).session == pid != identity.pid for pid in marked(agent_id))
    )
    os.kill(identity.pid, 9)
    await eventually(lambda: not alive(identity.pid))
    assert driver.recover(spec(()), identity) is None


async def test_a_child_that_left_at_once_is_not_taken_for_the_service_but_ended(
    driver, spec, agent_id, dead_agent, tmp_path
):
    said = tmp_path / "said"
    identity = dead_agent(child("escape-group", file=said))
    await eventually(lambda: text_of(said))
    os.kill(identity.pid, 9)
    await eventually(lambda: not alive(identity.pid))
    (left,) = marked(agent_id)
    one = spec((), stop=QUICK)
    assert driver.recover(one, identity) is None
    # A row that says that its last run is over knows no identity any more.
    assert driver.recover(one, None, after=identity.start_time / TICKS + 0.05) is None
    assert alive(left)
    sweep = driver.sweep(one)
    assert sweep is not None
    await asyncio.wait_for(sweep, 20)
    assert marked(agent_id) == []
    assert driver.sweep(one) is None


async def test_what_runs_is_not_swept_away(driver, spec, agent_id, dead_agent):
    identity = dead_agent(("sleep", "60"))
    await eventually(lambda: marked(agent_id))
    running = driver.recover(spec(()), identity)
    assert driver.sweep(spec((), key=ServiceKey("vosk"))) is None
    assert alive(identity.pid)
    await running.stop(QUICK)


async def test_a_job_of_a_dead_agent_is_ended_and_never_adopted(driver, spec, agent_id, dead_agent):
    dead_agent(("sleep", "60"), job=True)
    await eventually(lambda: marked(agent_id))
    one = spec(("sleep", "61"), stop=QUICK)
    (job,) = filter(None, map(read_proc, marked(agent_id)))
    for identity in (None, Identity(job.pid, job.start, boot_id())):
        assert driver.recover(one, identity) is None
    running = await driver.start(one)
    await eventually(lambda: marked(agent_id) == [running.identity.pid])
    await running.stop(QUICK)


async def test_an_agent_that_lets_go_and_another_that_takes_over_in_one_process(
    spec, agent_id, tmp_path
):
    first = ProcessDriver(tmp_path / "logs", agent_id)
    identity = (await first.start(spec(("sleep", "60")))).identity
    first.close()
    second = ProcessDriver(tmp_path / "logs", agent_id)
    running = second.recover(spec(()), identity)
    assert running.identity == identity
    # It is a child of this very process, so its status can be known for once.
    assert (await running.stop(QUICK)).exit == Exit(signal=15)
    second.close()


ORPHANS = """
import asyncio, os, sys, time
from pathlib import Path
from lictor.core.drivers.cgroup_find import discover
from lictor.core.drivers.process import ProcessDriver
from lictor.core.drivers.tree import Snapshot, become_subreaper
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

def zombies():
    return sum(proc.dead for proc in Snapshot.take().children.get(os.getpid(), ()))

async def main():
    assert become_subreaper()
    driver = ProcessDriver(Path(sys.argv[1]), "orphans", ground=discover(membership=0))
    script = "(setsid sh -c 'exit 0' & setsid sh -c 'exit 0' &) ; exec sleep 60"
    make = lambda name, *argv: ServiceSpec(key=ServiceKey(name), command=argv, cwd="/")
    service = await driver.start(make("a", "sh", "-c", script))
    dead = await driver.start(make("b", "sh", "-c", "exit 9"))
    while zombies() < 3:
        time.sleep(0.01)  # the loop does not turn: the main process of b stays a zombie
    total = driver.reap_orphans()
    assert total == 0, total
    time.sleep(1.1)
    total = driver.reap_orphans()
    print(total, (await dead.wait()).code)
    service.kill_now()
    print(-((await service.wait()).signal))

asyncio.run(main())
"""


async def test_a_subreaper_reaps_orphans_and_steals_no_status(tmp_path):
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", ORPHANS, str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"2", b"9", b"-9"]
