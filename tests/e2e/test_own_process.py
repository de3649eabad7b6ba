"""The agent as a process among processes: systemd, containers, zombies, memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, child, text_of
from tests.support.notified import NotifySocket, abstract_name

ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}
IN_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def plain(*argv: str, **keys: object) -> dict[str, object]:
    return {"command": list(argv), "health": "none", "stop": {"timeout": "2s"}, **keys}


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in text_of(task / "children").split()]
    return found


def zombies_of(pid: int) -> list[int]:
    return [one for one in children_of(pid) if not alive(one)]


def fds_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


# --- systemd ------------------------------------------------------------------------------------


@pytest.fixture
def systemd():
    receiver = NotifySocket(abstract_name())
    yield receiver
    receiver.close()


def test_systemd_hears_of_ready_of_reloads_of_life_and_of_the_end(
    make_agent: MakeAgent, systemd: NotifySocket
):
    name = unique("piper")
    env = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "600000"}
    agent = make_agent({name: plain(*child("good"))}, sections=ALONE, env=env).start()
    systemd.wait_for(lambda said: said.get("READY") == "1")
    systemd.wait_for(lambda said: said.get("STATUS") == "Ready: 1 of 1 services.")
    service = agent.service_pid(name)
    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{service}/environ").read_bytes()

    # A wrong file changes nothing, and the agent is ready again afterwards.
    agent.config.write_text("services: {x: [}")
    before = len(systemd.hear())
    assert agent.cli("reload").code != 0
    systemd.wait_for(lambda said: "RELOADING" in said, after=before)
    systemd.wait_for(lambda said: said == {"READY": "1"}, after=before)

    def signs() -> int:
        return sum("WATCHDOG" in said for said in systemd.hear())

    wait_until(lambda: signs() >= 3)
    agent.signal(signal.SIGSTOP)  # stuck, as far as systemd can see
    time.sleep(0.1)
    before = signs()
    time.sleep(1.5)
    assert signs() == before
    agent.signal(signal.SIGCONT)
    wait_until(lambda: signs() >= before + 2)
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert sum("STOPPING" in said for said in systemd.hear()) == 1


def test_an_agent_told_to_keep_leaves_its_services_on_term_whatever_the_config_says(
    make_agent: MakeAgent, systemd: NotifySocket
):
    name = unique("piper")
    agent = make_agent(
        {name: plain(*child("good"))},
        sections=ALONE,
        options=("--on-term", "keep"),
        env={"NOTIFY_SOCKET": systemd.address},
    ).start()
    agent.wait_ready(name)
    service = agent.service_pid(name)
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    systemd.wait_for(lambda said: said.get("STOPPING") == "1")
    assert alive(service)
    agent.start()
    agent.wait_ready(name)
    assert agent.service_pid(name) == service


# --- as pid 1 -----------------------------------------------------------------------------------


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*IN_CONTAINER, "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture
def as_init(make_agent: MakeAgent) -> Callable[..., RunningAgent]:
    """An agent that is pid 1 of a pid namespace, as in a container."""
    if not can_unshare():
        pytest.skip("no right to make a pid namespace here")

    def make(services: dict[str, object], **options: object) -> RunningAgent:
        return make_agent(services, sections=ALONE, under=IN_CONTAINER, **options).start()

    return make


def test_as_pid_1_it_collects_orphans_of_everybody(as_init: Callable[..., RunningAgent]):
    name, note = unique("piper"), unique("note")
    agent = as_init({name: plain(*child("good"))})
    agent.wait_ready(name)
    (init,) = children_of(agent.pid)
    # Somebody who is no service, as with `docker exec`: his orphans become ours.
    orphans = "for i in $(seq 50); do (sleep 0.2 &) ; done; echo $$ > " + str(agent.dir / note)
    entered = ["nsenter", "--target", str(init), "--pid", "--mount", "sh", "-c", orphans]
    subprocess.run(entered, check=True, timeout=20)
    wait_until(lambda: text_of(agent.dir / note))
    wait_until(lambda: len(children_of(init)) == 1, what="only the service is left")
    assert zombies_of(init) == []
    assert agent.row(name)["restarts"] == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("on_term", ["stop", "keep"])
def test_as_pid_1_it_ends_in_order_since_nothing_would_outlive_it(
    as_init: Callable[..., RunningAgent], how: signal.Signals, on_term: str
):
    name = unique("piper")
    marker = unique("marker")
    agent = as_init({}, agent={"on_term": on_term})
    note = agent.dir / marker
    agent.configure({name: plain(*child("slow-term", seconds=0.2, file=note))})
    assert agent.cli("reload").code == 0
    agent.wait_ready(name)
    wait_until(lambda: text_of(note))
    (init,) = children_of(agent.pid)
    os.kill(init, how)
    assert agent.wait_exit() == 0
    assert "clean" in text_of(note)


# --- zombies ------------------------------------------------------------------------------------


def test_neither_zombies_nor_short_services_leave_anything_with_the_agent(make_agent: MakeAgent):
    names = [unique("short") for _ in range(500)]
    agent = make_agent({}, sections=ALONE).start()
    fds = fds_of(agent.pid)
    note = agent.dir / "made"
    short = plain("/bin/true", restart={"policy": "never"})
    services = dict.fromkeys(names, short)
    services["many"] = plain(*child("zombies", count=200, file=note))
    agent.configure(services)
    assert agent.cli("reload").code == 0
    wait_until(lambda: text_of(note))
    assert agent.cli("stop", "many", "--wait").code == 0

    def over() -> bool:
        return all(row["phase"] == "stopped" for row in agent.status())

    wait_until(over, within=60)
    wait_until(lambda: children_of(agent.pid) == [], what="nothing is left to collect")
    wait_until(lambda: abs(fds_of(agent.pid) - fds) <= 5, what="no descriptor stays open")
    assert agent.processes() == []


# --- memory -------------------------------------------------------------------------------------


def score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def may_lower() -> bool:
    """Whether this process has CAP_SYS_RESOURCE; root in many containers has not."""
    ask = "echo -1 > /proc/self/oom_score_adj"
    return subprocess.run(["sh", "-c", ask], check=False, capture_output=True).returncode == 0


def test_the_agent_is_spared_when_memory_runs_out_and_its_children_are_not(make_agent: MakeAgent):
    if not may_lower():
        pytest.skip("no right to lower oom_score_adj here")
    name, note = unique("piper"), unique("probe")
    agent = make_agent({}, sections=ALONE)
    seen = agent.dir / note
    script = f"cat /proc/self/oom_score_adj >> {seen}"
    service = plain(*child("good"), before=[["sh", "-c", script]])
    service["health"] = {"command": ["sh", "-c", script], "interval": "1s"}
    agent.configure({name: service})
    agent.start()
    agent.wait_ready(name)
    assert score_of(agent.pid) <= -500
    assert score_of(agent.service_pid(name)) >= 0
    assert all(int(line) >= 0 for line in text_of(seen).split())
    assert len(text_of(seen).split()) >= 2
