"""A writer of numbered lines, and a reader that knows which should be there.

Run as a program it writes to its standard output as a service does: straight to the file that it
was given, opened for appending. `WHOLE` lines in one write, or one write a line. On a leash it goes
only as far as its standard input allows, so that a test can say how often the log was rotated under
it, however busy the machine is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LINE = 100  # bytes, with the line end
_PAD = b"x" * (LINE - 14)


def line(number: int) -> bytes:
    return b"%012d %s\n" % (number, _PAD)


def text(number: int) -> str:
    return line(number).decode().rstrip("\n")


def write(fd: int, count: int, batch: int, rate: float, leash: Iterator[str] | None = None) -> None:
    """Write `count` lines, `batch` in one write, at `rate` bytes a second (0: as fast as it can).

    `leash` gives, again and again, how many bytes may have been written in all.
    """
    begun, allowed = time.monotonic(), 0
    for first in range(0, count, batch):
        while leash is not None and first * LINE >= allowed:
            allowed = int(next(leash))
        block = b"".join(map(line, range(first, min(count, first + batch))))
        assert os.write(fd, block) == len(block)
        if rate:
            ahead = begun + (first + batch) * LINE / rate - time.monotonic()
            if ahead > 0.001:
                time.sleep(ahead)


def writer(
    log: Path, count: int, batch: int = 1, rate: float = 0.0, *, leashed: bool = False
) -> subprocess.Popen[bytes]:
    """A process of its own that writes to `log` and ends."""
    with log.open("ab") as file:
        argv = [sys.executable, "-S", "-E", __file__, str(count), str(batch), str(rate)]
        if not leashed:
            return subprocess.Popen(argv, stdout=file)
        return subprocess.Popen([*argv, "leashed"], stdin=subprocess.PIPE, stdout=file)


def check(whole: bytes, first: int | None = 0) -> int:
    """Assert that these are numbered lines without a gap; the number of the last one.

    `first` None: the beginning may be missing, but no line may be cut.
    """
    lines = whole.split(b"\n")
    assert lines.pop() == b"", f"the end is cut: {whole[-200:]!r}"
    begin = int(lines[0][:12]) if first is None else first
    for number, found in enumerate(lines, begin):
        assert found + b"\n" == line(number), f"line {number} is {found!r}"
    return begin + len(lines) - 1


if __name__ == "__main__":
    held = iter(sys.stdin) if sys.argv[4:] == ["leashed"] else None
    write(1, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), held)
