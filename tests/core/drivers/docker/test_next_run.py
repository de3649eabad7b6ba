"""The container of the next run is made while the present one goes on, against a real engine."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from lictor.core.drivers.docker.gate import Engine
from lictor.core.drivers.docker.terms import EngineRefused
from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import Limits, StopSpec
from tests.support.dockerd import IMAGE
from tests.support.patience import soon, until

NOW = StopSpec(signal="KILL", timeout=0.0)
PIPER = ServiceKey("piper")


def seen(engine, owner) -> dict[str, str]:
    """The state of each container of ours, by its name."""
    found = engine.api.containers(all=True, filters={"label": f"lictor.owner={owner}"})
    return {one["Names"][0].lstrip("/"): one["State"] for one in found}


def id_of(engine, name: str) -> str:
    return str(engine.inspect(name)["Id"])


async def refused(preparing) -> StartFailed:
    with pytest.raises(StartFailed) as failed:
        await soon(preparing, seconds=60)
    return failed.value


async def test_it_is_there_before_the_present_one_ends_and_is_what_runs_then(
    driver, engine, spec, owner
):
    since = time.time()
    name, key = f"fixed-{owner[:8]}", {"docker": {"name": f"fixed-{owner[:8]}"}}
    present = await soon(driver.start(spec("sleep", "300", **key)))
    await soon(driver.prepare(spec("sleep", "400", **key)))
    made = id_of(engine, f"{name}.next")
    assert seen(engine, owner) == {name: "running", f"{name}.next": "created"}
    assert present.exit is None
    await soon(present.stop(NOW))
    running = await soon(driver.start(spec("sleep", "400", **key)))
    assert running.id == made
    assert seen(engine, owner) == {name: "running"}
    assert engine.inspect(name)["Config"]["Cmd"] == ["sleep", "400"]
    await soon(running.stop(NOW))
    assert engine.made_and_ended(owner, since) == [
        *[("create", present.id), ("create", made)],
        *[("die", present.id), ("die", made)],
    ]


async def test_it_is_made_once_and_anew_when_the_definition_changes(driver, engine, spec, owner):
    present = await soon(driver.start(spec("sleep", "300")))
    await soon(driver.prepare(spec("sleep", "400")))
    first = id_of(engine, "lictor-n1-piper.next")
    await soon(driver.prepare(spec("sleep", "400")))
    assert id_of(engine, "lictor-n1-piper.next") == first
    await soon(driver.prepare(spec("sleep", "500")))
    second = id_of(engine, "lictor-n1-piper.next")
    assert second != first
    # What a run is given besides its definition counts as well: this is not what was prepared.
    await soon(present.stop(NOW))
    running = await soon(driver.start(spec("sleep", "500", limits=Limits(tasks=20))))
    assert running.id != second
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    assert engine.inspect(running.id)["HostConfig"]["PidsLimit"] == 20
    await soon(running.stop(NOW))


async def test_the_way_back_removes_it(driver, engine, spec, owner):
    present = await soon(driver.start(spec("sleep", "300")))
    await soon(driver.prepare(spec("sleep", "400")))
    await soon(present.stop(NOW))
    back = await soon(driver.start(spec("sleep", "300")))
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    await soon(driver.prepare(spec("sleep", "400")))
    await soon(driver.forgo(PIPER))
    await soon(driver.forgo(PIPER))
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    assert back.exit is None
    await soon(back.stop(NOW))


async def test_a_run_that_goes_on_after_all_is_kept_and_it_goes(
    make_driver, driver, engine, spec, owner
):
    one = spec("sleep", "300")
    present = await soon(driver.start(one))
    other = make_driver(engine.address)
    await soon(other.prepare(one))
    assert (await soon(other.start(one))).id == present.id
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    await soon(present.stop(NOW))


async def test_what_an_agent_that_was_killed_had_made_is_no_run_and_goes(
    make_driver, driver, engine, spec, ears, owner
):
    present = await soon(driver.start(spec("sleep", "300")))
    await soon(driver.prepare(spec("sleep", "400")))
    driver.close()
    adopted = []
    later = make_driver(engine.address)
    # (the later agent knows of no run: it takes what the driver gives it)
    ears.found = lambda _: adopted.append(later.recover(spec("sleep", "400"), None)) or True
    await until(lambda: seen(engine, owner) == {"lictor-n1-piper": "running"})
    await until(lambda: adopted)
    assert [one.id for one in adopted] == [present.id]
    await soon(adopted[0].stop(NOW))
    assert later.recover(spec("sleep", "400"), None) is None


async def test_one_that_the_engine_made_for_a_killed_agent_after_all_is_in_nobodys_way(
    driver, engine, spec, owner
):
    present = await soon(driver.start(spec("sleep", "300")))
    left = engine.api.create_container(
        IMAGE,
        ["sleep", "1"],
        name="lictor-n1-piper.next",
        labels={"lictor.owner": owner, "lictor.service": "piper"},
    )["Id"]
    await soon(driver.prepare(spec("sleep", "400")))
    assert id_of(engine, "lictor-n1-piper.next") != left
    await soon(present.stop(NOW))
    running = await soon(driver.start(spec("sleep", "400")))
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    await soon(running.stop(NOW))


async def test_what_somebody_removed_is_made_anew(driver, engine, spec, owner):
    present = await soon(driver.start(spec("sleep", "300")))
    one = spec("sleep", "400")
    await soon(driver.prepare(one))
    engine.api.remove_container("lictor-n1-piper.next")
    await soon(driver.prepare(one))
    assert "lictor-n1-piper.next" in seen(engine, owner)
    engine.api.remove_container("lictor-n1-piper.next")
    await soon(present.stop(NOW))
    running = await soon(driver.start(one))
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    await soon(running.stop(NOW))


async def test_what_the_engine_would_refuse_is_said_while_the_present_one_goes_on(
    driver, engine, spec, owner
):
    present = await soon(driver.start(spec("sleep", "300")))
    failed = await refused(driver.prepare(spec("sleep", "400", limits=Limits(memory=1 << 20))))
    assert failed.reason_code == "docker.refused"
    assert "memory" in failed.message
    failed = await refused(driver.prepare(spec("sleep", "400", docker={"volumes": ("a:b:c:d",)})))
    assert failed.reason_code == "docker.refused"
    assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    assert present.exit is None
    await soon(present.stop(NOW))


@pytest.mark.parametrize("name", ["theirs", "lictor-n1-piper.next"])
async def test_a_name_that_somebody_else_has_is_said_and_his_container_left_alone(
    driver, engine, spec, owner, name
):
    present = await soon(driver.start(spec("sleep", "300")))
    theirs = engine.run(name, **{"lictor.service": "piper", "lictor.owner": "other"})
    docker = {"name": "theirs"} if name == "theirs" else {}
    try:
        failed = await refused(driver.prepare(spec("sleep", "400", docker=docker)))
        assert failed.reason_code == "docker.name_taken"
        assert failed.params == {"name": name, "image": IMAGE, "container": theirs[:12]}
        assert engine.inspect(theirs)["State"]["Running"]
        assert seen(engine, owner) == {"lictor-n1-piper": "running"}
        assert present.exit is None
    finally:
        engine.api.remove_container(theirs, force=True)
    await soon(present.stop(NOW))


async def test_a_name_that_somebody_takes_in_between_is_a_start_that_says_so(
    driver, engine, spec, owner
):
    present = await soon(driver.start(spec("sleep", "300")))
    one = spec("sleep", "400")
    await soon(driver.prepare(one))
    await soon(present.stop(NOW))
    renaming, theirs = Engine.rename, []

    def late(gate, *args):
        theirs.append(engine.run("lictor-n1-piper"))
        return renaming(gate, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "rename", late)
        failed = await refused(driver.start(one))
    try:
        assert failed.reason_code == "docker.name_taken"
        assert engine.inspect(theirs[0])["State"]["Running"]
        assert seen(engine, owner) == {}
    finally:
        engine.api.remove_container(theirs[0], force=True)


async def test_a_preparation_that_is_given_up_leaves_nothing(driver, engine, spec, owner):
    present = await soon(driver.start(spec("sleep", "300")))
    for delay in (0.0, 0.01, 0.02, 0.05, 0.1):
        preparing = asyncio.create_task(driver.prepare(spec("sleep", str(400 + delay))))
        await asyncio.sleep(delay)
        preparing.cancel()
        await soon(asyncio.wait([preparing]))
        if not preparing.cancelled():
            await soon(driver.forgo(PIPER))
        assert seen(engine, owner) == {"lictor-n1-piper": "running"}
    await soon(present.stop(NOW))


async def test_a_job_before_the_next_run_leaves_it_alone(driver, engine, spec, owner):
    present = await soon(driver.start(spec("sleep", "300")))
    one = spec("sleep", "400")
    await soon(driver.prepare(one))
    made = id_of(engine, "lictor-n1-piper.next")
    await soon(present.stop(NOW))
    assert (await soon(driver.run_job(one, ("sh", "-c", "exit 3")))).code == 3
    running = await soon(driver.start(one))
    assert running.id == made
    await soon(running.stop(NOW))


# --- what is told ------------------------------------------------------------------------------


async def test_why_a_start_was_refused_is_not_hidden_by_a_removal_that_fails(
    driver, engine, spec, owner
):
    def fails(_gate, _container, _limit):
        raise EngineRefused("the disk is gone", 500)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "remove", fails)
        failed = await refused(driver.start(spec("/no/such/program", docker={"init": False})))
    assert failed.reason_code == "docker.start_refused"
    assert "no such file" in failed.message
    assert seen(engine, owner) == {"lictor-n1-piper": "created"}


async def test_a_start_that_joins_the_build_of_a_preparation_shows_how_far_it_is(
    driver, engine, spec, ears, tmp_path
):
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN sleep 2\nENV A=b\n")
    image = f"joined-{os.getpid()}:1"
    one = spec("sleep", "300", docker={"image": image, "build": "."})
    preparing = asyncio.create_task(driver.prepare(one))
    await until(lambda: driver._needs._images._builds)
    assert ears.progress == []
    running = await soon(driver.start(one), seconds=60)
    await soon(preparing)
    steps = [str(said.params["step"]) for key, said in ears.progress if key == "piper"]
    assert len(steps) == len(set(steps))
    assert any(step.startswith("Step 3/3") for step in steps)
    await soon(driver.forgo(PIPER))
    await soon(running.stop(NOW))
    engine.api.remove_image(image, force=True)
