"""Cgroups: every process of a service is inside, limits hold, and nothing else is touched."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lictor.core.drivers.cgroup import Cells
from lictor.core.drivers.cgroup_find import Ground
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import Limits, StopSpec
from lictor.core.model.state import Exit
from tests.core.drivers.conftest import GROUNDS
from tests.support.children import alive, child, eventually, free_port, marked, text_of

QUICK = StopSpec(timeout=0.5)
KEY = ServiceKey("piper")

pytestmark = pytest.mark.skipif(len(GROUNDS) == 1, reason="no cgroups of our own on this host")


@pytest.fixture(params=[name for name in GROUNDS if name != "marks"])
def ground(request) -> Ground:
    return GROUNDS[request.param]


def cell_of(ground: Ground, agent_id: str):
    return Cells(agent_id, ground).cell(KEY, Limits())


def inside(ground: Ground, agent_id: str) -> list[int]:
    return sorted(cell_of(ground, agent_id).pids())


def folders(ground: Ground) -> set[str]:
    return {path.name for path in ground.base.iterdir()}


async def sealed(running) -> None:
    await eventually(lambda: running._cell.sealed)


async def test_a_service_that_forks_at_once_has_nobody_outside(driver, spec, agent_id, ground):
    script = "sleep 60 & setsid sleep 60 & (sleep 60 &) ; exec sleep 60"
    running = await driver.start(spec(("sh", "-c", script)))
    await eventually(lambda: len(marked(agent_id)) == 4)
    await sealed(running)
    await eventually(lambda: inside(ground, agent_id) == sorted(marked(agent_id)))
    assert running.containment == ground.name
    await running.stop(QUICK)
    assert marked(agent_id) == []


async def test_with_v1_a_child_is_born_inside(driver, spec, agent_id, ground):
    if ground.version != 1:
        pytest.skip("v2 is entered after the start")
    running = await driver.start(spec(("sleep", "60")))
    assert cell_of(ground, agent_id).pids() == [running.identity.pid]
    assert f":{ground.path.rstrip('/')}/lictor-" not in Path("/proc/thread-self/cgroup").read_text()
    await running.stop(QUICK)


async def test_many_that_start_together_are_all_sealed(driver, spec, agent_id, ground):
    started = [
        await driver.start(spec(("sleep", "60"), key=ServiceKey(f"s{number}")))
        for number in range(30)
    ]
    for running in started:
        await sealed(running)
    found = [
        Cells(agent_id, ground).cell(ServiceKey(f"s{number}"), Limits()).pids()
        for number in range(30)
    ]
    assert found == [[running.identity.pid] for running in started]
    await asyncio.gather(*(running.stop(QUICK) for running in started))
    assert marked(agent_id) == []


async def test_what_hid_from_session_and_mark_is_ended_by_the_next_agents_start(
    spec, agent_id, ground, tmp_path
):
    said = tmp_path / "said"
    first = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    running = await first.start(spec(child("scrubbed", file=said)))
    await eventually(lambda: text_of(said))
    await sealed(running)
    hidden = int(text_of(said).split()[0])
    os.kill(running.identity.pid, signal.SIGKILL)
    await running.wait()
    first.close()
    assert alive(hidden)
    second = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    one = spec(("sleep", "60"), stop=QUICK)
    assert second.recover(one, running.identity) is None
    fresh = await second.start(one)
    assert not alive(hidden)
    await fresh.stop(QUICK)
    second.close()


async def test_the_old_tree_is_gone_before_the_new_one_starts(driver, spec, agent_id, tmp_path):
    said = tmp_path / "said"
    running = await driver.start(spec(child("engine", port=free_port(), file=said)))
    await eventually(lambda: text_of(said))
    await sealed(running)
    old = marked(agent_id)
    os.kill(running.identity.pid, signal.SIGKILL)
    await running.wait()
    assert (await running.stop(StopSpec(timeout=0.2))).survivors == 0
    assert not any(alive(pid) for pid in old)
    fresh = await driver.start(spec(("sleep", "60")))
    await eventually(lambda: marked(agent_id) == [fresh.identity.pid])
    await fresh.stop(QUICK)


async def test_a_look_after_a_crash_takes_no_pass_over_the_process_table(driver, spec, monkeypatch):
    running = await driver.start(spec(("sleep", "60")))
    await sealed(running)
    os.kill(running.identity.pid, signal.SIGKILL)
    assert await running.wait() == Exit(signal=9)

    def refuse(*_args, **_kwargs):
        raise AssertionError("a pass over /proc")

    monkeypatch.setattr("lictor.core.drivers.tree.Snapshot.take", refuse)
    begun = time.perf_counter()
    report = await running.stop(QUICK)
    assert (report.exit, report.survivors) == (Exit(signal=9), 0)
    assert time.perf_counter() - begun < 0.5


async def test_an_adopted_service_is_held_by_its_cgroup_again(spec, agent_id, ground, tmp_path):
    said = tmp_path / "said"
    first = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    identity = (await first.start(spec(child("escape-group", file=said)))).identity
    await eventually(lambda: text_of(said))
    first.close()
    second = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    running = second.recover(spec(()), identity)
    await sealed(running)
    assert running.containment == ground.name
    await eventually(lambda: inside(ground, agent_id) == sorted(marked(agent_id)))
    await running.stop(QUICK)
    assert marked(agent_id) == []
    second.close()


async def test_a_service_that_was_started_without_a_cgroup_is_brought_into_one(
    spec, agent_id, ground, tmp_path
):
    said = tmp_path / "said"
    first = ProcessDriver(tmp_path / "logs", agent_id, ground=GROUNDS["marks"])
    started = await first.start(spec(child("grandchildren", count=3, file=said)))
    assert started.containment == "group, session, mark"
    await eventually(lambda: len(text_of(said).split()) == 6)
    first.close()
    second = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    running = second.recover(spec(()), started.identity)
    await sealed(running)
    await eventually(lambda: inside(ground, agent_id) == sorted(marked(agent_id)))
    await running.stop(QUICK)
    assert marked(agent_id) == []
    second.close()


#: An agent whose service dies, and a stranger that gets its number.
REUSED = """
import asyncio, os, signal, subprocess, sys
from pathlib import Path
from lictor.core.drivers.cgroup_find import discover
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec, StopSpec

