"""What the benchmark asks of every supervisor: begin, end, be killed, and tell how things are.

A `Peer` is one run of one supervisor over the same services in a folder of its own. Differences
between supervisors live in their modules and nowhere else; the measurements know only this class.
Only processes that were started here are ever signalled: the daemon, and pids that our own services
wrote down themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import child
import common

BENCH = Path(__file__).resolve().parents[2] / ".cache" / "bench"


class Peer:
    """One supervisor with its services. Subclasses say what to run and how to ask."""

    title = ""
    slow_restart = False  # a crash takes seconds: fewer samples do
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, program: Path, count: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.count = count
        self.marks = child.Marks(folder / "marks")
        self.log = folder / "output"
        self.names = [f"s{number:03}" for number in range(count)]
        self.commands = {name: self.command(program, name) for name in self.names}
        self.began = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self.prepare()

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot take part on this machine; None if it can."""
        return None

    @classmethod
    def version(cls) -> str:
        """Its version, for the table's head."""
        return ""

    def command(self, program: Path, name: str) -> list[str]:
        """The argv of one service."""
        return [str(program), str(self.marks.path), name]

    def prepare(self) -> None:
        """Write its configuration into `self.folder`."""

    def argv(self) -> Sequence[str | Path]:
        """The command that begins everything; the clock starts when it is executed."""
        raise NotImplementedError

    def env(self) -> Mapping[str, str]:
        """Additions to the environment."""
        return {}

    def status(self) -> Callable[[], object] | None:
        """A function that asks once for the state of all services; None: no API from here."""
        return None

    def status_times(self, calls: int) -> list[float] | None:
        """Seconds of each of `calls` questions, for a peer that only its own language can ask."""
        ask = self.status()
        if ask is None:
            return None
        times = []
        for _ in range(calls):
            begun = time.perf_counter()
            ask()
            times.append(time.perf_counter() - begun)
        return times

    # --- life ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Execute it and return at once."""
        with self.log.open("ab") as output:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                [str(part) for part in self.argv()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=common.environment(**self.env()),
                cwd=self.folder,
                start_new_session=True,
            )

    def daemon(self) -> int:
        """The pid of the supervisor itself."""
        return self._process.pid if self._process is not None else 0

    def all_running(self, limit: float = 90.0) -> float:
        """When the last service began to run (CLOCK_MONOTONIC)."""

        def done(_starts: object) -> bool:
            return len(self.marks.latest()) >= self.count

        if not self.marks.wait(done, limit):
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])[-1500:]
            raise RuntimeError(f"{self.title}: {len(self.marks.latest())} of {self.count}\n{tail}")
        return max(start.at for start in self.marks.latest().values())

    def end(self, limit: float = 60.0) -> float | None:
        """Tell it to end everything; seconds until the last service was gone, None if not all."""
        pids = [start.pid for start in self.marks.latest().values()]
        begun = time.monotonic()
        self.ask_to_end()
        gone = child.last_end(pids, limit)
        self.clear()
        return None if gone is None else gone - begun

    def ask_to_end(self) -> None:
        """The quickest way it has to stop all services."""
        _signal(self.daemon(), self.stop_signal)

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        _signal(self.daemon(), signal.SIGKILL)
        self._wait(10.0)

    def clear(self) -> None:
        """Wait for the daemon's end; whatever is left of it and its services is killed."""
        if not self._wait(20.0):
            for pid in sorted(self.processes()):
                _signal(pid, signal.SIGKILL)
            self._wait(10.0)
        for start in self.marks.read():
            if self._is_ours(start.pid):
                _signal(start.pid, signal.SIGKILL)

    def _is_ours(self, pid: int) -> bool:
        """A pid may have been taken by somebody else: a service of ours has our marks in its argv."""
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return str(self.marks.path).encode() in argv

    def _wait(self, limit: float) -> bool:
        pid, end = self.daemon(), time.monotonic() + limit
        while time.monotonic() < end:
            if self._process is not None and self._process.pid == pid:
                if self._process.poll() is not None:
                    return True
            elif not child.alive(pid):
                return True
            time.sleep(0.01)
        return False

    # --- what it costs ------------------------------------------------------------------

    def processes(self) -> set[int]:
        """The supervisor's own processes: the daemon and what descends from it, less the services."""
        services = {start.pid for start in self.marks.read()}
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    stat = (folder / "stat").read_bytes()
                    parent = int(stat[stat.rindex(b")") + 2 :].split(None, 2)[1])
                    children.setdefault(parent, []).append(int(folder.name))
        found, todo = set(), [self.daemon()]
        while todo:
            pid = todo.pop()
            if pid not in services and pid not in found and pid > 1:
                found.add(pid)
                todo += children.get(pid, [])
        return found

    def cpu(self) -> float:
        """Seconds of CPU its own processes have used (schedstat, in nanoseconds, all threads)."""
        total = 0
        for pid in self.processes():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    total += int(task.read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Bytes resident, all its own processes together."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError, IndexError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return total * os.sysconf("SC_PAGE_SIZE")


def _signal(pid: int, number: int) -> None:
    """Signal one process; 0 would be our own whole group."""
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
