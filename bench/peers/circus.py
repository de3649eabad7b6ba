"""circus as an ini file starts it (it looks at its processes every five seconds), without warm-up."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import common

from peers.peer import BENCH, Peer

_PYTHON = BENCH / "venv" / "bin" / "python"

_ASK = """
import sys, time
from circus.client import CircusClient
client = CircusClient(endpoint=sys.argv[1], timeout=30)
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    client.call({"command": "stats", "properties": {}})
    print(time.perf_counter() - begun)
"""


class Circus(Peer):
    title = "circus"
    slow_restart = True
    check_delay = "5.0"

    @classmethod
    def missing(cls) -> str | None:
        there = _PYTHON.with_name("circusd").exists()
        return None if there else "circus is not installed"

    @classmethod
    def version(cls) -> str:
        argv = [_PYTHON, "-c", "import importlib.metadata as m; print(m.version('circus'))"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def prepare(self) -> None:
        self.ports = [common.free_port() for _ in range(2)]
        lines = [
            "[circus]",
            f"check_delay = {self.check_delay}",
            "warmup_delay = 0",
            f"endpoint = tcp://127.0.0.1:{self.ports[0]}",
            f"pubsub_endpoint = tcp://127.0.0.1:{self.ports[1]}",
            "loglevel = error",
        ]
        for name, argv in self.commands.items():
            lines += [f"[watcher:{name}]", f"cmd = {argv[0]}", f"args = {' '.join(argv[1:])}"]
            lines += ["numprocesses = 1", "warmup_delay = 0", "copy_env = True"]
        (self.folder / "circus.ini").write_text("\n".join(lines) + "\n")

    def argv(self) -> Sequence[str | Path]:
        return [_PYTHON.with_name("circusd"), self.folder / "circus.ini"]

    def status_times(self, calls: int) -> list[float]:
        # A call takes half a second at a hundred services: a tenth of the calls says as much.
        argv = [_PYTHON, "-c", _ASK, f"tcp://127.0.0.1:{self.ports[0]}", str(max(3, calls // 10))]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
        return [float(line) for line in done.stdout.split()]


class CircusFast(Circus):
    """The quickest circus: it looks a hundred times a second, and pays for it."""

    title = "circus, check_delay 0.01"
    slow_restart = False
    check_delay = "0.01"
