"""One service from start to end, in virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from lictor.core.errors import StartFailed
from lictor.core.model.reason import because
from lictor.core.model.spec import HealthSpec, ProbeSpec, RestartPolicy, StopSpec
from lictor.core.model.state import Exit, Health
from lictor.core.ports import ProbeResult
from tests.core.build import key, want
from tests.core.virtual import virtual
from tests.core.world import World

URL = "http://127.0.0.1:5000/info"
PROBE = ProbeSpec("http", URL, interval=10.0)
NO = ProbeResult(passed=False, output="refused")


def probed(state="running", *, health=None, **fields):
    health = HealthSpec(probe=PROBE, **(health or {}))
    return want(state=state, health=health, **fields)


# --- becoming ready ---------------------------------------------------------------------------


@virtual
async def test_a_service_without_a_probe_is_ready_as_soon_as_it_runs():
    world = World(want())
    state = await world.until("ready", within=1)
    assert state.identity == world.running().identity
    assert world.phases() == ["starting", "ready"]


@pytest.mark.parametrize("wanted", [want, probed])
@virtual
async def test_a_service_whose_end_is_known_is_never_ready_while_its_last_words_are_read(wanted):
    world = World()
    world.driver.start_takes = 0.2
    world.prober.takes = 0.5
    world.want(wanted())
    await asyncio.sleep(0.3)
    world.running().end(Exit(code=3), told_after=1.0)
    state = await world.until("backoff", within=5)
    assert "ready" not in world.phases()
    assert (state.reason, state.last_exit) == (because("start.exit_code", code=3), Exit(code=3))


@virtual
async def test_a_service_is_starting_until_its_probe_passes():
    world = World(probed())
    world.prober.script(URL, *[NO] * 6)
    state = await world.until("ready")
    assert (state.health, state.reason.code) == (Health.PASSING, "ready")
    assert len(world.prober.asked) == 7
    assert 0.5 < state.ready_since - state.started < 2.0


@virtual
async def test_a_loading_model_is_asked_at_most_once_a_second():
    world = World(probed())
    world.prober.say(URL, passed=False)
    await asyncio.sleep(100)
    assert world.phase() == "starting"
    assert len(world.prober.asked) < 112


@virtual
async def test_a_service_that_is_not_ready_in_time_has_failed_to_start_and_is_ended():
    world = World(probed(health={"startup": 30.0}))
    world.prober.say(URL, passed=False, output="refused")
    state = await world.until("backoff")
    assert state.reason == because("start.timeout", startup=30.0, output="refused")
    assert state.last_error == "refused"
    assert 30 <= state.since - state.started < 33
    (run,) = world.driver.runs
    assert run.gone


@virtual
async def test_a_service_that_ends_while_loading_has_failed_to_start_with_its_last_words(tmp_path):
    (tmp_path / "piper.log").write_text("loading\ntorch.cuda.OutOfMemoryError: no room\n")
    world = World(probed(), log_dir=tmp_path)
    world.prober.say(URL, passed=False)
    await asyncio.sleep(5)
    world.running().end(Exit(code=3))
    state = await world.until("backoff")
    assert state.reason == because("start.exit_code", code=3)
    assert state.last_error == "torch.cuda.OutOfMemoryError: no room"
    assert (state.last_exit, state.failures) == (Exit(code=3), 1)


@virtual
async def test_a_driver_that_cannot_start_gives_its_reason():
    world = World()
    world.driver.fail(
        StartFailed("no such program", reason_code="start.no_program", params={"program": "x"})
    )
    world.want(want())
    state = await world.until("backoff")
    assert state.reason == because("start.no_program", program="x")
    assert (state.last_error, state.last_exit) == ("no such program", None)
    assert (await world.until("ready")).restarts == 1


@virtual
async def test_a_taken_port_is_named_with_its_holder_and_nothing_is_started():
    world = World()
    world.taken[5000] = (77, "nginx")
    world.want(want(port=5000))
    state = await world.until("backoff")
    assert state.reason.code == "start.port_taken"
    assert state.last_error == "port 5000 is taken by nginx (pid 77)"
    assert world.driver.runs == []
    world.taken.clear()
    await world.until("ready")


# --- jobs before ------------------------------------------------------------------------------


@virtual
async def test_jobs_run_before_each_start_in_order():
    world = World(want(before=(("migrate", "up"), ("topics",))))
    await world.until("ready")
    assert world.driver.jobs == [("migrate", "up"), ("topics",)]
    assert world.codes()[:3] == ["start.config", "starting.before", "starting.loading"]
    world.running().end()
    await world.until("backoff")
    await world.until("ready")
    assert len(world.driver.jobs) == 4


@virtual
async def test_a_failed_job_keeps_the_service_from_starting():
    world = World()
    world.driver.job_exits["migrate"] = Exit(code=2)
    world.want(want(before=(("migrate",), ("topics",))))
    state = await world.until("backoff")
    assert state.reason == because("start.before_failed", job="migrate", code="2")
    assert (world.driver.runs, world.driver.jobs) == ([], [("migrate",)])


@virtual
async def test_a_stop_cuts_a_job_short():
    world = World()
    world.driver.job_takes = 3600
    world.want(want(before=(("migrate",),)))
    await world.until("starting")
    await asyncio.sleep(1)
    world.want(want(state="stopped"))
    await world.until("stopped", within=1)
    assert (world.driver.jobs_cut, world.driver.runs) == (1, [])


# --- while it runs ----------------------------------------------------------------------------


@virtual
async def test_a_crash_after_a_good_run_is_followed_by_an_immediate_start():
    world = World(probed())
    await world.until("ready")
    await asyncio.sleep(15)
    first, crashed = world.running(), world.clock.now()
    first.end(Exit(signal=11))
    state = await world.until("starting")
    assert world.clock.now() - crashed < 0.1
    state = await world.until("ready")
    assert (state.restarts, state.last_exit) == (1, Exit(signal=11))
    assert world.running() is not first


@virtual
async def test_a_service_that_keeps_crashing_is_started_ever_more_slowly():
    world = World(want(restart=RestartPolicy(backoff=5, max_backoff=30)))
    begun = []
    for _ in range(6):
        begun.append((await world.until("ready")).since)
        world.running().end()
        await world.until("backoff")
    pauses = [round(b - a - 0.5) for a, b in itertools.pairwise(begun)]
    assert pauses == [5, 10, 20, 30, 30]


@virtual
async def test_one_failed_check_is_critical_and_only_several_are_unhealthy():
    world = World(probed(health={"failures": 3, "on_unhealthy": "ignore"}))
    await world.until("ready")
    world.prober.say(URL, passed=False, output="503")
    await asyncio.sleep(11)
    assert (world.phase(), world.state().health) == ("ready", Health.CRITICAL)
    failing_since = world.state().failing_since
    state = await world.until("unhealthy")
    assert 20 < state.since - failing_since < 22
    assert state.reason == because("unhealthy", output="503")
    world.prober.say(URL, passed=True, output="200")
    state = await world.until("ready")
    assert (state.reason.code, state.health) == ("ready.recovered", Health.PASSING)
    assert world.running().stops == []


@virtual
async def test_an_unhealthy_service_is_ended_and_started_again_as_a_failed_run():
    world = World(probed(health={"failures": 2}))
    await world.until("ready")
    await asyncio.sleep(60)
    first = world.running()
    world.prober.say(URL, passed=False, output="503")
    await world.until("stopping")
    world.prober.say(URL, passed=True)
    state = await world.until("ready")
    assert (state.restarts, state.failures) == (1, 1)
    assert first.gone
    assert "unhealthy" in world.codes()


@virtual
async def test_while_consul_asks_the_service_we_do_not():
    world = World(probed())
    await world.until("ready")
    world.consul_watches = True
    asked = len(world.prober.asked)
    await asyncio.sleep(100)
    assert len(world.prober.asked) == asked
    world["piper"].observe(passed=False, output="HTTP GET: 500")
    await world.until("unhealthy", within=25)
    world.consul_watches = False
    await world.until("ready")


@virtual
async def test_a_command_check_is_always_ours():
    world = World(want(health=HealthSpec(probe=ProbeSpec("command", argv=("check",)))))
    await world.until("ready")
    world.consul_watches = True
    asked = len(world.prober.asked)
    await asyncio.sleep(35)
    assert len(world.prober.asked) == asked + 3


@virtual
async def test_a_verdict_on_a_service_that_was_not_ready_yet_changes_nothing():
    world = World(probed())
    world.prober.say(URL, passed=False)
    await asyncio.sleep(2)
    before = world.state()
    world["piper"].observe(passed=False, output="refused")
    assert world.state() == before


# --- ending -----------------------------------------------------------------------------------


@virtual
async def test_a_stop_ends_it_as_its_definition_says():
    how = StopSpec("INT", timeout=3.0)
    world = World(want(stop=how))
    await world.until("ready")
    run = world.running()
    world.want(want(state="stopped", stop=how, by="anna"))
    await world.until("stopped")
    assert run.stops == [how]
    assert world.phases()[-2:] == ["stopping", "stopped"]


@virtual
async def test_an_ordered_restart_pauses_between_stop_and_start_and_counts():
    world = World(want(stop=StopSpec(pause=2.0)))
    await world.until("ready")
    first = world.running()
    order = world.clock.wall() + 1
    world.want(want(stop=StopSpec(pause=2.0), restart_wall=order))
    await world.until("stopping")
    begun = world.clock.now()
    state = await world.until("ready")
    assert 1.9 < state.started - begun < 2.2
    assert (state.restarts, state.operator_restart_wall) == (1, order)
    assert (first.gone, len(world.driver.runs)) == (True, 2)
    await asyncio.sleep(60)
    assert len(world.driver.runs) == 2


@virtual
async def test_an_ordered_restart_is_noted_with_its_beginning_and_not_before():
    # An agent that was killed in between left an order that was over, and nothing was restarted.
    world = World(want())
    await world.until("ready")
    order = world.clock.wall() + 1
    world.want(want(restart_wall=order))
    await world.until("stopping")
    await world.until("ready")
    noted = [s.phase.value for _, _, s in world.history if s.operator_restart_wall == order]
    assert noted[0] == "stopping"


@virtual
async def test_a_stop_interrupts_a_start():
    world = World(probed())
    world.prober.say(URL, passed=False)
    await asyncio.sleep(5)
    run = world.running()
    world.want(probed("stopped"))
    await world.until("stopped", within=1)
    assert run.gone
    await asyncio.sleep(300)
    assert world.phase() == "stopped"


@virtual
async def test_a_stop_interrupts_a_driver_that_is_slow_to_start():
    world = World()
    world.driver.start_takes = 60
    world.want(want())
    await world.until("starting")
    world.want(want(state="stopped"))
    await world.until("stopped", within=1)
    await asyncio.sleep(120)
    assert world.driver.runs == []


@virtual
async def test_the_next_start_waits_until_what_the_crash_left_behind_is_gone():
    world = World(want())
    world.driver.stop_takes = 0.8
    await world.until("ready")
    await asyncio.sleep(20)
    first = world.running()
    crashed = world.clock.now()
    first.end(children=True)
    await world.until("starting")
    assert len(world.driver.runs) == 1
    state = await world.until("ready")
    assert first.gone
    assert state.ready_since - crashed >= 0.8


@virtual
async def test_a_stop_during_that_wait_still_waits_for_what_is_left():
    world = World(want())
    world.driver.stop_takes = 0.8
    await world.until("ready")
    await asyncio.sleep(20)
    first = world.running()
    first.end(children=True)
    await world.until("starting")
    await asyncio.sleep(0.2)
    world.want(want(state="stopped"))
    await asyncio.sleep(0.2)
    assert (world.phase(), first.gone) == ("stopping", False)
    await world.until("stopped", within=10)
    assert (first.gone, len(world.driver.runs)) == (True, 1)


@virtual
async def test_a_stop_before_the_next_start_waits_for_what_the_crash_left_behind():
    world = World(want())
    world.driver.stop_takes = 0.8
    await world.until("ready")
    await asyncio.sleep(20)
    first = world.running()
    first.end(children=True)
    await world.until("backoff")
    world.want(want(state="stopped"))
    await asyncio.sleep(0.2)
    assert (world.phase(), first.gone) == ("stopping", False)
    await world.until("stopped", within=10)
    assert (first.gone, len(world.driver.runs)) == (True, 1)


@virtual
async def test_a_stop_during_the_end_of_a_start_that_took_too_long_waits_for_the_process():
    world = World()
    world.driver.stop_takes = 6.0
    world.prober.say(URL, passed=False)
    world.want(probed(health={"startup": 5.0}))
    await asyncio.sleep(7.5)
    (run,) = world.driver.runs
    assert (world.phase(), len(run.stops)) == ("starting", 1)
    world.want(probed("stopped"))
    await world.until("stopped")
    assert run.gone


@virtual
async def test_what_is_deaf_to_the_signal_is_killed_after_its_time():
    world = World(want(stop=StopSpec(timeout=4.0)))
    world.driver.stop_takes = 1e9
    await world.until("ready")
    run = world.running()
    world.want(want(state="stopped", stop=StopSpec(timeout=4.0)))
    began = world.clock.now()
    await world.until("stopped")
    assert 4.0 <= world.clock.now() - began < 4.5
    assert (await run.wait()) == Exit(signal=9)


@virtual
async def test_hurrying_kills_without_grace():
    world = World(want(stop=StopSpec(timeout=60.0)))
    world.driver.stop_takes = 1e9
    await world.until("ready")
    world.want(want(state="stopped", stop=StopSpec(timeout=60.0)))
    await world.until("stopping")
    await asyncio.sleep(1)
    world["piper"].hurry()
    await world.until("stopped", within=1)


@virtual
@pytest.mark.parametrize("wish", [{"state": "stopped"}, {"command": "another"}])
async def test_nobody_is_told_to_go_while_callers_still_come(wish):
    world = World(want())
    await world.until("ready")
    run = world.running()
    world.left.clear()
    world.want(want(**wish))
    await world.until("stopping")
    await asyncio.sleep(100)
    assert run.alive
    assert run.stops == []
    world.left.set()
    await world.until(wish.get("state", "starting"))


@virtual
async def test_a_service_that_failed_to_start_has_no_callers_to_wait_for():
    world = World(probed(health={"startup": 5.0}))
    world.prober.say(URL, passed=False)
    world.left.clear()
    await world.until("backoff", within=10)


@virtual
async def test_hurrying_is_remembered_until_the_callers_have_left():
    world = World(want(stop=StopSpec(timeout=60.0)))
    world.driver.stop_takes = 1e9
    await world.until("ready")
    world.left.clear()
    world.want(want(state="stopped", stop=StopSpec(timeout=60.0)))
    await world.until("stopping")
    world["piper"].hurry()
    world.left.set()
    await world.until("stopped", within=1)


@virtual
async def test_a_service_that_ends_well_is_done_if_that_is_all_it_was_to_do():
    world = World(want(restart=RestartPolicy(policy="on-failure")))
    await world.until("ready")
    world.running().end(Exit(code=0))
    state = await world.until("stopped")
    assert (state.done, state.reason.code) == (True, "exit.done")
    await asyncio.sleep(600)
    assert len(world.driver.runs) == 1


# --- another agent ------------------------------------------------------------------------------


@virtual
async def test_the_next_agent_adopts_what_runs_and_keeps_watching_it():
    world = World(probed())
    await world.until("ready")
    run, before = world.running(), world.state()
    world.die()
    await asyncio.sleep(1000)
    nextone = World(after=world)
    state = nextone.state()
    assert (state.adopted, state.identity, state.phase) == (True, run.identity, before.phase)
    assert state.ready_since == before.ready_since
    run.end(Exit())
    await nextone.until("backoff")
    state = await nextone.until("ready")
    assert (state.restarts, state.adopted, len(nextone.driver.runs)) == (1, False, 2)


@virtual
async def test_an_end_that_nobody_saw_counts_as_a_failure():
    world = World(want())
    await world.until("ready")
    world.die()
    world.running().end(Exit(code=0))
    nextone = World(after=world)
    state = nextone.state()
    assert (state.reason.code, state.failures) == ("exit.while_away", 1)
    assert state.last_exit == Exit()
    await nextone.until("ready")


@virtual
async def test_a_start_that_was_under_way_goes_on_under_the_next_agent():
    world = World(probed())
    world.prober.say(URL, passed=False)
    await asyncio.sleep(5)
    world.die()
    nextone = World(after=world)
    assert nextone.phase() == "starting"
    nextone.prober.say(URL, passed=True)
    await nextone.until("ready")
    assert len(nextone.driver.runs) == 1


@virtual
async def test_a_stop_that_was_under_way_is_finished_by_the_next_agent():
    world = World(want())
    world.driver.stop_takes = 5.0
    await world.until("ready")
    world.want(want(state="stopped"))
    await world.until("stopping")
    await asyncio.sleep(1)
    world.die()
    nextone = World(after=world)
    await nextone.until("stopped")
    assert nextone.driver.live(key("piper")) == []


@virtual
async def test_a_backoff_goes_on_under_the_next_agent():
    world = World(want(restart=RestartPolicy(backoff=50)))
    await world.until("ready")
    world.running().end()
    state = await world.until("backoff")
    world.die()
    nextone = World(after=world)
    assert nextone.state().next_start == state.next_start
    again = await nextone.until("ready")
    assert 50 <= again.started - state.since < 51
    assert again.restarts == 1


@virtual
async def test_a_time_from_before_a_reboot_holds_nobody_up():
    world = World(want(restart=RestartPolicy(backoff=50)))
    world.clock.boot_offset = 1_000_000.0
    await world.until("ready")
    world.running().end()
    await world.until("backoff")
    world.die()
    world.clock.boot_offset = 0.0
    nextone = World(after=world)
    await nextone.until("ready", within=60)


@virtual
async def test_a_process_with_our_mark_is_adopted_even_if_nothing_was_written_down():
    world = World(probed())
    await world.until("ready")
    run = world.running()
    world.die()
    nextone = World(probed("stopped"), after=world)
    runner = nextone["piper"]
    runner.let_go()
    runner.state = type(runner.state)()
    assert runner.adopt_stray()
    assert (runner.state.identity, runner.state.phase.value) == (run.identity, "starting")
    assert not World(want("other"))["other"].adopt_stray()
    runner.let_go()


@virtual
async def test_an_unregistered_service_remembers_it():
    world = World(want())
    await world.until("ready")
    world["piper"].mark_registered(unregistered=True)
    world.die()
    assert World(after=world).state().unregistered


@virtual
async def test_a_health_check_can_be_asked_for_at_any_time():
    world = World(probed(), want("plain"))
    await world.until("ready")
    world.prober.say(URL, passed=False, output="503")
    assert await world["piper"].probe() == ProbeResult(passed=False, output="503")
    assert await world["plain"].probe() is None


@pytest.mark.parametrize("verb", ["stopped", "removed"])
@virtual
async def test_a_service_in_backoff_comes_to_rest_without_waiting_for_its_time(verb):
    world = World(want())
    await world.until("ready")
    world.running().end()
    await world.until("backoff")
    world.want(*([want(state="stopped")] if verb == "stopped" else []))
    await asyncio.sleep(1)
    if verb == "stopped":
        assert (world.phase(), world.state().failures) == ("stopped", 0)
    else:
        assert world.reconciler.runners == {}
        assert world.store.load("services") == {}
    await asyncio.sleep(600)
    assert len(world.driver.runs) == 1
