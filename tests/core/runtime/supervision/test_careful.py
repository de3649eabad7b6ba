"""A service whose engine falls silent, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lictor.core.errors import StartFailed
from lictor.core.model.container import ContainerSpec
from lictor.core.model.reason import because
from lictor.core.model.spec import HealthSpec, ProbeSpec
from lictor.core.model.state import Exit, Health, Phase
from lictor.core.ports import ProbeResult
from tests.core.build import want
from tests.core.virtual import virtual
from tests.core.world import CarefulDriver, World

URL = "http://127.0.0.1:5000/info"
PROBE = ProbeSpec("http", URL, interval=10.0)
MUTE = because("docker.unreachable", address="unix:///x", why="no answer in time")


class Boxes(CarefulDriver):
    """Runs that are containers."""

    def __init__(self) -> None:
        super().__init__(kind="docker")

    async def start(self, spec):
        run = await super().start(spec)
        run._identity = replace(run.identity, container_id=f"c{run.identity.pid}")
        return run


def world(*wants, **options) -> World:
    return World(*wants, driver=Boxes(), **options)


def mute() -> StartFailed:
    return StartFailed("mute", reason_code=MUTE.code, params=dict(MUTE.params))


@virtual
async def test_a_running_service_is_unknown_while_nobody_can_say_and_then_what_it_was():
    here = world(want(health=HealthSpec(probe=PROBE)))
    before = await here.until("ready")
    here["piper"].doubt(MUTE)
    assert here.state().reason == MUTE
    assert here.state().identity == before.identity
    await asyncio.sleep(100)
    assert here.phase() == "unknown"
    here["piper"].doubt(None)
    after = here.state()
    assert (after.phase, after.reason) == (Phase.READY, before.reason)
    assert (after.restarts, after.ready_since) == (0, before.ready_since)
    assert len(here.driver.started) == 1


@virtual
async def test_what_happened_meanwhile_is_told_afterwards():
    here = world(want())
    await here.until("ready")
    here["piper"].doubt(MUTE)
    run = here.running()
    here["piper"].doubt(None)
    run.end(Exit(code=3))
    await here.until("backoff", within=60)
    assert here.state().last_exit == Exit(code=3)
    assert (await here.until("ready")).restarts == 1


@virtual
async def test_a_service_that_gets_ready_in_the_dark_is_ready_in_the_light():
    here = world(want(health=HealthSpec(probe=PROBE)))
    here.prober.script(URL, *[ProbeResult(passed=False, output="loading")] * 20)
    await asyncio.sleep(1)
    assert here.phase() == "starting"
    here["piper"].doubt(MUTE)
    await asyncio.sleep(60)
    assert here.phase() == "unknown"
    here["piper"].doubt(None)
    assert here.phase() == "ready"


@virtual
async def test_nothing_is_ordered_of_what_is_unknown():
    here = world(want())
    await here.until("ready")
    here["piper"].doubt(MUTE)
    here.want(want(state="stopped"))
    await asyncio.sleep(100)
    assert here.running().stops == []
    here["piper"].doubt(None)
    await here.until("stopped")


@virtual
async def test_a_stop_that_is_under_way_goes_on_behind_the_veil():
    here = world(want())
    await here.until("ready")
    here.driver.runs[0].stop_takes = 30.0
    here.want(want(state="stopped", stop=replace(want().spec.stop, timeout=60.0)))
    await here.until("stopping")
    here["piper"].doubt(MUTE)
    assert here.phase() == "unknown"
    here["piper"].doubt(None)
    assert here.phase() == "stopping"
    await here.until("stopped")
    assert len(here.driver.runs[0].stops) == 1


@virtual
async def test_a_start_without_an_answer_is_neither_a_success_nor_a_failure():
    here = world()
    here.driver.fail(mute(), mute())
    here.want(want())
    state = await here.until("unknown")
    assert (state.reason, state.failures, state.restarts) == (MUTE, 0, 0)
    await asyncio.sleep(100)
    assert here.phase() == "unknown"
    for _ in range(2):
        here["piper"].doubt(None)
        await asyncio.sleep(1)
    state = await here.until("ready")
    assert (state.failures, state.restarts) == (0, 0)


@virtual
async def test_a_service_that_does_not_run_is_in_no_doubt():
    here = world(want(state="stopped"))
    here["piper"].doubt(MUTE)
    assert here.phase() == "stopped"


@virtual
async def test_a_process_is_in_no_doubt_about_an_engine():
    here = World(want())
    await here.until("ready")
    here["piper"].doubt(MUTE)
    assert here.phase() == "ready"


@virtual
async def test_the_next_agent_does_not_inherit_the_doubt():
    first = world(want(health=HealthSpec(probe=PROBE)))
    await first.until("ready")
    first["piper"].doubt(MUTE)
    first.die()
    second = World(after=first)
    assert second.phase() == "ready"
    assert second.state().adopted
    assert len(second.driver.started) == 1


@virtual
async def test_the_next_agent_starts_what_had_no_answer():
    first = world()
    first.driver.fail(mute())
    first.want(want())
    await first.until("unknown")
    first.die()
    second = World(after=first)
    await second.until("ready")


@virtual
async def test_progress_is_the_reason_only_while_it_starts():
    here = world(want())
    said = because("docker.building", image="i", step="1")
    here.driver.start_takes = 5.0
    await asyncio.sleep(1)
    here["piper"].told(said)
    assert here.state().reason == said
    await here.until("ready")
    here["piper"].told(said)
    assert here.state().reason == because("ready")


@pytest.mark.parametrize(("network", "refused"), [("host", True), ("none", False), (None, False)])
@virtual
async def test_a_port_that_is_taken_is_named_where_the_container_would_bind_it(network, refused):
    here = world()
    here.taken[5000] = (77, "nginx")
    container = ContainerSpec("i", network=network)
    here.want(want(port=5000, driver="docker", docker=container))
    state = await here.until("backoff" if refused else "ready")
    assert (state.reason.code == "start.port_taken") is refused


@virtual
async def test_a_container_gets_its_whole_time_however_long_its_image_took():
    here = world()
    here.driver.start_takes = 40.0
    here.prober.script(PROBE.target, *[ProbeResult(passed=False, output="loads")] * 3)
    here.want(want(health=HealthSpec(probe=PROBE, startup=5.0)))
    await here.until("ready", within=60)
    assert len(here.driver.runs) == 1


# --- who is silent because it works ---------------------------------------------------------------


@virtual
async def test_a_silence_that_began_before_it_was_seen_to_work_counts_no_more():
    here = World(want(health=HealthSpec(probe=PROBE, failures=2)))
    here.consul_watches = True  # it tells an edge, and says no more while it stays silent
    await here.until("ready")
    here["piper"].observe(passed=False, output="no answer")
    await asyncio.sleep(5)
    here["piper"].work_seen(moving=True)
    await asyncio.sleep(100)
    assert (here.phase(), here.state().health) == ("ready", Health.CRITICAL)
    here["piper"].work_seen(moving=False)
    stopped = here.clock.now()
    state = await here.until("unhealthy", within=60)
    assert state.since - stopped > 9  # its time begins when it works no more


@virtual
async def test_a_silence_is_counted_from_its_beginning_while_nothing_moves():
    here = World(want(health=HealthSpec(probe=PROBE, failures=2)))
    here.consul_watches = True
    await here.until("ready")
    here["piper"].observe(passed=False, output="no answer")
    began = here.clock.now()
    for _ in range(3):
        await asyncio.sleep(3)
        here["piper"].work_seen(moving=False)
    assert here.state().failing_since == began
    await here.until("unhealthy", within=10)
