"""The badly behaved programs, and what tests need to run them and count what they left."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.consul import free_ports

CHILD = Path(__file__).with_name("child.py")


def child(name: str, **options: object) -> tuple[str, ...]:
    """The argv of one badly behaved program: `child("slow-term", seconds=2, file=path)`."""
    argv = [sys.executable, "-S", "-E", str(CHILD), name]
    for option, value in options.items():
        argv += [f"--{option}", str(value)]
    return tuple(argv)


def free_port() -> int:
    """A port of loopback that was free a moment ago; see `free_ports`."""
    (port,) = free_ports(1)
    return port


def marked(agent_id: str) -> list[int]:
    """Every living process that carries the mark of this agent, read without Lictor's own code."""
    return carrying(f"LICTOR_MARK={agent_id}:")


def carrying(item: str) -> list[int]:
    """Every living process with something in its environment that begins so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_bytes().rpartition(b") ")[2][:1]
            environ = _environ(folder).split(b"\0")
        except OSError:
            continue
        if state not in b"ZX" and any(one.startswith(item.encode()) for one in environ):
            found.append(int(folder.name))
    return found


def _environ(folder: Path) -> bytes:
    """Its environment. While a program is just being executed it reads as empty: ask again then."""
    environ = (folder / "environ").read_bytes()
    for _ in range(5):
        if environ or not (folder / "maps").read_bytes():
            break  # a kernel thread or a zombie has neither
        time.sleep(0.01)
        environ = (folder / "environ").read_bytes()
    return environ


def alive(pid: int) -> bool:
    """Whether `pid` exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b") ")[2][:1] not in b"ZX"


async def eventually(truth: Callable[[], object], *, within: float = 15.0) -> None:
    """Wait until `truth()` is true; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not truth():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def text_of(path: Path) -> str:
    """What is in a file that may not be there yet."""
    return path.read_text(errors="replace") if path.exists() else ""


def open_fds() -> int:
    """How many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
