"""One agent for each data_dir: the second one ends at once and touches nothing, whatever the first does."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import plain, service
from tests.support.agent import RunningAgent, wait_until
from tests.support.children import alive, child, text_of

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}


def _took(agent: RunningAgent, *args: str) -> tuple[float, int, str]:
    """Seconds, exit code and complaint of a command."""
    began = time.monotonic()
    result = agent.cli(*args)
    return time.monotonic() - began, result.code, result.err


def test_a_second_agent_ends_within_a_second_even_if_the_first_one_stands_still(
    make_agent: MakeAgent,
):
    agent = make_agent({"one": plain(), "two": plain()}, sections=ALONE).start()
    agent.wait_ready("one", "two")
    before = agent.status()
    agent.configure({"one": service(child("ignore-term")), "other": plain()})
    up = ("up", "-c", str(agent.config))
    second = [_took(agent, *up)]
    agent.signal(signal.SIGSTOP)
    second += [_took(agent, *up) for _ in range(3)]
    processes = agent.processes()
    agent.signal(signal.SIGCONT)
    for _, code, complaint in second:
        assert code == 1
        assert f"(pid {agent.pid})" in complaint
        assert "already runs" in complaint
    # Next to what any command takes on this machine, at its best: it may be a busy one.
    assert min(took for took, _, _ in second) < 1 + 8 * min(
        _took(agent, "version")[0] for _ in range(2)
    )
    assert sorted(processes) == sorted(row["pid"] for row in before)
    keys = ("name", "pid", "phase", "restarts")
    assert [[row[key] for key in keys] for row in agent.status()] == [
        [row[key] for key in keys] for row in before
    ]


def test_what_ended_while_the_agent_stood_still_is_noticed_once(
    make_agent: MakeAgent, tmp_path: Path
):
    file = tmp_path / "alone"
    lone = service(child("alone", file=file, seconds=0), stop={"timeout": "500ms", "pause": "0s"})
    agent = make_agent({"lone": lone, "calm": plain()}, sections=ALONE).start()
    agent.wait_ready("lone", "calm")
    pid, calm = agent.service_pid("lone"), agent.service_pid("calm")
    agent.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), what="it is dead")
    time.sleep(1)
    agent.signal(signal.SIGCONT)
    wait_until(lambda: agent.row("lone")["restarts"] == 1, what="its death is noticed")
    agent.wait_ready("lone")
    assert agent.row("lone")["restarts"] == 1
    assert text_of(file).count("begin") == 2
    assert "overlap" not in text_of(file)
    assert agent.service_pid("calm") == calm


def test_files_of_an_agent_that_is_long_gone_keep_nobody_from_starting(make_agent: MakeAgent):
    agent = make_agent({"one": plain()}, sections=ALONE)
    agent.data_dir.mkdir()
    # A number that is somebody else's by now, and a socket at which nobody listens.
    (agent.data_dir / "lock").write_text(f"{os.getpid()}\n")
    (agent.data_dir / "lictor.sock").write_text("")
    agent.start()
    agent.wait_ready("one")
    assert text_of(agent.data_dir / "lock").strip() == str(agent.pid)
