"""Services that misbehave in every known way, under a real agent: nothing of them is ever left.

Each test runs twice: as the host has it, and on a host that shows no cgroups, so that group,
session, descent and mark have to do alone.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import service
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, carrying, child, free_port, text_of

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}
#: A command that runs the agent where no cgroup can be seen.
BLIND = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh")
#: Nothing here is started again while a test looks at what a dead one left.
NEVER = {"policy": "never"}


class Family(NamedTuple):
    """How one kind of program is run. `lines`: what it writes when all of it is there."""

    lines: int
    options: Mapping[str, Any] = MappingProxyType({})
    keys: Mapping[str, Any] = MappingProxyType({})


FAMILIES = {
    "ignore-term": Family(1),
    "slow-term": Family(1, {"seconds": 0.5}, {"stop": {"timeout": "30s", "pause": "0s"}}),
    "grandchildren": Family(6, {"count": 3}),
    "escape-group": Family(1),
    "engine": Family(1),
    "scrubbed": Family(1),
    "rename": Family(1),
    "stop-self": Family(1, {"seconds": 0.1}),
    "zombies": Family(1, {"count": 40}),
    "fork-storm": Family(1, {"count": 60, "seconds": 0.2}),
    "alone": Family(1, {"seconds": 0.2}),
}
#: Those that write the pids of their children down.
TELLING = ("grandchildren", "escape-group", "engine", "scrubbed")


@pytest.fixture(params=["as the host has it", "without cgroups"])
def under(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What the agent runs under; see the module."""
    if request.param == "as the host has it":
        return ()
    if subprocess.run([*BLIND, "true"], check=False, capture_output=True, timeout=20).returncode:
        pytest.skip("cgroups cannot be hidden here")
    return BLIND


class Zoo:
    """One agent with a service of each family, and an eye on all of their processes."""

    def __init__(self, make: MakeAgent, folder: Path, under: tuple[str, ...]) -> None:
        self.run = unique("run")
        self.folder = folder
        env = {"FAULT_RUN": self.run}
        self.services: dict[str, Any] = {}
        for kind, family in FAMILIES.items():
            argv = child(kind, file=folder / kind, port=free_port(), **family.options)
            keys = {"stop": {"timeout": "1s", "pause": "0s"}, **family.keys}
            self.services[kind] = service(argv, env=env, restart=NEVER, **keys)
        self.agent: RunningAgent = make(self.services, sections=ALONE, under=under)

    def begin(self) -> None:
        """Everything is started and all there."""
        self.agent.start()
        self.wait_all()

    def wait_all(self) -> None:
        for kind, family in FAMILIES.items():
            enough = family.lines
            wait_until(lambda k=kind, n=enough: len(self.told(k)) >= n, what=f"{kind} is there")
        self.agent.wait_ready(*FAMILIES)

    def told(self, kind: str) -> list[str]:
        return text_of(self.folder / kind).splitlines()

    @property
    def blind(self) -> bool:
        """Whether there are no cgroups."""
        (way,) = {row["containment"] for row in self.agent.ask("status", {"verbose": True})}
        return str(way) == "group, session, mark"

    def children(self) -> list[int]:
        """The pids that those who tell have told."""
        return [int(pid) for kind in TELLING for pid in self.told(kind)]

    def mains(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in self.agent.status() if row["pid"]}

    def left(self) -> dict[int, str]:
        """Whoever of this run lives, with the name of its service."""
        pids = {*carrying(f"FAULT_RUN={self.run}"), *filter(alive, self.children())}
        return {pid: _service_of(pid) for pid in pids}

    def forget(self) -> None:
        """Begin afresh with what the programs tell."""
        for file in self.folder.iterdir():
            file.unlink()


def _service_of(pid: int) -> str:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return "gone meanwhile"
    names = [one.partition(b"=")[2].decode() for one in environ if one.startswith(b"LICTOR_SERV")]
    return names[0] if names else "no name"


@pytest.fixture
def zoo(make_agent: MakeAgent, tmp_path: Path, under: tuple[str, ...]) -> Zoo:
    folder = tmp_path / "zoo"
    folder.mkdir()
    return Zoo(make_agent, folder, under)


def test_after_a_stop_nobody_is_left_of_any_family_also_after_an_adoption(
    zoo: Zoo, under: tuple[str, ...]
):
    agent = zoo.agent
    zoo.begin()
    assert zoo.blind or not under
    assert len(zoo.left()) > 80  # the storm, the children, and everybody's main process

    assert agent.cli("stop", "--wait").code == 0
    assert zoo.left() == {}
    assert zoo.told("slow-term") == ["up", "clean"]

    zoo.forget()
    assert agent.cli("start", "--wait").code == 0
    zoo.wait_all()
    mains, everybody = zoo.mains(), zoo.left()
    agent.kill9()
    assert zoo.left() == everybody
    agent.start()
    assert zoo.mains() == mains
    assert {row["restarts"] for row in agent.status()} == {0}
    assert zoo.left() == everybody
    assert agent.cli("stop", "--wait").code == 0
    assert zoo.left() == {}
    assert zoo.told("slow-term") == ["up", "clean"]
    assert agent.down().code == 0