def next_number(number):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))

async def main():
    logs, agent_id, version = sys.argv[1:]
    ground = discover(membership=int(version))
    driver, other = (ProcessDriver(Path(logs), agent_id, ground=ground) for _ in range(2))
    one = ServiceSpec(ServiceKey("piper"), command=("sleep", "60"), cwd="/")
    next_number(1000)  # far from those that the kernel keeps for itself elsewhere
    running = await driver.start(one)
    number = running.identity.pid
    while not running._cell.sealed:
        await asyncio.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    await running.wait()
    await asyncio.sleep(0.05)  # start times have the grain of a tick, 10 ms
    next_number(number)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    left = (await running.stop(StopSpec(timeout=0))).survivors
    found = other.recover(one, running.identity)
    print(stranger.pid == number, left, found, stranger.poll())
    other.close()
    driver.close()

asyncio.run(main())
"""
#: In a process table of its own nobody else forks, nor gets a number that has just died.
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


async def test_a_stranger_that_got_the_number_of_a_dead_service_lives_on(
    agent_id, ground, tmp_path
):
    chooses = (*ALONE, "sh", "-c", "echo 99 > /proc/sys/kernel/ns_last_pid")
    if shutil.which("unshare") is None or subprocess.run(chooses, check=False).returncode:
        pytest.skip("numbers of processes cannot be chosen here")
    agent = (sys.executable, "-c", REUSED, str(tmp_path), agent_id, str(ground.version))
    done = await asyncio.to_thread(
        subprocess.run, [*ALONE, *agent], check=True, stdout=subprocess.PIPE, timeout=60
    )
    assert done.stdout.decode().split() == ["True", "0", "None", "None"]


async def test_cells_are_removed_and_nothing_is_left_or_touched_beside_them(
    spec, agent_id, ground, tmp_path
):
    before = folders(ground)
    driver = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
    running = await driver.start(spec(("sleep", "60"), before=(("true",),)))
    assert (await driver.run_job(spec(()), ("true",))).clean
    name = f"lictor-{agent_id[:12]}"
    # (other agents of this machine come and go meanwhile)
    new = {one for one in folders(ground) - before if one == name or one[:7] != "lictor-"}
    assert new == {name}
    ours_path = ground.base / name
    assert [path.name for path in ours_path.iterdir() if path.is_dir()] == ["piper.run"]
    await running.stop(QUICK)
    driver.close()
    assert not ours_path.exists()


async def test_a_start_that_fails_leaves_no_cell(driver, spec, agent_id, ground):
    with pytest.raises(Exception, match="there is no program"):
        await driver.start(spec(("no-such-program",)))
    ours = [path for path in ground.base.glob("lictor-*") if path.name[7:] == agent_id[:12]]
    assert [path.name for path in ours[0].iterdir() if path.is_dir()] == []


def can_limit(ground: Ground, agent_id: str, **limits: float) -> bool:
    return Cells(agent_id, ground).unkept(Limits(**limits)) is None


STORM = """
import os, sys, time
made = 0
time.sleep(0.3)
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        made += 1
    except BlockingIOError:
        pass
