"""Checklist: a service's own life, as Consul is told of it: exits, loading, ends, reused pids."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.checklist.scene import Note, Sampler, Scene, make_scene, seconds_until
from tests.e2e.checklist.test_checklist_outage import lease_of
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import diarist, service
from tests.support.agent import unique, wait_until
from tests.support.children import alive, child, free_port
from tests.support.consul import ConsulServer
from tests.support.wall_clock import WallClock

pytestmark = pytest.mark.consul

SLOW_CHECK = {"http": "/", "interval": "60s", "timeout": "2s", "startup": "30s"}


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, by which a process is told from a later one with its pid."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


def remember_as(scene: Scene, pid: int, **more: int) -> None:
    """Let the agent's memory say that its service had this pid; the agent must not run."""
    with sqlite3.connect(scene.agent.data_dir / "state.db") as memory:
        query = "SELECT body FROM rows WHERE kind = 'services' AND key = ?"
        row = json.loads(memory.execute(query, (scene.name,)).fetchone()[0])
        row["identity"] |= {"pid": pid, **more}
        change = "UPDATE rows SET body = ? WHERE kind = 'services' AND key = ?"
        memory.execute(change, (json.dumps(row), scene.name))
    memory.close()


@pytest.mark.checklist(
    23,
    "a registered service; agent and service are killed",
    "the remembered pid is another program's when the agent is back",
    "that one is neither adopted nor killed; the service is started and passes again",
)
@pytest.mark.parametrize("stranger_is", ["born-later", "marked-by-another"])
def test_a_stranger_who_got_the_pid_is_left_alone_and_the_service_comes_back(
    make_agent: MakeAgent, own_consul: ConsulServer, stranger_is: str
):
    scene = make_scene(make_agent, own_consul).started()
    pid = scene.agent.service_pid(scene.name)
    scene.agent.kill9()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
    mark = {"LICTOR_MARK": "another-agent:its-service"} if "mark" in stranger_is else {}
    with subprocess.Popen(child("good"), env={**os.environ, **mark}) as stranger:
        try:
            # Even at the same tick of the same boot, the mark would tell.
            born = {"start_time": start_time(stranger.pid)} if mark else {}
            remember_as(scene, stranger.pid, **born)
            scene.agent.start()
            scene.settle()
            assert scene.agent.service_pid(scene.name) not in {pid, stranger.pid}
            assert scene.agent.processes() == [scene.agent.service_pid(scene.name)]
            assert scene.agent.cli("stop", scene.name, "--wait").code == 0
            scene.catalog.wait_gone(scene.name, scene.id())
            assert stranger.poll() is None
        finally:
            stranger.kill()


def moments(scene: Scene, phase: str) -> list[float]:
    """When the service came into a phase, by the journal."""
    rows = scene.agent.cli("events", scene.name, "-n", "200", "-o", "json").json
    return [datetime.fromisoformat(r["at"]).timestamp() for r in rows if r["phase"] == phase]


@pytest.mark.checklist(
    24,
    "a service that Consul asks only once a minute",
    "its process is killed, and then dies at each start",
    "critical at once; restarted with growing delays, given up, and still there with the reason",
)
def test_an_exit_is_critical_at_once_and_who_gives_up_stays_visible(
    make_agent: MakeAgent, own_consul: ConsulServer, tmp_path: Path, note: Note
):
    trouble = tmp_path / "trouble"
    policy = {"backoff": "500ms", "max_backoff": "1m", "max_restarts": 4}
    dying = diarist(
        "dying", tmp_path / "diary", f"unless={trouble}", health=SLOW_CHECK, restart=policy
    )
    scene = make_scene(make_agent, own_consul, services={unique("dying"): dying}).started()
    trouble.touch()
    os.kill(scene.agent.service_pid(scene.name), signal.SIGKILL)
    took = seconds_until(
        lambda: scene.catalog.checks(scene.name, scene.id())["lictor"][0] == "critical"
    )
    note("seconds until critical in the catalog", took)
    assert took < 10  # its interval is a minute
    row = scene.agent.wait_phase(scene.name, "failed", within=60)
    assert row["restarts"] == 4
    ended, begun = moments(scene, "backoff"), moments(scene, "starting")
    delays = [
        next(at for at in begun if at >= moment) - moment for moment in ended if moment < begun[-1]
    ]
    note("seconds between an end and the next start", ", ".join(f"{d:.1f}" for d in delays))
    assert len(delays) == 4
    # A timer may be late and is never early, so each can be held to twice the one before only from
    # below. Half a second first, less a tenth: 0.45 s, a little less for the journal's own delay.
    # One that was ready for ten seconds, as on a busy machine, is started at once the first time.
    assert all(d >= least for d, least in zip(delays[1:], (0.4, 0.8, 1.6), strict=True)), delays
    assert "cannot load" in row["sentence"] + str(row["last_error"])
    checks = scene.catalog.checks(scene.name, scene.id())
    assert checks["lictor"][0] == "critical"
    assert scene.agent.row(scene.name)["pid"] is None