def test_what_outlived_its_service_while_no_agent_was_there_is_ended_by_the_next_one(zoo: Zoo):
    agent = zoo.agent
    zoo.begin()
    mains, blind = zoo.mains(), zoo.blind
    agent.kill9()
    for pid in mains.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, mains.values())), what="only children are left")
    hidden = {int(pid) for pid in zoo.told("scrubbed")}
    orphans = zoo.left()
    assert hidden <= orphans.keys()
    assert {*orphans.values()} >= {"grandchildren", "escape-group", "engine", "fork-storm"}
    agent.start()
    # Nothing but a cgroup could tell whose child that is which left its session, lost its parent
    # and wrote over its environment.
    beyond_us = hidden if blind else set()
    wait_until(lambda: zoo.left().keys() == beyond_us, what="the others are ended")
    assert {row["phase"] for row in agent.status()} == {"failed"}  # and none of them was adopted
    for pid in beyond_us:
        os.kill(pid, signal.SIGKILL)
    zoo.forget()
    assert agent.cli("start", "--wait").code == 0
    zoo.wait_all()
    assert agent.down().code == 0
    assert zoo.left() == {}


# --- one after the other, never two at a time -----------------------------------------------------


class Loner:
    """The service whose tree holds a lock: it says itself whether it ever ran twice."""

    def __init__(self, make: MakeAgent, folder: Path, under: tuple[str, ...], **stop: str) -> None:
        self.file = folder / "alone"
        self.agent: RunningAgent = make(
            self.services(**{"timeout": "1s", **stop}), sections=ALONE, under=under
        )
        self.agent.start()
        self.wait_runs(1)

    def services(self, **stop: str) -> dict[str, Any]:
        argv = child("alone", file=self.file, seconds=0)
        return {"alone": service(argv, stop={"pause": "0s", **stop})}

    def lines(self) -> list[list[str]]:
        """What it wrote: begin, end or overlap, its pid, and the moment."""
        return [line.split() for line in text_of(self.file).splitlines()]

    def runs(self) -> int:
        return [line[0] for line in self.lines()].count("begin")

    def wait_runs(self, count: int) -> None:
        wait_until(lambda: self.runs() == count, what=f"run {count}")
        self.agent.wait_ready("alone")
        wait_until(lambda: len(self.agent.processes()) == 2, what="one tree")

    def order_and_kill_agent(self, verb: str) -> int:
        """The agent dies over an order; what was left then: a deaf child without its parent.

        It needs a grace time in which a busy machine comes to kill the agent.
        """
        pid = self.agent.service_pid("alone")
        self.agent.ask("change", {"verb": verb, "names": ["alone"]})
        wait_until(lambda: not alive(pid), what="the main process has ended")
        self.agent.kill9()
        (left,) = self.agent.processes()
        return left

    def check(self) -> None:
        """Never two at a time, and each end before the next begin."""
        lines = self.lines()
        assert "overlap" not in {line[0] for line in lines}
        moments = [float(line[2]) for line in lines]
        assert moments == sorted(moments)
        for before, line in pairwise(lines):
            assert line[0] == "begin" or before[:2] == ["begin", line[1]], lines


def test_a_new_run_begins_only_when_the_whole_tree_of_the_last_one_is_gone(
    make_agent: MakeAgent, tmp_path: Path, under: tuple[str, ...]
):
    one = Loner(make_agent, tmp_path, under)
    agent = one.agent
    assert agent.cli("restart", "alone", "--wait").code == 0
    one.wait_runs(2)
    os.kill(agent.service_pid("alone"), signal.SIGKILL)
    one.wait_runs(3)
    agent.kill9()
    agent.start()
    assert agent.cli("restart", "alone", "--wait").code == 0
    one.wait_runs(4)
    # Main process and agent die in one moment: only the child is left.
    pid = agent.service_pid("alone")
    agent.signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    agent.kill9()
    wait_until(lambda: not alive(pid), what="it is dead")
    agent.configure(one.services(timeout="5s"))
    agent.start()
    one.wait_runs(5)
    # The agent dies amid a restart: the old tree is half gone, and nobody waits for the rest.
    left = one.order_and_kill_agent("restart")
    agent.start()
    one.wait_runs(6)
    assert not alive(left)
    one.check()
    assert agent.cli("stop", "alone", "--wait").code == 0
    assert agent.processes() == []


