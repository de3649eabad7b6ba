"""How long until 50 light services run: Lictor beside supervisord, with the same children.

Each run begins with the exec of the supervisor and ends when the last child has begun to run, by
the child's own clock. The contestants take turns, so that a noisy moment of the machine hits all
of them. supervisord gets the settings with which it is fastest (startsecs=0, no log).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import common

_DEADLINE_S = 60.0


def run_once(argv: list[str | Path], child: common.Child, folder: Path, count: int) -> float:
    """Seconds from exec to the first instruction of the last of `count` children."""
    marks, log = folder / "marks", folder / "output"
    with common.started(argv, log) as (process, clocks):
        deadline = time.monotonic() + _DEADLINE_S
        while len(seen := common.moments(marks)) < count:
            if process.poll() is not None or time.monotonic() > deadline:
                raise common.failed(process, log, f"{len(seen)} of {count} services run")
            time.sleep(0.01)
        return max(seen) - clocks[child.clock]


def lictor(folder: Path, commands: list[list[str]], consul: str | None) -> list[str | Path]:
    return [common.LICTOR, "up", "-c", common.agent_config(folder, commands, consul)]


def supervisord(folder: Path, commands: list[list[str]]) -> list[str | Path]:
    lines = [
        "[supervisord]",
        "nodaemon=true",
        "loglevel=critical",
        "logfile=/dev/null",
        "logfile_maxbytes=0",
        f"pidfile={folder / 'pid'}",
        f"childlogdir={folder}",
    ]
    for number, command in enumerate(commands):
        quoted = " ".join("'" + part.replace("%", "%%") + "'" for part in command)
        lines += [f"[program:s{number:03}]", f"command={quoted}", "startsecs=0", "autorestart=true"]
    path = folder / "supervisord.conf"
    path.write_text("\n".join(lines) + "\n")
    return [shutil.which("supervisord") or "supervisord", "-c", path]


@contextlib.contextmanager
def real_consul(folder: Path) -> Iterator[str | None]:
    """A Consul of our own on free ports for the second row; None where there is no program."""
    binary = common.consul_binary()
    if binary is None:
        yield None
        return
    ports = {name: common.free_port() for name in ("http", "server", "serf_lan")}
    config = folder / "consul.json"
    unused = {"dns": -1, "grpc": -1, "serf_wan": -1}
    config.write_text(
        json.dumps({"ports": {**ports, **unused}, "performance": {"raft_multiplier": 1}})
    )
    argv = [binary, "agent", "-dev", "-node=bench", "-bind=127.0.0.1", "-log-level=err"]
    log = folder / "consul.log"
    with common.started([*argv, f"-config-file={config}"], log) as (process, _):
        address = f"http://127.0.0.1:{ports['http']}"
        deadline = time.monotonic() + _DEADLINE_S
        while not has_leader(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise common.failed(process, log, "Consul did not become ready")
            time.sleep(0.1)
        yield address


def has_leader(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/v1/status/leader", timeout=2) as answer:
            return len(answer.read()) > 4
    except (OSError, urllib.error.URLError):
        return False


Contestant = Callable[[Path, list[list[str]]], list[str | Path]]


def contestants(consul: str | None) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {
        "Lictor, Consul away": lambda folder, commands: lictor(folder, commands, None)
    }
    if consul is not None:
        found["Lictor, with Consul"] = lambda folder, commands: lictor(folder, commands, consul)
    if shutil.which("supervisord"):
        found["supervisord"] = supervisord
    return found


def measure(count: int, runs: int) -> tuple[dict[str, list[float]], str]:
    """Seconds of every run by contestant, and what the children were."""
    with common.scratch() as top:
        child = common.make_child(top)
        with real_consul(top) as consul:
            rivals = contestants(consul)
            times: dict[str, list[float]] = {name: [] for name in rivals}
            for turn in range(runs):
                for number, (name, rival) in enumerate(rivals.items()):
                    folder = top / f"{turn}-{number}"
                    (folder / "marks").mkdir(parents=True)
                    commands = [child.command(folder / "marks" / str(n)) for n in range(count)]
                    times[name].append(run_once(rival(folder, commands), child, folder, count))
    return times, child.kind


def supervisord_version() -> str:
    program = shutil.which("supervisord")
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def report(count: int, runs: int) -> str:
    """The section of the benchmark page."""
    times, kind = measure(count, runs)
    base = times.get("supervisord")
    rows = []
    for name, values in times.items():
        ratio = f"{statistics.median(values) / statistics.median(base):.2f}" if base else "-"
        title = f"{name} {supervisord_version()}" if name == "supervisord" else name
        rows.append([title, *common.spread(values), ratio])
    return (
        f"## Start of {count} services\n\n"
        f"From the exec of the supervisor to the first instruction of the last of {count} services, "
        f"by the service's own clock; {runs} runs each, taking turns. The service is {kind}. "
        "supervisord runs with `startsecs=0` and without a log of its own.\n\n"
        + common.table(["", "median ms", "min", "max", "× supervisord"], rows)
        + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print(report(options.services, options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
