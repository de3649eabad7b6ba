"""How long a command takes from nothing: whole processes, beside a bare interpreter.

`lictor status -o json` asks a running agent with 30 services over its socket. The commands take
turns with `python -c pass` in the same environment. That interpreter reads the environment's `.pth`
files first (an editable install costs some milliseconds there), and so do the commands: what is
compared is what Lictor adds, not the shortest time that any Python could take.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path

import common

_DEADLINE_S = 60.0


def once(argv: list[str | Path], env: dict[str, str]) -> float:
    """Seconds of one whole run; a failing command is no measurement.

    The end is awaited on a pidfd. `subprocess`'s own wait with a timeout sleeps 1, 2, 4, 8, 16, 32
    and then 50 ms between two looks, so that every command seems to take 31, 63 or 113 ms.
    """
    before = time.perf_counter()
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process, os.fdopen(os.pidfd_open(process.pid), "rb", buffering=0) as pidfd:
        ended, _, _ = select.select([pidfd], [], [], _DEADLINE_S)
        took = time.perf_counter() - before
        if not ended:
            process.kill()
        _, said = process.communicate()
    if not ended or process.returncode != 0:
        raise RuntimeError(f"{argv} ended with {process.returncode}: {said.decode()[-500:]}")
    return took


def wait_for_agent(env: dict[str, str], count: int) -> None:
    """Return when the agent answers and says that all its services are ready."""
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        asked = subprocess.run(
            [common.LICTOR, "status", "-o", "json"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        # 3 says that something is not running yet; the list is there all the same.
        if asked.returncode in {0, 3} and asked.stdout:
            phases = [service["phase"] for service in json.loads(asked.stdout)]
            if len(phases) >= count and set(phases) == {"ready"}:
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the agent did not become ready: {asked.stderr or asked.stdout}")
        time.sleep(0.2)


def measure(count: int, runs: int) -> dict[str, list[float]]:
    """Seconds of every run, by command."""
    with common.scratch() as folder:
        child = common.make_child(folder)
        (folder / "marks").mkdir()
        commands = [child.command(folder / "marks" / str(n)) for n in range(count)]
        config = common.agent_config(folder, commands, None)
        env = common.environment(LICTOR_DATA_DIR=str(folder / "data"))
        log = folder / "output"
        rivals: dict[str, list[str | Path]] = {
            "`python -c pass`": [sys.executable, "-c", "pass"],
            "`lictor --version`": [common.LICTOR, "--version"],
            "`lictor status -o json`": [common.LICTOR, "status", "-o", "json"],
        }
        times: dict[str, list[float]] = {name: [] for name in rivals}
        with common.started([common.LICTOR, "up", "-c", config], log) as (process, _):
            try:
                wait_for_agent(env, count)
            except RuntimeError as error:
                raise common.failed(process, log, str(error)) from error
            for _ in range(runs):
                for name, argv in rivals.items():
                    times[name].append(once(argv, env))
        return times


def report(count: int, runs: int) -> str:
    """The section of the benchmark page."""
    times = measure(count, runs)
    floor = statistics.median(times["`python -c pass`"])
    rows = [
        [name, *common.spread(values), f"{(statistics.median(values) - floor) * 1000:.1f}"]
        for name, values in times.items()
    ]
    return (
        "## Commands from nothing\n\n"
        f"Whole processes, {runs} runs each, taking turns; the agent holds {count} services. The last "
        "column is the median less that of `python -c pass` in the same environment, which holds an "
        "editable install of Lictor.\n\n"
        + common.table(["", "median ms", "min", "max", "added ms"], rows)
        + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=30)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    print(report(options.services, options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
