"""KV put to a running process, beside a blocking query that starts the same program."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import statistics
import threading
import time
from pathlib import Path

import child
import common
from consul_server import Consul

_ROUNDS = 40


def report(top: Path, where: Consul, program: Path) -> list[str]:
    (top / "kv").mkdir()
    floor = _floor(where, program, child.Marks(top / "kv" / "floor"))
    marks = child.Marks(top / "kv" / "marks")
    lines = [f"  job: {{command: ['{program}', '{marks.path}', job], stop: {{pause: 0s}}}}"]
    key, times = "kv/lictor/desired/bench/job", []
    with common.agent_over(top / "kv" / "agent", where.address, lines):
        marks.wait(bool, 30)
        common.until(lambda: where.call("GET", "kv/lictor/desired/bench/_lictor"), "the watch runs")
        time.sleep(1)
        for _ in range(_ROUNDS):
            pid = marks.read()[-1].pid
            where.call("PUT", key, {"state": "stopped"})
            common.until(lambda pid=pid: not child.alive(pid), "the service stops", pause=0.002)
            time.sleep(0.2)
            before = len(marks.read())
            begun = time.monotonic()
            where.call("PUT", key, {"state": "running"})
            marks.wait(lambda _s, before=before: len(marks.starts) > before, 10)
            times.append(marks.starts[-1].at - begun)
    low, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    base, base_high = statistics.median(floor), statistics.quantiles(floor, n=20)[-1]
    return [
        "KV put → first instruction of the service, p50 (p95)",
        f"{low * 1000:.1f} ({high * 1000:.1f})",
        f"{base * 1000:.1f} ({base_high * 1000:.1f}), a blocking query and posix_spawn",
        f"{low / base:.2f}",
    ]


def _floor(where: Consul, program: Path, marks: child.Marks) -> list[float]:
    """A blocking query of its own that starts the program: nothing can be quicker from Python."""
    times: list[float] = []
    started: list[int] = []
    over = threading.Event()

    def follow() -> None:
        index = 0
        while not over.is_set():
            host, _, port = where.address.removeprefix("http://").rpartition(":")
            link = http.client.HTTPConnection(host, int(port), timeout=30)
            link.request("GET", f"/v1/kv/floor/key?index={index}&wait=5s")
            answer = link.getresponse()
            data = answer.read()
            link.close()
            if answer.status != http.HTTPStatus.OK:
                time.sleep(0.05)  # a Consul without a leader says so, and has no index
                continue
            new = int(answer.headers["X-Consul-Index"])
            if new != index and index and data:
                argv = [str(program), str(marks.path), "floor"]
                started.append(os.posix_spawn(argv[0], argv, os.environ))
            index = new

    where.call("PUT", "kv/floor/key", {"n": 0})
    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    for number in range(_ROUNDS):
        before = len(marks.read())
        begun = time.monotonic()
        where.call("PUT", "kv/floor/key", {"n": number + 1})
        marks.wait(lambda _s, before=before: len(marks.starts) > before, 10)
        start = marks.starts[-1]
        times.append(start.at - begun)
        os.kill(start.pid, signal.SIGKILL)
        os.waitpid(start.pid, 0)
        time.sleep(0.1)
    over.set()
    where.call("PUT", "kv/floor/key", {"n": -1})
    thread.join()
    for pid in started:  # not by its mark: the last of them may not have made one yet
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return times
