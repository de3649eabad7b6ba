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


def _waited(agent: RunningAgent, *args: str) -> tuple[float, int, str]:
    """Seconds for which a command waited for something, its exit code and its complaint.

    What it computed and what it queued for a processor is not waiting: a busy machine adds to those.
    """
    began = time.monotonic()
    with agent.command(*args) as running:
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        took = time.monotonic() - began
        ran, queued, _ = Path(f"/proc/{running.pid}/schedstat").read_text().split()
        _, complaint = running.communicate()
    return took - (int(ran) + int(queued)) / 1e9, running.returncode, complaint


def test_a_second_agent_waits_for_nothing_even_if_the_first_one_stands_still(
    make_agent: MakeAgent,
):
    agent = make_agent({"one": plain(), "two": plain()}, sections=ALONE).start()
    agent.wait_ready("one", "two")
    before = agent.status()
    agent.configure({"one": service(child("ignore-term")), "other": plain()})
    up = ("up", "-c", str(agent.config))
    answers = [_waited(agent, *up) for _ in range(3)]
    agent.signal(signal.SIGSTOP)
    frozen = [_waited(agent, *up) for _ in range(3)]
    processes = agent.processes()
    agent.signal(signal.SIGCONT)
    for second in (answers, frozen):
        # Some milliseconds. Who waits for the first agent does so each time, who waits for a slow
        # disk does not.
        assert min(waited for waited, _, _ in second) < 0.5
    for _, code, complaint in answers + frozen:
        assert code == 1
        assert f"(pid {agent.pid})" in complaint
        assert "already runs" in complaint
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
