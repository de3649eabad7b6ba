"""System calls that fail, or kill, while a real agent writes its state.

strace makes them fail and touches only calls on the database's own files. Whatever it hits: services
go on, what the agent said was done is done, and nothing runs twice or is lost after its death.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import service
from tests.support.agent import RunningAgent, wait_until
from tests.support.children import alive, child, text_of
from tests.support.tools import missing

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}
NAMES = ("one", "two", "three")
ANY_WRITE = "pwrite64"
ANY_SYNC = "fsync,fdatasync"


@pytest.fixture(scope="module")
def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        missing("strace")
    tried = subprocess.run(
        [found, "-D", "-f", "-qq", "-o", "/dev/null", "true"],
        capture_output=True,
        check=False,
        timeout=20,
    )
    if tried.returncode:
        pytest.skip("tracing is not allowed here")
    return found


class Disk:
    """An agent with three services, none of which may ever run twice, and faults on its disk."""

    def __init__(self, make: MakeAgent, folder: Path, strace: str) -> None:
        self._strace = strace
        self.folder = folder
        services = {
            name: service(
                child("alone", file=folder / name, seconds=0),
                restart={"backoff": "100ms", "max_backoff": "500ms"},
                stop={"timeout": "300ms", "pause": "0s"},
            )
            for name in NAMES
        }
        self.agent: RunningAgent = make(services, sections=ALONE)
        self.agent.start()
        self.agent.wait_ready(*NAMES)
        self.wait_trees(3)

    @property
    def trace(self) -> Path:
        return self.agent.dir / "trace"

    def start_with(self, calls: str, fault: str) -> None:
        """The next agent, after this one's death: its calls on the database do as `fault` says."""
        self.agent.kill9()
        db = self.agent.data_dir / "state.db"
        files = [word for name in ("", "-wal", "-shm") for word in ("-P", f"{db}{name}")]
        self.agent.run_under(
            # -D: the tracer is the grandchild, so that the agent's pid is the one we know
            *(self._strace, "-D", "-f", "-qq", "-o", str(self.trace), "-e", f"trace={calls}"),
            *("-e", f"inject={calls}:{fault}", *files),
        )
        self.agent.start()

    def start_sound(self) -> None:
        """The next agent on a disk without faults."""
        if self.agent.running:
            self.agent.kill9()
        self.agent.run_under()
        self.agent.start()

    def mains(self) -> dict[str, Any]:
        return {row["name"]: row["pid"] for row in self.agent.status()}

    def wait_trees(self, count: int) -> None:
        """Exactly so many services run, each of them once: a main process and its child."""
        wait_until(lambda: len(self.agent.processes()) == 2 * count, what=f"{count} services")
        for name in NAMES:
            begun = [line.split() for line in text_of(self.folder / name).splitlines()]
            assert "overlap" not in {line[0] for line in begun}
            assert sum(alive(int(line[1])) for line in begun if line[0] == "begin") <= 1

    def crash(self, name: str) -> None:
        pid, restarts = self.agent.service_pid(name), self.agent.row(name)["restarts"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.agent.row(name)["restarts"] == restarts + 1, what="its restart")
        self.agent.wait_ready(name)

    def injected(self) -> int:
        return text_of(self.trace).count("(INJECTED)")

    def set_aside(self) -> list[Path]:
        return list(self.agent.data_dir.glob("state.db.damaged-*"))

    def complaint(self) -> str:
        """What the command line says of the disk."""
        lines = self.agent.cli("status").err.splitlines()
        return next((line for line in lines if "cannot be written" in line), "")


@pytest.fixture
def disk(make_agent: MakeAgent, tmp_path: Path, strace: str) -> Disk:
    return Disk(make_agent, tmp_path, strace)


@pytest.mark.parametrize(("calls", "error"), [(ANY_WRITE, "ENOSPC"), (ANY_SYNC, "EIO")])
def test_a_disk_that_takes_nothing_is_told_and_stops_no_service(disk: Disk, calls: str, error: str):
    agent = disk.agent
    assert agent.cli("hold", "three", "--reason", "said before").code == 0
    disk.wait_trees(2)
    agent.wait_phase("three", "stopped")
    before = disk.mains()
    disk.start_with(calls, f"error={error}")
    assert disk.mains() == before
    stopped = agent.cli("stop", "two", "--wait")
    assert stopped.code == 0
    assert "The disk does not take it" in stopped.out
    disk.wait_trees(1)
    disk.crash("one")
    assert disk.injected() > 0
    assert disk.complaint()
    assert agent.row("three")["desired"] == "stopped"
    one = agent.service_pid("one")

    disk.start_sound()
    # What was told to count only until the agent ends counts no more, and nothing else is lost.
    # (What could be written and not be synced may be there all the same.)
    if calls == ANY_WRITE or agent.row("two")["desired"] == "running":
        agent.wait_ready("two")
        disk.wait_trees(2)
    else:
        disk.wait_trees(1)
    agent.wait_ready("one")
    assert agent.service_pid("one") == one
    assert "said before" in agent.row("three")["sentence"]
    assert disk.complaint() == ""
    assert disk.set_aside() == []


@pytest.mark.parametrize(("calls", "number"), [(ANY_WRITE, 3), (ANY_SYNC, 1)])
def test_a_fault_that_passes_costs_nothing_that_was_said_to_be_done(
    disk: Disk, calls: str, number: int
):
    agent = disk.agent
    disk.start_with(calls, f"error=EIO:when={number}")
    disk.crash("one")
    assert agent.cli("stop", "two", "--wait").code == 0
    assert agent.cli("hold", "three", "--reason", "a fault").code == 0
    wait_until(disk.injected, what="the fault")
    wait_until(lambda: disk.complaint() == "", what="all is written")
    assert "The disk" not in agent.cli("stop", "two", "--wait").out
    disk.wait_trees(1)
    restarts, one = agent.row("one")["restarts"], agent.service_pid("one")

    disk.start_sound()
    assert {row["name"]: row["desired"] for row in agent.status()} == {
        "one": "running",
        "two": "stopped",
        "three": "stopped",
    }
    disk.wait_trees(1)
    assert (agent.row("one")["restarts"], agent.service_pid("one")) == (restarts, one)
    assert "a fault" in agent.row("three")["sentence"]
    assert disk.set_aside() == []


@pytest.mark.parametrize("number", [2, 11, 23])
def test_an_agent_that_dies_over_a_write_loses_nothing_it_had_answered(disk: Disk, number: int):
    agent = disk.agent
    known, tried = "running", "running"
    with contextlib.suppress(AssertionError, OSError):  # it dies whenever it comes so far
        disk.start_with(ANY_WRITE, f"signal=KILL:when={number}")
        for _ in range(50):
            os.kill(agent.service_pid("one"), signal.SIGKILL)
            tried = "stopped" if known == "running" else "running"
            args = {"names": ["two"], "reason": "back and forth"}
            agent.ask("hold" if tried == "stopped" else "release", args)
            known = tried
            agent.wait_ready("one")
    wait_until(lambda: not agent.running, what="it was killed")
    assert disk.injected() or "SIGKILL" in text_of(disk.trace)

    disk.start_sound()
    desired = agent.row("two")["desired"]
    assert desired in {known, tried}
    runs = {"one", "three"} | ({"two"} if desired == "running" else set())
    agent.wait_ready(*runs)
    disk.wait_trees(len(runs))
    assert disk.set_aside() == []
    assert disk.complaint() == ""
