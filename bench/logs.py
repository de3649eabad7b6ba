"""What a log costs the service that writes it: a plain file, Lictor's rotation, supervisord's pipe.

One service, a static C program, writes numbered lines of 100 bytes to its standard output and times
each of its own writes: at 50 MB/s in writes of 4 KB, and as fast as it can in writes of 64 KB and of
one line. Everything is kept (50 MB a file), and when it has ended every line is read back: one that
is missing, cut, doubled or out of order counts as lost. The contestants take turns. A plain file is
the floor: the same program in a shell's redirection, with nobody beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import common

_LINE = 100
_FILE = 50_000_000  # bytes in a log file before it is rotated
_DEADLINE_S = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")

_WRITER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
/* usage: writer RESULT LINES BYTES_A_SECOND LINES_A_WRITE */
int main(int argc, char **argv) {
    long lines = atol(argv[2]), batch = atol(argv[4]), n = 0;
    double rate = atof(argv[3]), longest = 0, begun = now();
    char *block = malloc(batch * 100 + 1);
    while (n < lines) {
        long k = 0;
        for (; k < batch && n < lines; k++, n++) sprintf(block + k * 100, "%012ld %086d\n", n, 0);
        long left = k * 100;
        double before = now();
        for (char *at = block; left > 0;) {
            long w = write(1, at, left);
            if (w < 0) return 3;
            at += w;
            left -= w;
        }
        double took = now() - before;
        if (took > longest) longest = took;
        if (rate > 0) {
            double ahead = begun + n * 100 / rate - now();
            struct timespec t = {(time_t)ahead, (long)((ahead - (time_t)ahead) * 1e9)};
            if (ahead > 0.0005) nanosleep(&t, 0);
        }
    }
    double seconds = now() - begun;
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.part", argv[1]);
    FILE *f = fopen(temporary, "w");
    fprintf(f, "%.6f %.6f\n", seconds, longest);
    fclose(f);
    rename(temporary, argv[1]);
    for (;;) pause();
}
"""


@dataclass(frozen=True)
class Load:
    """What the service does: so many lines, at a rate in bytes a second (0: as fast as it can)."""

    title: str
    lines: int
    rate: int
    batch: int


LOADS = (
    Load("50 MB/s", 5_000_000, 50_000_000, 40),
    Load("full speed, 64 KB writes", 10_000_000, 0, 640),
    Load("full speed, a write a line", 3_000_000, 0, 1),
)


@dataclass(frozen=True)
class Run:
    """MB/s of the service, its longest write in seconds, lines lost, CPU seconds of the daemon."""

    speed: float
    longest: float
    lost: int
    cpu: float


def build(folder: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("the benchmark of logs needs a C compiler (gcc or cc)")
    source, program = folder / "writer.c", folder / "writer"
    source.write_text(_WRITER)
    subprocess.run([compiler, "-O2", "-static", "-o", program, source], check=True)
    return program


# --- the contestants ------------------------------------------------------------------------------


@contextlib.contextmanager
def plain(folder: Path, command: list[str]) -> Iterator[tuple[int, Callable[[], list[Path]]]]:
    log = folder / "x.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output)
    try:
        yield 0, lambda: [log]
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def lictor(folder: Path, command: list[str]) -> Iterator[tuple[int, Callable[[], list[Path]]]]:
    config = common.agent_config(folder, [command], None)
    with config.open("a") as file:
        file.write(f"    log: {{max_size: {_FILE}, keep: 1000}}\n")
        file.write("    restart: {policy: never}\n")
    argv = [common.LICTOR, "up", "-c", config]
    with common.started(argv, folder / "output") as (process, _):
        yield process.pid, lambda: parts(folder / "data" / "logs", "s000.log")


@contextlib.contextmanager
def supervisord(folder: Path, command: list[str]) -> Iterator[tuple[int, Callable[[], list[Path]]]]:
    logs = folder / "logs"
    logs.mkdir()
    config = folder / "supervisord.conf"
    config.write_text(
        "[supervisord]\nnodaemon=true\nloglevel=critical\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={folder / 'pid'}\n[program:s000]\ncommand={' '.join(command)}\nstartsecs=0\n"
        f"autorestart=false\nredirect_stderr=true\nstdout_logfile={logs / 's000.log'}\n"
        f"stdout_logfile_maxbytes={_FILE}\nstdout_logfile_backups=1000\n"
    )
    argv = [program() or "supervisord", "-c", config]
    with common.started(argv, folder / "output") as (process, _):
        yield process.pid, lambda: parts(logs, "s000.log")


def program() -> str | None:
    """supervisord, where `make bench` puts it or on PATH."""
    ours = Path(__file__).resolve().parents[1] / ".cache" / "bench" / "venv" / "bin" / "supervisord"
    return str(ours) if ours.exists() else shutil.which("supervisord")


def parts(folder: Path, name: str) -> list[Path]:
    """A log and its older files, the oldest first."""
    older = [path for path in folder.glob(f"{name}.*") if path.suffix[1:].isdigit()]
    return [*sorted(older, key=lambda path: -int(path.suffix[1:])), folder / name]


# --- measuring ------------------------------------------------------------------------------------


def lost(files: list[Path], lines: int) -> int:
    """How many of the lines are not where they should be."""
    expected, good, rest = 0, 0, b""
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_LINE * 100_000):
                *whole, rest = (rest + block).split(b"\n")
                for line in whole:
                    number = line.lstrip(b"\0")[:12]
                    good += len(line.lstrip(b"\0")) == _LINE - 1 and number == b"%012d" % expected
                    expected = int(number) + 1 if number.isdigit() else expected
    return lines - good


