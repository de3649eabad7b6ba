"""The service that every supervisor runs in the benchmark: a static program of some ten kilobytes.

Its first act is to read CLOCK_MONOTONIC; then it appends one line `name pid seconds` to a file that
all services of a contestant share. So the clock stops in the service itself, and one file tells
everything: who runs, under which pid, since when. With a port it accepts connections and closes
them, which is what a TCP check needs.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_SOURCE = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
/* usage: child MARKS NAME [PORT] */
int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    char line[128];
    int n = snprintf(line, sizeof line, "%s %d %lld.%09ld\n", argv[2], (int)getpid(),
                     (long long)t.tv_sec, t.tv_nsec);
    int f = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (f < 0 || write(f, line, n) != n) return 1;
    close(f);
    if (argc > 3) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int s = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 64)) return 2;
        for (;;) close(accept(s, 0, 0));
    }
    for (;;) pause();
}
"""


def build(folder: Path) -> Path:
    """Compile the service. Raises where there is no C compiler: a script would measure itself."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("the supervision benchmark needs a C compiler (gcc or cc)")
    source, program = folder / "child.c", folder / "child"
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-O2", "-static", "-o", program, source], check=True)
    return program


@dataclass(frozen=True)
class Start:
    """One service began to run: its pid, and when by CLOCK_MONOTONIC."""

    name: str
    pid: int
    at: float


class Marks:
    """What the services of one contestant wrote, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts: list[Start] = []
        self._offset = 0
        path.touch()

    def read(self) -> list[Start]:
        """Every start so far."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            name, pid, at = line.split()
            self.starts.append(Start(name, int(pid), float(at)))
        return self.starts

    def latest(self) -> dict[str, Start]:
        """The last start of each service."""
        return {start.name: start for start in self.read()}

    def wait(self, done: Callable[[list[Start]], bool], limit: float) -> bool:
        """Whether `done` came true within `limit` seconds. Looks every 2 ms; no clock depends on it."""
        end = time.monotonic() + limit
        while not done(self.read()):
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in {b"Z", b"X"}


def last_end(pids: Sequence[int], limit: float) -> float | None:
    """When the last of these processes had ended (CLOCK_MONOTONIC); None if some outlive `limit`."""
    end = time.monotonic() + limit
    # The kernel tells: to ask for each of 200 every millisecond would take a CPU from who is measured.
    with contextlib.ExitStack() as held, select.epoll() as ends:
        left = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                held.callback(os.close, fd)
                ends.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
                left += 1
        while left:
            ended = ends.poll(max(0.0, end - time.monotonic()))
            if not ended:
                return None
            left -= len(ended)
    return time.monotonic()