print("made", made, flush=True)
time.sleep(60)
"""


async def test_a_storm_of_forks_is_held_at_the_limit(driver, spec, agent_id, ground):
    if not can_limit(ground, agent_id, tasks=12):
        pytest.skip("no pids controller")
    one = spec(("python3", "-S", "-E", "-c", STORM), limits=Limits(tasks=12))
    running = await driver.start(one)
    await eventually(lambda: "made" in text_of(driver.log_path(one)))
    assert int(text_of(driver.log_path(one)).split()[1]) == 11
    await eventually(lambda: len(marked(agent_id)) == 12)
    begun = time.monotonic()
    await running.stop(StopSpec(timeout=0))
    assert time.monotonic() - begun < 5
    assert marked(agent_id) == []
    # The next run is not held to what the end of this one needed.
    again = await driver.start(spec(("sh", "-c", "sleep 60 & sleep 60 & wait")))
    await eventually(lambda: len(marked(agent_id)) == 3)
    await again.stop(QUICK)


BUSY = "import time\nwhile True: pass"


async def test_a_busy_service_gets_its_part_of_a_cpu(driver, spec, agent_id, ground):
    if not can_limit(ground, agent_id, cpu=0.1):
        pytest.skip("no cpu controller")
    running = await driver.start(spec(("python3", "-S", "-c", BUSY), limits=Limits(cpu=0.1)))
    await sealed(running)
    await asyncio.sleep(0.5)

    def used() -> float:
        line = Path(f"/proc/{running.identity.pid}/stat").read_bytes().rpartition(b") ")[2]
        return sum(map(int, line.split()[11:13])) / os.sysconf("SC_CLK_TCK")

    before = used()
    await asyncio.sleep(2)
    assert used() - before < 0.6
    await running.stop(QUICK)


GREEDY = "import time\ntime.sleep(0.3)\nhoard = bytearray(256 << 20)\ntime.sleep(60)"


async def test_who_takes_more_memory_than_allowed_is_said_to_have_run_out_of_it(
    driver, spec, agent_id, ground
):
    if not can_limit(ground, agent_id, memory=64 << 20):
        pytest.skip("no memory controller of ours")
    one = spec(("python3", "-S", "-c", GREEDY), limits=Limits(memory=64 << 20))
    greedy = await driver.start(one)
    assert await asyncio.wait_for(greedy.wait(), 60) == Exit(signal=9, oom=True)
    await greedy.stop(QUICK)
    killed = await driver.start(spec(("sleep", "60"), limits=Limits(memory=64 << 20)))
    await sealed(killed)
    os.kill(killed.identity.pid, signal.SIGKILL)
    assert await killed.wait() == Exit(signal=9)
    await killed.stop(QUICK)


async def test_limits_that_cannot_be_kept_are_named(spec, agent_id, tmp_path):
    why = because("cgroup.none")
    driver = ProcessDriver(tmp_path, agent_id, ground=Ground(why=why))
    limited = spec((), limits=Limits(memory=1 << 20, tasks=5))
    assert driver.notes(limited) == (why, because("limits.no_effect", limits="memory, tasks"))
    assert driver.notes(spec(())) == (why,)
    driver.close()


async def test_an_agent_that_may_not_write_there_goes_on_without(spec, agent_id, ground, tmp_path):
    nowhere = Ground(2, base=tmp_path / "missing" / "deep")
    driver = ProcessDriver(tmp_path / "logs", agent_id, ground=nowhere)
    running = await driver.start(spec(("sleep", "60")))
    assert running.containment == "group, session, mark"
    assert [note.code for note in driver.notes(spec(()))] == ["cgroup.not_ours"]
    assert (await running.stop(QUICK)).exit == Exit(signal=15)
    driver.close()
