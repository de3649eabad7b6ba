"""Whose a process is, by proof: real processes, real marks, and strangers that stay strangers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lictor.core.drivers.tree import boot_id, read_proc, ticks_now
from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.runtime.gpu import owners as gpu_owners
from lictor.core.runtime.gpu.owners import Owners
from tests.support.agent import wait_until
from tests.support.children import alive

AGENT = "0f0e0d0c-0000-4000-8000-0123456789ab"
XTTS = ServiceKey("xtts")


@pytest.fixture
def start() -> Iterator:
    """Starts processes, in a session of their own, and ends them after the test."""
    made: list[subprocess.Popen] = []

    def one(*argv: str, env: dict[str, str] | None = None, session: bool = True) -> int:
        made.append(
            subprocess.Popen(
                argv or ("sleep", "300"),
                env={"PATH": os.environ["PATH"], **(env or {})},
                start_new_session=session,
                stdout=subprocess.PIPE,
            )
        )
        pid = made[-1].pid
        # The kernel fills it in a moment after it has told `Popen` that the program was executed.
        wait_until(lambda: Path(f"/proc/{pid}/environ").read_bytes())
        return pid

    yield one
    for process in made:
        process.kill()
        process.communicate()


def identity(pid: int) -> Identity:
    proc = read_proc(pid)
    assert proc is not None
    return Identity(pid, proc.start, boot_id())


def marked(agent: str = AGENT, name: str = "xtts", run: int | None = None) -> dict[str, str]:
    return {
        "LICTOR_MARK": f"{agent}:{name}",
        "LICTOR_RUN": str(ticks_now() if run is None else run),
    }


def whose(pid: int, mains=None) -> str | None:
    owned = Owners(AGENT).of([pid], mains or {})[pid]
    return None if owned is None else str(owned.key)


def test_our_mark_proves_it_and_that_of_another_agent_does_not(start):
    assert whose(start(env=marked())) == "xtts"
    assert whose(start(env=marked(agent="another"))) is None
    assert whose(start(env=marked(name="xtts@a"))) == "xtts@a"
    assert whose(start()) is None
    assert whose(os.getpid()) is None


def test_the_main_process_its_session_and_its_children_are_its_own(start):
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '300'], start_new_session=True)"
    code += "; print(p.pid, flush=True); p.wait()"
    main = start(sys.executable, "-c", code)
    deadline = time.monotonic() + 15
    children: list[int] = []
    while not children and time.monotonic() < deadline:
        words = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        children = [int(word) for word in words]
        time.sleep(0.02)
    (child,) = children
    mains = {XTTS: identity(main)}
    try:
        assert whose(main, mains) == "xtts"
        assert whose(child, mains) == "xtts"
        assert whose(child) is None, "without its parent nothing tells"
    finally:
        os.kill(child, 9)


def test_a_reused_number_is_not_the_service(start):
    pid = start()
    other = identity(pid)
    mains = {XTTS: Identity(pid, other.start_time - 1000, other.boot_id)}
    assert whose(pid, mains) is None


def test_what_was_proved_once_stays_when_the_proof_is_gone(start):
    pid, owners = start(), Owners(AGENT)
    assert owners.of([pid], {XTTS: identity(pid)})[pid] is not None
    again = owners.of([pid], {})[pid]
    assert again is not None
    assert again.key == XTTS


def test_a_dead_process_is_remembered_as_long_as_it_is_listed(start):
    pid, owners = start(env=marked()), Owners(AGENT)
    assert owners.of([pid], {})[pid] is not None
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert owners.of([pid], {})[pid] is not None
    assert owners.of([], {}) == {}
    assert owners.of([pid], {}) == {}, "once it is off the list, its number means nothing"


def test_a_left_over_is_one_whose_service_rests_or_runs_anew(start):
    owners = Owners(AGENT)
    early = start(env=marked(run=ticks_now() - 100_000))
    main = start(env=marked())
    found = owners.of([early, main], {XTTS: identity(main)})
    assert owners.leftovers(found, {XTTS: None}) == [], "it is being started or ended"
    over = owners.leftovers(found, {XTTS: identity(main)})
    assert [owned.proc.pid for owned in over] == [early]
    assert {owned.proc.pid for owned in owners.leftovers(found, {})} == {early, main}


def test_left_overs_are_ended_in_time_and_strangers_are_not_touched(start, monkeypatch):
    monkeypatch.setattr(gpu_owners, "_TERM_AFTER", 0.1)
    monkeypatch.setattr(gpu_owners, "_KILL_AFTER", 0.3)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
    pid, stranger = start(sys.executable, "-c", deaf, env=marked()), start()
    owners, told = Owners(AGENT), 0
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        found = owners.of([pid, stranger], {})
        told += len(owners.end(owners.leftovers(found, {})))
        time.sleep(0.02)
    assert not alive(pid)
    assert told == 1, "it is told once"
    assert alive(stranger)
