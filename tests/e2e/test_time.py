"""Time that jumps, and an agent that stands still: neither is the services' fault."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import child, free_port, text_of
from tests.support.wall_clock import WallClock

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}
DAY = 86400


def checked(word: str, **options: object) -> dict[str, object]:
    """A service that is unhealthy after one and a half seconds of failing, and then restarted."""
    port = free_port()
    health = {"http": "/health", "interval": "1s", "timeout": "1s", "failures": 2}
    return {
        "command": list(child(word, port=port, **options)),
        "port": port,
        "health": {**health, "startup": "6s"},
        "stop": {"timeout": "1s", "pause": "0s"},
    }


def test_an_agent_that_stood_still_restarts_nothing_when_it_goes_on(make_agent: MakeAgent):
    steady = [unique("steady") for _ in range(8)]
    loading = unique("loading")
    services = {name: checked("good") for name in steady}
    # Its time to load is over while the agent stands still; it is ready a little later.
    services[loading] = {**checked("slow-start", seconds=9), "activation": "manual"}
    agent = make_agent(services, sections=ALONE).start()
    agent.wait_ready(*steady)
    agent.ask("change", {"verb": "start", "names": [loading]})
    wait_until(lambda: agent.row(loading)["pid"], what="it runs")
    before = {name: agent.service_pid(name) for name in [*steady, loading]}
    agent.signal(signal.SIGSTOP)
    time.sleep(8)
    agent.signal(signal.SIGCONT)
    agent.wait_ready(loading)
    time.sleep(3)
    rows = {row["name"]: row for row in agent.status()}
    assert {name: row["phase"] for name, row in rows.items()} == dict.fromkeys(before, "ready")
    assert {name: row["pid"] for name, row in rows.items()} == before
    assert {row["restarts"] for row in rows.values()} == {0}


# --- the wall clock -------------------------------------------------------------------------------


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def off_by(agent: RunningAgent) -> float:
    """By how much the agent's own clock was wrong when it last said something."""
    stamps = [json.loads(line)["timestamp"] for line in agent.log().splitlines() if line[0] == "{"]
    told = datetime.fromisoformat(stamps[-1])
    return (told - datetime.now(UTC)).total_seconds()


@pytest.mark.checklist(
    36,
    "running and crashing services",
    "the wall clock jumps by an hour and by days",
    "no restart storm, no timer moved, no negative uptime",
)
@pytest.mark.parametrize("jump", [3600, -3600, 2 * DAY, -2 * DAY])
def test_a_jump_of_the_wall_clock_restarts_nothing_and_moves_no_timer(
    make_agent: MakeAgent, wall_clock: WallClock, tmp_path: Path, jump: int
):
    steady, crashing = unique("steady"), unique("crashing")
    # A program under libfaketime is a slow one (its threads spin), so nothing here is in a hurry, and
    # the service itself says when it was started, by the kernel's own clock.
    patient: dict[str, object] = checked("good")
    patient["health"] = {"http": "/health", "interval": "1s", "timeout": "20s", "startup": "60s"}
    told = tmp_path / "started"
    services = {
        steady: {**patient, "recycle": {"age": "30m"}},
        crashing: {
            "command": ["sh", "-c", f"cut -d' ' -f1 /proc/uptime >> {told}; exit 1"],
            "health": "none",
            "restart": {"backoff": "5s", "max_backoff": "5s"},
        },
    }

    def starts() -> list[float]:
        return [float(line) for line in text_of(told).split()]

    agent = make_agent(services, sections=ALONE, env=wall_clock.env).start()
    agent.wait_ready(steady, within=60)
    pid, seen = agent.service_pid(steady), len(starts())
    wait_until(lambda: len(starts()) > seen, what="a back-off begins")
    wall_clock.jump(jump)
    wait_until(lambda: len(starts()) > seen + 2, within=60, what="two back-offs after the jump")
    # Neither at once nor never: each comes when it is due, by a clock that does not jump.
    gaps = [later - earlier for earlier, later in pairwise(starts()[seen:])]
    assert all(4 < gap < 25 for gap in gaps), gaps
    wait_until(lambda: abs(off_by(agent) - jump) < 600, what="the agent's clock did jump")
    row = agent.row(steady)
    assert (row["phase"], row["pid"], row["restarts"]) == ("ready", pid, 0)
    assert 0 < row["uptime_s"] < 600
    # An order counts after the jump as well, in whichever direction it went.
    assert agent.cli("restart", steady, "--wait", env=wall_clock.env).code == 0
    again = agent.service_pid(steady)
    assert again != pid
    wall_clock.jump(0)
    assert agent.cli("restart", steady, "--wait", env=wall_clock.env).code == 0
    assert agent.service_pid(steady) != again
