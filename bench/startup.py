"""How long until light services run: Lictor beside supervisord, with the same children.

A run begins with the exec of the supervisor; its time is when the last child began to run, by the
child's own clock. Where there is a Consul the run goes on until Consul's agent holds every service,
which is a second figure: services do not wait for Consul. The contestants take turns, so that a
noisy moment of the machine hits all of them. supervisord gets the settings with which it is fastest
(startsecs=0, no log). One service is measured as well, to show what is a fixed cost.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import common
import consul_server

_DEADLINE_S = 60.0
_OURS = re.compile(r"s\d{3}")


def run_once(
    argv: list[str | Path], child: common.Child, folder: Path, count: int, consul: str | None
) -> tuple[float, float | None]:
    """Seconds from exec until the last of `count` children runs, and until Consul holds them all."""
    marks, log = folder / "marks", folder / "output"
    with common.started(argv, log) as (process, clocks):
        deadline = time.monotonic() + _DEADLINE_S

        def until(what: str, seen: Callable[[], int]) -> None:
            while (number := seen()) < count:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise common.failed(process, log, f"{number} of {count} services {what}")
                time.sleep(0.01)

        until("run", lambda: len(common.moments(marks)))
        running = max(common.moments(marks)) - clocks[child.clock]
        if consul is None:
            return running, None
        until("are registered", lambda: registered(consul))
        return running, time.monotonic() - clocks[time.CLOCK_MONOTONIC]


def registered(consul: str) -> int:
    """How many of our services Consul's agent holds."""
    with urllib.request.urlopen(f"{consul}/v1/agent/services", timeout=5) as answer:
        names = [entry["Service"] for entry in json.load(answer).values()]
    return sum(_OURS.fullmatch(name) is not None for name in names)


def wait_until_empty(consul: str) -> None:
    """The next run must not find the services of this one."""
    deadline = time.monotonic() + _DEADLINE_S
    while registered(consul):
        if time.monotonic() > deadline:
            raise RuntimeError("services stayed in Consul after the agent had ended")
        time.sleep(0.05)


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


Contestant = Callable[[Path, list[list[str]]], list[str | Path]]


_AWAY, _WITH, _PEER = "Lictor, Consul away", "Lictor, with Consul", "supervisord"


def contestants(consul: str | None) -> dict[str, Contestant]:
    found: dict[str, Contestant] = {_AWAY: lambda folder, commands: lictor(folder, commands, None)}
    if consul is not None:
        found[_WITH] = lambda folder, commands: lictor(folder, commands, consul)
    if shutil.which("supervisord"):
        found[_PEER] = supervisord
    return found


Runs = dict[str, list[tuple[float, float | None]]]


def measure(count: int, runs: int) -> tuple[Runs, str]:
    """Both figures of every run by contestant, and what the children were."""
    with common.scratch() as top:
        child = common.make_child(top)
        with consul_server.started(top) as server:
            consul = server and server.address
            rivals = contestants(consul)
            times: Runs = {name: [] for name in rivals}
            for turn in range(runs):
                for number, (name, rival) in enumerate(rivals.items()):
                    folder = top / f"{turn}-{number}"
                    (folder / "marks").mkdir(parents=True)
                    commands = [child.command(folder / "marks" / str(n)) for n in range(count)]
                    asked = consul if name == _WITH else None
                    argv = rival(folder, commands)
                    times[name].append(run_once(argv, child, folder, count, asked))
                    if asked:
                        wait_until_empty(asked)
    return times, child.kind


def supervisord_version() -> str:
    program = shutil.which("supervisord")
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def report(counts: Sequence[int], runs: int) -> str:
    """The section of the benchmark page."""
    rows, kind = [], ""
    for count in counts:
        times, kind = measure(count, runs)
        running = {name: [run for run, _ in values] for name, values in times.items()}
        base = running.get(_PEER)
        for name, values in running.items():
            ratio = f"{statistics.median(values) / statistics.median(base):.2f}" if base else "-"
            held = [when for _, when in times[name] if when is not None]
            title = f"{name} {supervisord_version()}" if name == _PEER else name
            in_consul = common.spread(held)[0] if held else "-"
            rows.append([title, str(count), *common.spread(values), ratio, in_consul])
    head = ["", "services", "median ms", "min", "max", "× supervisord", "all in Consul, median ms"]
    return (
        "## Start\n\n"
        "From the exec of the supervisor to the first instruction of the last service, by the "
        f"service's own clock; {runs} runs each, taking turns. The service is {kind}. supervisord "
        "runs with `startsecs=0` and without a log of its own.\n\n"
        + common.table(head, rows)
        + "\n\nServices do not wait for Consul, so its column is a time of its own: from the same exec "
        "until Consul's agent holds every service. Compare the rows for one service before reading a "
        "ratio: what a supervisor takes for one is its fixed cost, and it is most of supervisord's "
        "time for fifty. The ratio says little about the cost of each further service.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print(report(options.services, options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
