"""What services write while the agent rotates, is stopped, is killed: from outside.

The writers number their lines and write as a service does, past the agent. What is on the disk is
read past all of Lictor's readers, as docs/how-to/logs.md tells people to.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.core.runtime import numbered
from tests.core.runtime.numbered import LINE, check, text
from tests.support.agent import RunningAgent, wait_until

MIB = 1024 * 1024


def floods(count: int, batch: int, rate: float = 0.0, **keys):
    """A service that writes numbered lines and then rests."""
    words = [numbered.__file__, str(count), str(batch), str(rate)]
    code = (
        f"import runpy, sys, time; sys.argv = {words!r}; "
        "runpy.run_path(sys.argv[0], run_name='__main__'); time.sleep(3600)"
    )
    argv = [sys.executable, "-S", "-E", "-c", code]
    return {"command": argv, "restart": {"policy": "never"}, **keys}


def log_of(agent: RunningAgent, name: str = "talker") -> Path:
    return agent.data_dir / "logs" / f"{name}.log"


def older(log: Path) -> list[Path]:
    """Oldest first."""
    found = [path for path in log.parent.glob(f"{log.name}.*") if path.suffix[1:].isdigit()]
    return sorted(found, key=lambda path: -int(path.suffix[1:]))


def raw(log: Path) -> bytes:
    """All of it, as `cat` gives it where the file system collapses."""
    return b"".join(path.read_bytes() for path in [*older(log), log]).lstrip(b"\0")


def written(log: Path) -> int:
    """The number of the last whole line; -1 for none."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 3 * LINE))
        lines = file.read().split(b"\n")[:-1]
    return int(lines[-1][:12]) if lines and lines[-1][:12].isdigit() else -1


@pytest.mark.slow
def test_a_flood_is_rotated_while_it_is_written_and_nothing_is_lost(make_agent):
    count = 1_000_000
    flood = floods(count, 100, 2e7, log={"max_size": "2MiB", "keep": 100})
    with make_agent({"talker": flood}) as agent:
        log = log_of(agent)
        wait_until(lambda: log.exists() and written(log) == count - 1, within=60)
        wait_until(lambda: log.stat().st_size <= 2 * MIB)
        assert len(older(log)) >= 10
        assert check(raw(log)) == count - 1
        assert agent.cli("logs", "talker", "-n", "3").out.splitlines() == [
            text(n) for n in range(count - 3, count)
        ]
        found = agent.cli("logs", "talker", "--grep", f"{7:012}").out.splitlines()
        assert found == [text(7)]
        assert agent.row("talker")["phase"] == "ready"


@pytest.mark.slow
def test_a_service_writes_on_while_the_agent_is_stopped_and_its_log_is_put_right_later(make_agent):
    flood = floods(2_000_000, 640, log={"max_size": "1MiB", "keep": 4})
    with make_agent({"talker": {**flood, "activation": "manual"}}) as agent:
        log = log_of(agent)
        assert agent.cli("start", "talker").code == 0
        wait_until(log.exists)
        agent.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: written(log) == 2_000_000 - 1, what="the service is never blocked")
        finally:
            agent.signal(signal.SIGCONT)
        wait_until(lambda: log.stat().st_size <= MIB and older(log))
        used = sum(path.stat().st_blocks * 512 for path in [*older(log), log])
        assert used <= 6 * MIB
        whole = raw(log)
        assert check(whole[whole.find(b"\n") + 1 :], first=None) == 2_000_000 - 1


@pytest.mark.slow
def test_an_agent_killed_again_and_again_costs_no_line(make_agent):
    count = 600_000
    flood = floods(count, 50, 1e7, log={"max_size": "512KiB", "keep": 1000})
    with make_agent({"talker": flood}) as agent:
        log, pid = log_of(agent), agent.service_pid("talker")
        for _ in range(3):
            wanted = len(older(log)) + 2
            wait_until(lambda wanted=wanted: len(older(log)) >= wanted or written(log) == count - 1)
            agent.kill9()
            agent.start()
        assert agent.service_pid("talker") == pid
        wait_until(lambda: written(log) == count - 1, within=60)
        wait_until(lambda: log.stat().st_size <= 512 * 1024)
        assert check(raw(log)) == count - 1


def test_following_and_ranges_from_the_command_line(make_agent):
    code = "import time\nfor n in range(10**6): print('tick', n, flush=True); time.sleep(0.1)"
    talker = {"command": [sys.executable, "-S", "-E", "-c", code]}
    with make_agent({"talker": talker}) as agent:
        log = log_of(agent)
        wait_until(lambda: log.exists() and log.stat().st_size > 0)
        with agent.command("logs", "talker", "-f", "-n", "0", "-o", "json") as following:
            assert following.stdout is not None
            lines = [json.loads(following.stdout.readline())["line"] for _ in range(10)]
            following.terminate()
            following.communicate(timeout=30)
        first = int(lines[0].split()[1])
        assert lines == [f"tick {n}" for n in range(first, first + 10)]
        everything = agent.cli("logs", "talker", "--since", "1h").out.splitlines()
        assert everything == [f"tick {n}" for n in range(len(everything))]
        assert len(everything) > 10
        before = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 3600))
        assert agent.cli("logs", "talker", "--until", before).out == ""
        assert agent.cli("logs", "talker", "--since", "whenever").code == 2
