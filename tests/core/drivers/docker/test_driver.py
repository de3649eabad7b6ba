"""The docker driver against a real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lictor.core.drivers.docker import room
from lictor.core.drivers.docker.gate import Engine
from lictor.core.drivers.docker.request import service_request
from lictor.core.errors import StartFailed
from lictor.core.model.spec import Limits, LogSpec, StopSpec
from lictor.core.model.state import Exit
from tests.core.drivers.docker.conftest import LOOP, Pauses
from tests.support.dockerd import IMAGE
from tests.support.patience import soon, until

NOW = StopSpec(signal="KILL", timeout=0.0)
SOON = StopSpec(timeout=10.0)


def log_of(driver, one) -> list[str]:
    path = driver.log_path(one)
    return path.read_text().splitlines() if path.exists() else []


def owned(engine, owner) -> list[dict]:
    return engine.api.containers(all=True, filters={"label": f"lictor.owner={owner}"})


def nobody_copies() -> bool:
    """An agent that was killed writes no more; one that only let go is given the moment it needs."""
    return all(one.name != "docker-log" for one in threading.enumerate())


async def refused(starting) -> StartFailed:
    with pytest.raises(StartFailed) as failed:
        await soon(starting, seconds=60)
    return failed.value


# --- starting --------------------------------------------------------------------------------


async def test_a_container_runs_as_the_definition_says(driver, engine, spec, owner, tmp_path):
    one = spec(
        "sh",
        "-c",
        f"env; id; {LOOP}",
        docker={"shm_size": 1 << 20, "ipc": "private", "volumes": ("./d:/d",)},
        env={"SECRET": "s3cret", "HOME": os.environ.get("HOME", "/")},
        user="1000",
        group="50",
        limits=Limits(memory=64 << 20, cpu=0.5, tasks=20),
        log=LogSpec(max_size=1 << 20),
    )
    (tmp_path / "d").mkdir()
    running = await soon(driver.start(one))
    found = engine.inspect("lictor-n1-piper")
    host = found["HostConfig"]
    assert found["Id"] == running.identity.container_id
    assert found["Config"]["Labels"]["lictor.fingerprint"] == one.fingerprint()
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (500_000_000, 20, 1 << 20)
    assert (host["RestartPolicy"]["Name"], host["Init"], host["IpcMode"]) == ("no", True, "private")
    assert host["Binds"] == [f"{tmp_path}/d:/d"]
    assert host["LogConfig"]["Config"] == {"max-size": str(1 << 20), "max-file": "2"}
    await until(lambda: any("uid=1000 gid=50" in line for line in log_of(driver, one)))
    said = log_of(driver, one)
    assert "SECRET=s3cret" in said
    assert "LICTOR_SERVICE=piper" in said
    assert f"HOME={os.environ.get('HOME')}" not in said
    await soon(running.stop(NOW))


async def test_its_main_process_is_known_where_this_host_shows_it(driver, engine, spec):
    running = await soon(driver.start(spec()))
    pid = running.identity.pid
    assert pid == engine.inspect(running.id)["State"]["Pid"]
    assert running.id in Path(f"/proc/{pid}/cgroup").read_text()
    assert running.identity.start_time > 0
    await soon(running.stop(NOW))
    assert not Path(f"/proc/{pid}").exists()


async def test_ports_are_published_on_loopback_and_gpus_asked_for_by_uuid(engine, spec, owner):
    # (This engine has no network to publish on, and no GPU: what it was asked for is looked at.)
    gate = Engine(engine.address)
    one = spec(docker={"ports": ("8000:80", "0.0.0.0:9000:90")}, gpus=("GPU-a", "GPU-b"))
    request = replace(service_request(one, owner=owner, node="n1"), gpu_by="nvidia")
    made = await asyncio.to_thread(gate.create, request, 30)
    host = engine.inspect(made)["HostConfig"]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}],
        "90/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9000"}],
    }
    (devices,) = host["DeviceRequests"]
    assert (devices["DeviceIDs"], devices["Capabilities"]) == (["GPU-a", "GPU-b"], [["gpu"]])
    assert devices["Count"] == 0
    engine.remove_of(owner)


async def test_an_image_that_is_missing_is_named_and_not_pulled(driver, engine, spec, owner):
    failed = await refused(driver.start(spec(docker={"image": "nobody/nothing:1"})))
    assert failed.reason_code == "docker.image_missing"
    assert failed.params == {"image": "nobody/nothing:1", "service": "piper"}
    assert owned(engine, owner) == []


async def test_what_the_next_run_would_lack_is_said_while_the_present_one_goes_on(
    driver, engine, spec, owner
):
    running = await driver.start(spec("sleep", "300"))
    await driver.prepare(spec("sleep", "400"))
    failed = await refused(driver.prepare(spec(docker={"image": "nobody/nothing:1"})))
    assert failed.reason_code == "docker.image_missing"
    assert [one["Id"] for one in owned(engine, owner)] == [running.identity.container_id]
    assert running.exit is None
    await soon(running.stop(NOW))


async def test_a_program_that_is_missing_leaves_no_container_behind(driver, engine, spec, owner):
    failed = await refused(driver.start(spec("/no/such/program", docker={"init": False})))
    assert failed.reason_code == "docker.start_refused"
    assert "no such file" in failed.message
    assert owned(engine, owner) == []


async def test_a_program_that_the_init_does_not_find_is_told_in_the_log(driver, spec, last_words):
    one = spec("/no/such/program")
    running = await soon(driver.start(one))
    assert await soon(running.wait()) == Exit(code=127)
    assert "/no/such/program" in log_of(driver, one)[-1]
    await soon(running.stop(NOW))


async def test_gpus_on_an_engine_without_support_are_refused_before_anything_is_made(
    driver, engine, spec, owner
):
    failed = await refused(driver.start(spec(gpus=("GPU-1",))))
    assert failed.reason_code == "docker.no_gpu_support"
    assert owned(engine, owner) == []


@pytest.mark.parametrize("own_engine", [("--add-runtime", "nvidia=/usr/sbin/runc")], indirect=True)
async def test_a_gpu_that_the_engine_cannot_give_after_all_leaves_no_container(
    make_driver, own_engine, spec, owner
):
    driver = make_driver(own_engine.address)
    assert (await soon(driver.facts())).gpu == "nvidia"
    failed = await refused(driver.start(spec(gpus=("GPU-1",))))
    assert failed.reason_code == "docker.start_refused"
    assert "could not select device driver" in failed.message
    assert owned(own_engine, owner) == []


async def test_a_container_with_our_name_and_another_owner_is_never_touched(
    driver, engine, spec, owner
):
    theirs = engine.run("lictor-n1-piper", **{"lictor.service": "piper", "lictor.owner": "other"})
    try:
        failed = await refused(driver.start(spec()))
        assert failed.reason_code == "docker.name_taken"
        assert failed.params["container"] == theirs[:12]
        assert engine.inspect(theirs)["State"]["Running"]
        assert owned(engine, owner) == []
    finally:
        engine.api.remove_container(theirs, force=True)


async def test_what_an_earlier_run_left_is_removed_and_what_runs_the_same_is_kept(
    make_driver, driver, engine, spec, owner
):
    first = await soon(driver.start(spec()))
    again = await soon(make_driver(engine.address).start(spec()))
    assert again.id == first.id
    changed = await soon(make_driver(engine.address).start(spec("sleep", "500")))
    assert changed.id != first.id
    assert [one["Id"] for one in owned(engine, owner)] == [changed.id]
    assert await soon(first.wait()) == Exit(signal=signal.SIGKILL)


async def test_a_network_is_made_once_and_joined(driver, engine, spec, owner):
    # (An engine without iptables may still make a bridge; where it may not, it says so.)
    name = f"net-{owner[:8]}"
    gate = Engine(engine.address)
    try:
        made = await asyncio.to_thread(gate.need_network, name, owner, 30)
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"no bridge can be made here: {error}")
    assert made
    assert not await asyncio.to_thread(gate.need_network, name, owner, 30)
    running = await soon(driver.start(spec(docker={"network": name})))
    assert name in engine.inspect(running.id)["NetworkSettings"]["Networks"]
    await soon(running.stop(NOW))
    engine.api.remove_network(name)


async def test_an_image_is_built_from_its_folder_with_progress(
    driver, engine, spec, ears, tmp_path, last_words
):
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY hello /hello\nENV A=b\n")
    (folder / "hello").write_text("built\n")
    image = f"built-{os.getpid()}:1"
    one = spec("cat", "/hello", docker={"image": image, "build": "./image"})
    running = await soon(driver.start(one), seconds=60)
    assert await soon(running.wait()) == Exit(code=0)
    assert log_of(driver, one) == ["built"]
    steps = [said.params["step"] for key, said in ears.progress if said.code == "docker.building"]
    assert any(str(step).startswith("Step 2/3") for step in steps)
    await soon(running.stop(NOW))
    engine.api.remove_image(image, force=True)


async def test_an_image_that_cannot_be_built_says_why(driver, spec, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY missing /x\n")
    failed = await refused(driver.start(spec(docker={"image": "unbuilt:1", "build": "."})))
    assert failed.reason_code == "docker.build_failed"
    assert "missing" in failed.message


async def test_a_start_that_is_given_up_leaves_nothing(driver, engine, spec, owner):
    await soon(driver.facts())
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2):
        starting = asyncio.create_task(driver.start(spec()))
        await asyncio.sleep(delay)
        starting.cancel()
        await soon(asyncio.wait([starting]))
        if not starting.cancelled():
            await soon(starting.result().stop(NOW))
        assert owned(engine, owner) == []


# --- ending ----------------------------------------------------------------------------------


async def test_an_exit_is_noticed_by_its_event_and_its_last_line_is_there(
    monkeypatch, make_driver, engine, spec, last_words
):
    monkeypatch.setattr(room, "_EVERY", 600.0)  # no regular look comes to its aid
    driver = make_driver(engine.address)
    one = spec("sh", "-c", "sleep 0.5; echo goodbye; exit 7")
    running = await soon(driver.start(one))
    assert await soon(running.wait()) == Exit(code=7)
    assert log_of(driver, one)[-1] == "goodbye"
    await soon(running.stop(NOW))


async def test_an_end_that_is_told_before_the_start_knows_that_it_runs_is_not_lost(
    monkeypatch, make_driver, engine, spec
):
    monkeypatch.setattr(room, "_EVERY", 600.0)  # no regular look comes to its aid
    driver, heard = make_driver(engine.address), threading.Event()
    stirred, inspect = driver.stirred, Engine.inspect

    def hear(container, action, code):
        stirred(container, action, code)
        if action == "die":
            heard.set()

    def slow(gate, container, limit):
        found = inspect(gate, container, limit)
        if found is not None and found.alive:
            heard.wait(9)  # the answer takes longer than the event of its end
        return found

    monkeypatch.setattr(driver, "stirred", hear)
    monkeypatch.setattr(Engine, "inspect", slow)
    await soon(driver.facts())
    await asyncio.sleep(1)  # the look that follows the first listing is over
    running = await soon(driver.start(spec("sh", "-c", "sleep 1; exit 7")))
    await until(heard.is_set)
    assert await soon(running.wait(), seconds=8) == Exit(code=7)
    await soon(running.stop(NOW))


async def test_a_lack_of_memory_is_told_from_a_kill(driver, engine, spec):
    one = spec("tail", "/dev/zero", limits=Limits(memory=16 << 20))
    running = await soon(driver.start(one))
    assert await soon(running.wait(), seconds=60) == Exit(signal=9, oom=True)
    await soon(running.stop(NOW))
    running = await soon(driver.start(spec()))
    engine.api.kill(running.id, "KILL")
    assert await soon(running.wait()) == Exit(signal=9)
    await soon(running.stop(NOW))


async def test_a_stop_removes_the_container_and_its_output_is_all_there(
    driver, engine, spec, owner
):
    one = spec("sh", "-c", "trap 'seq 1 5000; exit 0' TERM; echo up; " + LOOP)
    running = await soon(driver.start(one))
    await until(lambda: log_of(driver, one) == ["up"])
    report = await soon(running.stop(SOON))
    assert (report.exit, report.killed) == (Exit(code=0), False)
    assert log_of(driver, one) == ["up", *(str(number) for number in range(1, 5001))]
    assert owned(engine, owner) == []


async def test_an_exit_whose_event_was_lost_is_found_by_the_next_look(
    monkeypatch, make_driver, engine, spec
):
    monkeypatch.setattr(room, "_TELLING", frozenset())  # every event falls on deaf ears
    driver = make_driver(engine.address)
    running = await soon(driver.start(spec("sh", "-c", "sleep 0.5; exit 7")))
    assert await soon(running.wait()) == Exit(code=7)
    await soon(running.stop(NOW))


async def test_a_container_that_somebody_removed_has_ended(driver, engine, spec):
    running = await soon(driver.start(spec()))
    engine.api.remove_container(running.id, force=True)
    assert not (await soon(running.wait())).clean
    assert not (await soon(running.stop(SOON))).killed


async def test_a_paused_container_can_be_stopped(driver, engine, spec, owner):
    running = await soon(driver.start(spec()))
    try:
        engine.api.pause(running.id)
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"this host cannot freeze: {error}")
    await soon(running.stop(StopSpec(timeout=0.5)), seconds=40)
    assert owned(engine, owner) == []


# --- taking over -----------------------------------------------------------------------------


async def test_output_is_copied_once_and_whole_over_many_agents(make_driver, driver, engine, spec):
    count = 1500
    one = spec("sh", "-c", f"for i in $(seq 1 {count}); do echo line $i; done; {LOOP}")
    running = await soon(driver.start(one))
    for pause in (0.0, 0.01, 0.02, 0.05):
        await asyncio.sleep(pause)
        driver.close()
        await until(nobody_copies)
        driver = make_driver(engine.address)
        assert driver.recover(one, running.identity) is not None
    await until(lambda: len(log_of(driver, one)) >= count)
    await asyncio.sleep(0.3)
    assert log_of(driver, one) == [f"line {number}" for number in range(1, count + 1)]


async def test_a_long_line_is_one_line_again_and_no_part_is_doubled(
    make_driver, driver, engine, spec
):
    # Docker hands a line over 16 KiB on in parts, which all have the same time.
    one = spec("sh", "-c", f"seq 1 20000 | while read -r a; do echo -n $a,; done; echo; {LOOP}")
    running = await soon(driver.start(one))
    driver.close()
    await until(nobody_copies)
    other = make_driver(engine.address)
    other.recover(one, running.identity)
    await until(lambda: any(line.endswith("20000,") for line in log_of(other, one)), seconds=60)
    assert log_of(other, one) == ["".join(f"{number}," for number in range(1, 20001))]


async def test_a_run_that_ended_while_nobody_looked_still_tells_how(
    make_driver, driver, engine, spec
):
    one = spec("sh", "-c", "sleep 0.3; exit 5")
    running = await soon(driver.start(one))
    driver.close()
    await until(lambda: not engine.inspect(running.id)["State"]["Running"])
    found = make_driver(engine.address).recover(one, running.identity)
    assert await soon(found.wait()) == Exit(code=5)
    await soon(found.stop(NOW))


async def test_a_run_that_nobody_holds_is_offered_to_its_service_or_ended(
    make_driver, driver, engine, spec, ears, owner
):
    await soon(driver.start(spec()))
    driver.close()
    make_driver(engine.address)
    await until(lambda: set(ears.strays) == {"piper"})  # (each look tells of it)
    assert len(owned(engine, owner)) == 1
    ears.knows = False
    make_driver(engine.address)
    await until(lambda: owned(engine, owner) == [])


# --- an engine that is away --------------------------------------------------------------------


async def test_a_frozen_engine_costs_a_reason_and_never_the_loop(
    make_driver, own_engine, spec, ears
):
    driver = make_driver(own_engine.address)
    running = await soon(driver.start(spec()))
    loop = asyncio.get_running_loop()
    own_engine.freeze()
    try:
        begun = loop.time()
        await until(lambda: "docker.unreachable" in ears.troubles, seconds=40)
        assert loop.time() - begun < 30
        failed = await refused(driver.start(spec(key="other")))
        assert failed.reason_code == "docker.unreachable"
        stopping = asyncio.create_task(running.stop(StopSpec(timeout=1.0)))
        longest, last = 0.0, loop.time()
        with Pauses() as anybody:
            for _ in range(50):
                await asyncio.sleep(0.02)
                longest, last = max(longest, loop.time() - last), loop.time()
        assert longest < anybody.longest + 1.0
        assert not stopping.done()
    finally:
        own_engine.thaw()
    assert (await soon(stopping, seconds=40)).exit.signal == signal.SIGTERM
    assert ears.troubles[-1] is None


async def test_an_engine_that_is_not_there_is_named_and_found_when_it_comes(
    make_driver, spec, ears, tmp_path, own_engine
):
    own_engine.stop()
    driver = make_driver(own_engine.address)
    failed = await refused(driver.start(spec()))
    assert failed.reason_code in {"docker.absent", "docker.unreachable"}
    await asyncio.to_thread(own_engine.start)
    await until(lambda: ears.troubles[-1] is None, seconds=40)
    running = await soon(driver.start(spec()))
    await soon(running.stop(NOW))


@pytest.mark.parametrize("own_engine", [("--live-restore",), ()], indirect=True)
async def test_an_engine_that_was_killed_and_is_back_tells_what_became_of_the_container(
    request, make_driver, own_engine, spec, ears
):
    driver = make_driver(own_engine.address)
    one = spec("sh", "-c", f"echo before; {LOOP}")
    running = await soon(driver.start(one))
    await until(lambda: log_of(driver, one) == ["before"])
    own_engine.kill()
    await until(lambda: ears.troubles[-1] is not None, seconds=40)
    waiting = asyncio.create_task(running.wait())
    await asyncio.sleep(0.3)
    assert not waiting.done()  # unknown is not ended
    await asyncio.to_thread(own_engine.start)
    await until(lambda: ears.troubles[-1] is None, seconds=40)
    if own_engine.inspect(running.id)["State"]["Running"]:
        await asyncio.sleep(0.5)
        assert not waiting.done()
        own_engine.api.kill(running.id, "KILL")
    assert not (await soon(waiting)).clean  # by an event of the new engine, or by the listing
    await soon(running.stop(SOON))
    assert log_of(driver, one) == ["before"]
