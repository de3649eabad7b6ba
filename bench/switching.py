"""The switch of a group's name in Consul's DNS, after the best engine was killed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path

import child
import common
import dns.message
import dns.query
from consul_server import Consul

_RUNS = 5


def report(top: Path, where: Consul, program: Path) -> list[str]:
    """From the kill -9 of the best engine to the next one's port in the answer of Consul's DNS."""
    folder = top / "group"
    folder.mkdir()
    marks = child.Marks(folder / "marks")
    ports = {name: common.free_port() for name in ("first", "second")}
    lines = [
        f"  {name}: {{command: ['{program}', '{marks.path}', {name}, '{port}'], port: {port},"
        f" group: voice, rank: {rank}, health: {{tcp: '127.0.0.1:{port}', interval: 1s}},"
        " restart: {backoff: 60s, policy: never}}"
        for rank, (name, port) in enumerate(ports.items(), 1)
    ]

    def answer() -> set[int]:
        question = dns.message.make_query("voice.query.consul", "SRV")
        found = dns.query.udp(question, "127.0.0.1", port=where.dns, timeout=5)
        return {item.port for block in found.answer for item in block}

    times = []
    for number in range(_RUNS):
        with common.agent_over(folder / f"agent{number}", where.address, lines):
            common.until(lambda: answer() == {ports["first"]}, "the best has the name")
            time.sleep(1)
            begun = time.monotonic()
            os.kill(marks.latest()["first"].pid, signal.SIGKILL)
            common.until(
                lambda: answer() == {ports["second"]}, "the next has the name", pause=0.001
            )
            times.append(time.monotonic() - begun)
    low, most = statistics.median(times), max(times)
    return [
        f"kill -9 of a group's best engine → the next one in DNS, median (worst of {_RUNS})",
        f"{low * 1000:.0f} ({most * 1000:.0f})",
        "-",
        "-",
    ]