def test_a_stop_that_an_agent_died_over_is_brought_to_its_end_by_the_next_one(
    make_agent: MakeAgent, tmp_path: Path, under: tuple[str, ...]
):
    one = Loner(make_agent, tmp_path, under, timeout="5s")
    agent = one.agent
    left = one.order_and_kill_agent("stop")
    agent.start()
    assert agent.cli("stop", "alone", "--wait").code == 0
    assert not alive(left)
    assert agent.row("alone")["phase"] == "stopped"
    assert one.runs() == 1


def test_what_is_left_of_a_service_that_is_defined_no_more_is_ended_too(
    make_agent: MakeAgent, tmp_path: Path, under: tuple[str, ...]
):
    one = Loner(make_agent, tmp_path, under)
    agent = one.agent
    pid = agent.service_pid("alone")
    agent.kill9()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(agent.processes()) == 1, what="only the child is left")
    agent.configure({"other": service(child("good"))})
    agent.start()
    wait_until(lambda: {row["name"] for row in agent.status()} == {"other"}, what="it is forgotten")
    agent.wait_ready("other")
    assert agent.processes() == [agent.service_pid("other")]


# --- limits, and health ---------------------------------------------------------------------------


def without_effect(agent: RunningAgent, limit: str) -> bool:
    """Whether this host cannot keep a limit (there is no such controller in our hands)."""
    notes = agent.ask("status", {"verbose": True})[0]["notes"]
    return any(re.search(rf"no effect.*\b{limit}\b", note) for note in notes)


def test_a_storm_of_forks_is_held_and_the_others_do_not_feel_it(
    make_agent: MakeAgent, tmp_path: Path
):
    storm = child("fork-storm", count=500, seconds=0.5, file=tmp_path / "storm")
    services = {
        "storm": service(storm, limits={"tasks": 40}, stop={"timeout": "1s", "pause": "0s"}),
        "calm": service(child("good")),
    }
    agent = make_agent(services, sections=ALONE).start()
    agent.wait_ready("storm", "calm")
    if without_effect(agent, "tasks"):
        pytest.skip("no pids controller of ours")
    calm = agent.service_pid("calm")
    wait_until(lambda: text_of(tmp_path / "storm"), what="the storm is over")
    assert int(text_of(tmp_path / "storm")) == 39
    assert len(agent.processes()) == 41
    agent.kill9()
    agent.start()
    assert agent.cli("stop", "storm", "--wait").code == 0
    assert agent.processes() == [calm]


def test_who_takes_too_much_memory_is_said_to_have_run_out_of_it(make_agent: MakeAgent):
    greedy = service(
        child("eat-memory", count=512), limits={"memory": "96MiB"}, restart={"backoff": "60s"}
    )
    agent = make_agent({"greedy": greedy}, sections=ALONE).start()
    if without_effect(agent, "memory"):
        pytest.skip("no memory controller of ours")
    if not re.search(r"^SwapFree: +0 kB$", Path("/proc/meminfo").read_text(), re.MULTILINE):
        pytest.skip("what is too much may go to swap here")
    row = agent.wait_phase("greedy", "backoff")
    assert "memory" in row["sentence"]
    assert row["reason"] in {"exit.oom", "start.exit_oom"}
    assert agent.processes() == []


@pytest.mark.parametrize("kind", ["close-port", "frozen"])
def test_who_lives_and_answers_nobody_is_unhealthy_and_can_be_stopped(
    make_agent: MakeAgent, kind: str
):
    port = free_port()
    health = {"http": "/", "interval": "1s", "timeout": "1s", "failures": 2}
    mute = service(
        child("close-port", port=port, seconds=300),
        port,
        health={**health, "on_unhealthy": "ignore"},
    )
    agent = make_agent({"mute": mute}, sections=ALONE).start()
    agent.wait_ready("mute")
    pid = agent.service_pid("mute")
    os.kill(pid, signal.SIGSTOP if kind == "frozen" else signal.SIGUSR1)
    row = agent.wait_phase("mute", "unhealthy")
    assert (row["pid"], row["restarts"], alive(pid)) == (pid, 0, True)
    began = time.monotonic()
    assert agent.cli("stop", "mute", "--wait").code == 0
    assert time.monotonic() - began < 20
    assert agent.processes() == []


def test_one_that_goes_into_the_background_is_told_so(
    make_agent: MakeAgent, tmp_path: Path, under: tuple[str, ...]
):
    argv = child("double-fork", file=tmp_path / "said")
    agent = make_agent({"daemon": service(argv, restart=NEVER)}, sections=ALONE, under=under)
    agent.start()
    wait_until(lambda: agent.row("daemon")["phase"] == "failed", what="it failed")
    row = agent.row("daemon")
    assert "into the background" in row["sentence"]
    assert "start it in the foreground" in row["sentence"]
    wait_until(lambda: agent.processes() == [], what="its children are ended")
