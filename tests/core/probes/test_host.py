"""Usage and ports as the kernel tells them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.probes import host as host_module
from lictor.core.probes.host import ProcUsage

A, B = ServiceKey("a"), ServiceKey("b")


def identity(pid: int) -> Identity:
    stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return Identity(pid, int(stat[19]), "boot")


@pytest.fixture
def run() -> Iterator[object]:
    """Run a shell script in a session of its own; all of it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> int:
        one = subprocess.Popen(["sh", "-c", script], start_new_session=True)
        started.append(one)
        return one.pid

    yield start
    for one in started:
        os.killpg(one.pid, 9)
        one.wait()


def until(truth) -> None:
    deadline = time.monotonic() + 15
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_tree_is_counted_as_a_whole_and_apart_from_its_neighbour(run):
    a, b = run("sleep 60 & sleep 60 & wait"), run("exec sleep 60")
    roots = {A: identity(a), B: identity(b)}
    until(lambda: ProcUsage().sample(roots)[A].processes == 3)
    usage = ProcUsage().sample(roots)
    assert (usage[A].threads, usage[B].processes, usage[B].threads) == (3, 1, 1)
    assert 3 * 100_000 < usage[A].memory_bytes < 100_000_000


def test_a_child_in_a_session_of_its_own_still_counts(run):
    a = run("setsid sleep 60 & wait")
    roots = {A: identity(a)}
    until(lambda: ProcUsage().sample(roots)[A].processes == 2)


def test_memory_agrees_with_what_the_kernel_says_elsewhere(run):
    pid = run("exec sleep 60")
    time.sleep(0.2)
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert ProcUsage().sample({A: identity(pid)})[A].memory_bytes == pytest.approx(
        resident, rel=0.3
    )


def ticks_and_time(pid: int) -> tuple[int, float]:
    """The processor's time a process has used, in ticks, and when."""
    part = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    return int(part[11]) + int(part[12]), time.clock_gettime(time.CLOCK_BOOTTIME)


def percent(begun: tuple[int, float], ended: tuple[int, float], span: float) -> float:
    return 100 * (ended[0] - begun[0]) / os.sysconf("SC_CLK_TCK") / span


def test_a_busy_process_shows_near_one_core_and_an_idle_one_none(run):
    busy, idle = run("while :; do :; done"), run("exec sleep 60")
    roots = {A: identity(busy), B: identity(idle)}
    probe = ProcUsage()
    # Others may want the processor as well: the kernel's own count around each sample says what is
    # right, and is itself at most one core's.
    before = ticks_and_time(busy)
    first = probe.sample(roots)
    begun = ticks_and_time(busy)
    time.sleep(2.1)
    until(lambda: ticks_and_time(busy)[0] >= begun[0] + 20)
    ended = ticks_and_time(busy)
    second = probe.sample(roots)
    after = ticks_and_time(busy)
    assert percent(begun, ended, after[1] - before[1]) - 0.1 <= second[A].cpu_percent
    assert second[A].cpu_percent <= percent(before, after, ended[1] - begun[1]) + 0.1
    assert second[B].cpu_percent < 5
    assert first[B].cpu_percent is not None


def test_a_sample_is_kept_for_two_seconds(run, monkeypatch):
    passes = []
    real = host_module._rows
    monkeypatch.setattr(host_module, "_rows", lambda *skip: passes.append(1) or real(*skip))
    roots = {A: identity(run("exec sleep 60"))}
    probe = ProcUsage()
    for _ in range(5):
        assert probe.sample(roots)[A].processes == 1
    assert len(passes) == 1
    time.sleep(2.05)
    probe.sample(roots)
    assert len(passes) == 2


def test_an_older_sample_can_be_refused(run):
    roots = {A: identity(run("exec sleep 60"))}
    probe = ProcUsage()
    probe.sample(roots)
    assert probe.age() < 10
    first = probe._at
    time.sleep(0.1)
    probe.sample(roots, max_age=0.05)
    assert probe._at > first


def test_descriptors_and_connections_are_counted_over_the_tree_when_asked_for(run):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        near = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        far = [listener.accept()[0] for _ in near]
        try:
            roots = {A: identity(os.getpid()), B: identity(run("sleep 60 & wait"))}
            until(lambda: ProcUsage().sample(roots)[B].processes == 2)
            usage = ProcUsage().sample(roots, details=True)
            # Both ends are ours; the listener is no connection.
            assert usage[A].connections >= 6
            assert usage[A].fds >= 7
            assert usage[B].connections == 0
            assert usage[B].fds > 0
            before = usage[A].connections
        finally:
            for one in (*near, *far):
                one.close()
        assert ProcUsage().sample(roots, details=True)[A].connections <= before - 6
    assert ProcUsage().sample(roots)[B].fds is None


def test_strangers_are_not_read_again_but_a_new_service_always_is(run, monkeypatch):
    seen: list[int] = []
    real = host_module._rows
    monkeypatch.setattr(host_module, "_rows", lambda skip: seen.append(len(skip)) or real(skip))
    monkeypatch.setattr(host_module, "_SETTLED", 0.0)
    probe = ProcUsage()
    stranger = run("sleep 60 & wait")
    probe.sample({A: identity(run("exec sleep 60"))})
    time.sleep(0.3)
    # What was a stranger is now a service: an adopted process, say.
    usage = probe.sample({B: identity(stranger)}, max_age=0.0)
    assert seen[0] == 0 < seen[1]
    assert usage[B].processes >= 1
    # Numbers are given again: after a while everybody is looked at anew.
    monkeypatch.setattr(host_module, "_FORGET_STRANGERS", 0.0)
    probe.sample({B: identity(stranger)}, max_age=0.0)
    assert seen[2] == 0


def test_a_service_that_just_started_does_not_wait_for_the_next_sample(run):
    probe = ProcUsage()
    probe.sample({A: identity(run("exec sleep 60"))})
    time.sleep(0.3)
    assert B in probe.sample({B: identity(run("exec sleep 60"))})


def test_what_is_gone_or_was_never_ours_is_left_out(run):
    pid = run("exec sleep 60")
    real = identity(pid)
    stranger = Identity(pid, real.start_time - 1, "boot")
    roots = {
        A: stranger,
        B: Identity(0, 0, "boot"),
        ServiceKey("c"): Identity(2**22 + 1, 5, "boot"),
    }
    assert ProcUsage().sample(roots) == {}
    assert ProcUsage().sample({}) == {}
