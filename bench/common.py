"""What the benchmarks share: a light child that says when it runs, an agent, a table.

Nothing here is imported by Lictor. The children, configs and sockets live in a folder of their own
that is removed at the end; the machine is described by its cores, kernel and Python only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LICTOR = Path(sys.executable).with_name("lictor")

_CHILD = r"""
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
/* The first act of the service: write down when it began to run. Then wait for a signal. */
int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    char line[48];
    int n = snprintf(line, sizeof line, "%lld.%09ld\n", (long long)t.tv_sec, t.tv_nsec);
    int f = argc > 1 ? open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    if (f < 0 || write(f, line, n) != n) return 1;
    close(f);
    for (;;) pause();
}
"""


@dataclass(frozen=True)
class Child:
    """A program that writes the time it began to run to the file it is given, and then waits."""

    argv: tuple[str, ...]
    kind: str
    clock: int

    def command(self, file: Path) -> list[str]:
        return [*self.argv, str(file)]


def make_child(folder: Path) -> Child:
    """A static C program where there is a compiler; else a shell that reads /proc/uptime.

    The shell's clock has steps of 10 ms, and it is slower to start: the tables say which was used.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler:
        source, program = folder / "child.c", folder / "child"
        source.write_text(_CHILD)
        done = subprocess.run(
            [compiler, "-O2", "-static", "-o", program, source], capture_output=True, check=False
        )
        if done.returncode == 0:
            return Child((str(program),), "a static C program", time.CLOCK_MONOTONIC)
    script = 'read up _ </proc/uptime; echo "$up" >"$0"; exec sleep infinity'
    return Child(("/bin/sh", "-c", script), "a shell script, clock of 10 ms", time.CLOCK_BOOTTIME)


def moments(folder: Path) -> list[float]:
    """The times that children have written so far."""
    texts = [path.read_text() for path in folder.iterdir()]
    return [float(text) for text in texts if text.endswith("\n")]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with a short path: a Unix socket's may have 107 bytes (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="lictor-bench-") as name:
        yield Path(name)


def environment(**more: str) -> dict[str, str]:
    """This environment without what would point the agent at somebody's Consul or data."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CONSUL_", "LICTOR_"))}
    return {**kept, **more}


def agent_config(folder: Path, commands: Sequence[Sequence[str]], consul: str | None) -> Path:
    """A config with one plain service for each command. `consul` None: nobody answers there."""
    services = []
    for number, command in enumerate(commands):
        argv = ", ".join("'" + part.replace("'", "''") + "'" for part in command)
        services += [f"  s{number:03}:", f"    command: [{argv}]"]
    return _config(folder, services, consul)


def _config(folder: Path, services: Sequence[str], consul: str | None) -> Path:
    lines = [
        "agent:",
        "  node: bench",
        f"  data_dir: {folder / 'data'}",
        "consul:",
        "  embedded: never",
        f'  address: "{consul or "http://127.0.0.1:1"}"',
        "web:",
        "  enabled: false",
        "services:",
        *services,
    ]
    path = folder / "config.yml"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def started(
    argv: Sequence[str | Path], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], dict]]:
    """Run a program until the block ends; also the clocks just before it was executed.

    It is ended with SIGTERM and waited for, so that the next run does not share the machine with
    this one's children.
    """
    with log.open("wb") as output:
        clocks = {c: time.clock_gettime(c) for c in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)}
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
        )
        try:
            yield process, clocks
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def agent_over(folder: Path, consul: str, services: Sequence[str]) -> Iterator[int]:
    """Lictor over these lines of YAML, from its exec on; gives its pid."""
    folder.mkdir()
    config = _config(folder, services, consul)
    with started([LICTOR, "up", "-c", config], folder / "log") as (process, _):
        yield process.pid


def until(true: Callable[[], object], what: str, limit: float = 120.0, pause: float = 0.02) -> None:
    """Wait until it is so; raises with `what` was awaited after `limit` seconds."""
    end = time.monotonic() + limit
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {limit:g} s: {what}")
        time.sleep(pause)


def failed(process: subprocess.Popen[bytes], log: Path, what: str) -> RuntimeError:
    """An error with the last words of the program that let us down."""
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    return RuntimeError(f"{what} (exit status {process.poll()}):\n{tail}")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def consul_binary() -> str | None:
    """The Consul program to measure with, if this machine has one."""
    named = os.environ.get("CONSUL_BIN")
    if named and os.access(named, os.X_OK):
        return named
    return shutil.which("consul")


def machine() -> str:
    """What a reader must know of the machine, and nothing that identifies it."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]} "
        f"({platform.machine()}), Python {platform.python_version()}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> list[str]:
    """Median, minimum and maximum of seconds, in milliseconds."""
    return [f"{x * 1000:.1f}" for x in (statistics.median(values), min(values), max(values))]