@pytest.mark.checklist(
    26,
    "a service that opens its port a quarter of a minute late, with time enough for it",
    "Consul finds nobody at its port all the while",
    "never restarted, never passing too early, its entry not reaped; shown with its time",
)
def test_a_long_start_is_waited_for_and_is_not_reaped(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    port = free_port()
    health = {"http": "/", "interval": "1s", "timeout": "1s", "startup": "300s"}
    slow = service(child("slow-start", port=port, seconds=15), port, health=health)
    scene = make_scene(make_agent, own_consul, services={unique("loads"): slow})
    scene.agent.start()
    began = time.monotonic()
    at_catalog = partial(scene.catalog.checks, scene.name, scene.id())
    wait_until(at_catalog, what="it is registered while it loads")
    with Sampler(scene).looking() as samples:
        row = scene.agent.wait_phase(scene.name, "starting")
        wait_until(lambda: scene.agent.row(scene.name)["sentence"].count("5 min") == 1)
        definition = own_consul.understood()[f"{scene.id()}:http"]
        scene.agent.wait_ready(scene.name)
    note("seconds until ready", round(time.monotonic() - began, 1))
    reap = definition["DeregisterCriticalServiceAfter"] / 1e9
    note("seconds until Consul would reap it", reap)
    assert reap >= 3 * 300
    assert samples.samples > 10
    assert all("critical" in seen for seen in samples.seen if seen != ("passing",)), samples.seen
    scene.catalog.wait_passing(scene.name, scene.id())
    after = scene.agent.row(scene.name)
    assert (after["restarts"], after["pid"]) == (0, scene.agent.service_pid(scene.name))
    assert row["restarts"] == 0


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.mark.checklist(
    36,
    "a service that passes",
    "the agent's wall clock jumps an hour back, and a day ahead",
    "never critical, nothing restarted, the lease and its session kept",
)
def test_a_jump_of_the_clock_is_nothing_to_consul(
    make_agent: MakeAgent, own_consul: ConsulServer, wall_clock: WallClock, note: Note
):
    scene = make_scene(make_agent, own_consul, env=wall_clock.env).started()
    pids, lease, restarts = scene.pids(), lease_of(scene), scene.restarts()
    entry = scene.at_agent()
    with Sampler(scene).looking() as samples:
        for jump in (-3600, 86400, 0):
            wall_clock.jump(jump)
            time.sleep(6)  # a renewal of the lease, and half of a comparison
    note("samples", samples.samples)
    assert samples.never_but_passing, samples.seen
    assert (scene.pids(), scene.restarts()) == (pids, restarts)
    assert lease_of(scene) == lease
    assert scene.at_agent() == entry
    assert scene.agent.consul_state() == "ok"
    assert all(row["uptime_s"] >= 0 for row in scene.agent.status())


@pytest.mark.checklist(
    38,
    "a service that takes seconds to end",
    "`lictor down`",
    "critical before its process ends, gone from Consul after it; nobody is sent to a dead one",
)
def test_who_is_stopped_is_taken_out_of_service_before_it_ends(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    port = free_port()
    slow = service(child("slow-term", port=port, seconds=2), port)
    scene = make_scene(make_agent, own_consul, services={unique("last"): slow}).started()
    pid, seen = scene.agent.service_pid(scene.name), []
    with scene.agent.command("down") as ending:
        while ending.poll() is None:
            lives = alive(pid)
            seen.append((lives, scene.catalog.passing(scene.name, scene.id())))
            time.sleep(0.02)
    assert ending.returncode == 0
    scene.agent.wait_exit()
    note("looks while it ended, out of service already", seen.count((True, False)))
    assert (True, False) in seen  # critical while its process still had things to finish
    assert (False, True) not in seen
    for name in (scene.name, "lictor"):
        scene.catalog.wait_gone(name, scene.id(name))


@pytest.mark.checklist(
    38,
    "a running service",
    "`lictor down --keep`",
    "it runs on, registered and passing; the agent's own entry is gone",
)
def test_what_is_kept_stays_registered_without_its_agent(scene: Scene):
    pid = scene.agent.service_pid(scene.name)
    with Sampler(scene).looking() as samples:
        assert scene.agent.down("--keep").code == 0
        scene.catalog.wait_gone("lictor", scene.id("lictor"))
        time.sleep(2)
    assert samples.never_but_passing, samples.seen
    assert alive(pid)