def cpu_of(pid: int) -> float:
    """Seconds of CPU of one process, all its threads."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def once(
    rival: Callable[..., contextlib.AbstractContextManager], folder: Path, writer: Path, load: Load
) -> Run:
    """One service from its start until its last line is in a file."""
    folder.mkdir()
    result = folder / "result"
    words = (result, load.lines, load.rate, load.batch)
    command = [str(writer), *map(str, words)]
    with rival(folder, command) as (pid, files):
        deadline = time.monotonic() + _DEADLINE_S

        def until(truth: Callable[[], bool], what: str) -> None:
            while not truth():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{what}: not within {_DEADLINE_S:g} s")
                time.sleep(0.02)

        until(result.exists, "the service has written everything")
        until(lambda: not pid or settled(files), "everything is in its file")
        cpu = cpu_of(pid)
        seconds, longest = map(float, result.read_text().split())
        missing = lost(files(), load.lines)
    shutil.rmtree(folder)
    return Run(load.lines * _LINE / 1e6 / seconds, longest, missing, cpu)


def settled(files: Callable[[], list[Path]]) -> bool:
    """Nothing moves any more, and no file is larger than it may be."""

    def sizes() -> list[int]:
        with contextlib.suppress(FileNotFoundError):
            return [path.stat().st_size for path in files()]
        return []

    before = sizes()
    time.sleep(1.5)
    return bool(before) and before == sizes() and max(before) < _FILE * 1.1


def report(runs: int, loads: tuple[Load, ...] = LOADS) -> str:
    """The section of the benchmark page."""
    rivals: dict[str, Callable[..., contextlib.AbstractContextManager]] = {
        "a plain file": plain,
        "Lictor": lictor,
    }
    if program():
        rivals["supervisord"] = supervisord
    rows = []
    with common.scratch() as top:
        writer = build(top)
        for load in loads:
            found: dict[str, list[Run]] = {name: [] for name in rivals}
            for turn in range(runs):
                for name, rival in rivals.items():
                    print(f"logs: {load.title}, {name}", file=sys.stderr, flush=True)
                    run = once(rival, top / f"{turn}-{name.replace(' ', '-')}", writer, load)
                    found[name].append(run)
            floor = statistics.median(run.speed for run in found["a plain file"])
            rows += [row(load, name, taken, floor) for name, taken in found.items()]
    head = [
        "",
        "load",
        "MB/s (min–max)",
        "× plain file",
        "longest write, ms",
        "lines lost",
        "CPU s/GB",
    ]
    return (
        "## Logs\n\n"
        f"One service writes numbered lines of {_LINE} bytes and times its own writes; {runs} runs, "
        f"taking turns, medians. Files of {_FILE // 1_000_000} MB, all kept; then every line is read "
        "back. The longest write is the worst of all runs; on a plain file it is what the machine "
        "itself does. CPU is the supervisor's own, for each GB written.\n\n"
        + common.table(head, rows)
        + "\n"
    )


def row(load: Load, name: str, taken: list[Run], floor: float) -> list[str]:
    speeds = [run.speed for run in taken]
    middle = statistics.median(speeds)
    written = load.lines * _LINE / 1e9
    cpu = statistics.median(run.cpu for run in taken) / written
    return [
        name,
        load.title,
        f"{middle:.1f} ({min(speeds):.1f}–{max(speeds):.1f})",
        f"{middle / floor:.2f}",
        f"{max(run.longest for run in taken) * 1000:.1f}",
        str(sum(run.lost for run in taken)),
        f"{cpu:.2f}" if name != "a plain file" else "-",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines")
    options = parser.parse_args()
    loads = LOADS
    if options.quick:
        loads = tuple(Load(x.title, x.lines // 10, x.rate, x.batch) for x in LOADS)
    print(report(options.runs, loads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
