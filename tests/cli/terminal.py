"""A terminal for the program: a pty, so that it sees a person at stdout and stderr."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence

DEADLINE = 30.0


def at_terminal(
    args: Sequence[str],
    env: dict[str, str],
    *,
    types: str = "",
    columns: int = 160,
    interrupt_after: str = "",
) -> tuple[int, str]:
    """Run `lictor ARGS` on a pty; returns its exit code and everything it showed.

    `types` is typed at once; `interrupt_after` sends Ctrl-C's signal when that text was shown.
    """
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "lictor", *args],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={"TERM": "xterm-256color"} | env,
    )
    os.close(inner)
    try:
        if types:
            os.write(outer, types.encode())
        shown = _read(outer, process, interrupt_after)
        return process.wait(DEADLINE), shown
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def _read(outer: int, process: subprocess.Popen[bytes], interrupt_after: str) -> str:
    shown = b""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if not select.select([outer], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(outer, 1 << 16)
        except OSError:  # EIO: the other end is closed
            break
        if not chunk:
            break
        shown += chunk
        if interrupt_after and interrupt_after.encode() in shown:
            interrupt_after = ""
            process.send_signal(signal.SIGINT)
    return shown.decode()
