"""What the host knows about processes and ports, read from /proc.

`ProcUsage` measures what each service uses, its whole tree, in one pass over the process table for
all services together. `port_taken` and `port_holder` say whether and by whom a port is held, for
the sentence "port 5000 is held by nginx (pid 812)". Nothing here opens, binds or signals anything:
looking must not change what is looked at.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import Identity
from lictor.core.ports import Usage
from lictor.core.probes.text import one_line

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_AGE = 2.0  # seconds a sample may be old
_MIN_AGE = 0.25  # seconds under which even a missing service is no reason to look again
_LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN


# --- usage -----------------------------------------------------------------------------------


class _Row(NamedTuple):
    """What one line of /proc/PID/stat says about usage (proc(5): fields 4, 6, 14, 15, 20, 22, 24)."""

    ppid: int
    session: int
    ticks: int
    threads: int
    start: int
    rss: int


class ProcUsage:
    """The `UsageProbe` over /proc.

    Memory is the sum of the resident sets, so pages that processes of one service share count for
    each of them. CPU is that of the living processes since the sample before (100 is one core);
    for a process that was not there then, since it started.
    """

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._at = float("-inf")
        self._before: dict[int, _Row] = {}
        self._before_at = float("-inf")

    def sample(self, roots: Mapping[ServiceKey, Identity]) -> Mapping[ServiceKey, Usage]:
        """Usage of each tree by its main process; a service that is gone is left out."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        wanted = {identity.pid: key for key, identity in roots.items() if identity.pid > 0}
        age = now - self._at
        if age > _MAX_AGE or (age > _MIN_AGE and not wanted.keys() <= self._rows.keys()):
            self._before, self._before_at = self._rows, self._at
            self._rows, self._at = dict(_rows()), now
        living = {
            pid: key
            for pid, key in wanted.items()
            if pid in self._rows and self._rows[pid].start == roots[key].start_time
        }
        return self._sum(living)

    def _sum(self, living: Mapping[int, ServiceKey]) -> dict[ServiceKey, Usage]:
        owners: dict[int, ServiceKey | None] = dict(living)
        trees: dict[ServiceKey, list[int]] = {key: [] for key in living.values()}
        for pid in self._rows:
            owner = self._owner(pid, living, owners)
            if owner is not None:
                trees[owner].append(pid)
        return {key: self._usage(pids) for key, pids in trees.items()}

    def _owner(
        self, pid: int, living: Mapping[int, ServiceKey], owners: dict[int, ServiceKey | None]
    ) -> ServiceKey | None:
        """The service of a process: by its session, else by the nearest ancestor that has one."""
        path: list[int] = []
        owner: ServiceKey | None = None
        while pid in self._rows and pid not in owners:
            path.append(pid)
            owners[pid] = None  # also ends a walk in circles, should pids have been reused
            row = self._rows[pid]
            if row.session in living:
                owner = living[row.session]
                break
            pid = row.ppid
        else:
            owner = owners.get(pid)
        for step in path:
            owners[step] = owner
        return owner

    def _usage(self, pids: list[int]) -> Usage:
        percent = 0.0
        for pid in pids:
            row, old = self._rows[pid], self._before.get(pid)
            if old is not None and old.start == row.start:
                used, span = row.ticks - old.ticks, self._at - self._before_at
            else:
                used, span = row.ticks, self._at - row.start / _TICKS
            # A span under one tick says nothing about a rate.
            percent += 100.0 * used / _TICKS / max(span, 1.0 / _TICKS)
        rows = [self._rows[pid] for pid in pids]
        return Usage(
            cpu_percent=round(percent, 1),
            memory_bytes=sum(row.rss for row in rows) * _PAGE,
            processes=len(rows),
            threads=sum(row.threads for row in rows),
        )


def _rows() -> Iterator[tuple[int, _Row]]:
    for name in os.listdir("/proc"):  # noqa: PTH208 - hot: strings, not Path objects
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            data = os.read(fd, 2048)
        except OSError:
            continue
        finally:
            os.close(fd)
        # (drivers.tree reads the same line for other fields; drivers and probes know not each other)
        part = data[data.rindex(b")") + 2 :].split(None, 22)
        if part[0] not in {b"Z", b"X"}:
            used = int(part[11]) + int(part[12])
            numbers = (int(part[17]), int(part[19]), int(part[21]))
            yield int(name), _Row(int(part[1]), int(part[3]), used, *numbers)


# --- ports -----------------------------------------------------------------------------------


class _Listener(NamedTuple):
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    inode: int


def port_taken(host: str, port: int) -> bool:
    """Whether a listener on this host would keep a service from `host:port`.

    Read from the kernel's table of listeners. A test by binding would be exact too, but for its
    moment it takes the port itself, and so could make the very service fail that is just starting.
    A listener on `::` counts for IPv4 as well (it is, unless IPV6_V6ONLY was set, which the table
    does not tell). A host name other than `localhost` matches any listener of the port.
    """
    return next(_holding(host, port), None) is not None


def port_holder(host: str, port: int) -> tuple[int, str] | None:
    """Pid and name of the program that listens on `host:port`.

    None: nobody does, or it belongs to somebody whose descriptors we may not see. Reads the
    descriptors of every process, so it is for the moment of an error, not for every start.
    """
    sockets = {f"socket:[{listener.inode}]" for listener in _holding(host, port)}
    if not sockets:
        return None
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _has_open(folder, sockets):
                return int(folder.name), one_line((folder / "comm").read_bytes(), 32)
    return None


def _has_open(folder: Path, sockets: set[str]) -> bool:
    with os.scandir(folder / "fd") as links:
        for link in links:
            # A descriptor may be closed between the listing and the look.
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(link.path) in sockets:  # noqa: PTH115 - hot
                    return True
    return False


def _holding(host: str, port: int) -> Iterator[_Listener]:
    wanted = _address(host)
    for listener in _listeners():
        if listener.port == port and _clash(wanted, listener.address):
            yield listener


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if host == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]") or "0.0.0.0")  # noqa: S104
    except ValueError:
        return None


def _clash(
    wanted: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
    held: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> bool:
    if wanted is None or wanted == held:
        return True
    if wanted.version == held.version:
        return wanted.is_unspecified or held.is_unspecified
    # Across families only the IPv6 wildcard meets IPv4.
    six = wanted if wanted.version == 6 else held
    return six.is_unspecified


def _listeners() -> Iterator[_Listener]:
    for name in ("tcp", "tcp6"):
        try:
            # The file of our own network namespace.
            text = Path(f"/proc/net/{name}").read_text(encoding="ascii")
        except OSError:
            continue  # a kernel without IPv6 has no tcp6
        for line in text.splitlines()[1:]:
            part = line.split()
            if part[3] == _LISTEN:
                address, port = part[1].split(":")
                yield _Listener(_kernel_address(address), int(port, 16), int(part[9]))


def _kernel_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """/proc/net/tcp prints addresses as 32-bit words in the host's byte order."""
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) == 4:
        return ipaddress.IPv4Address(packed)
    six = ipaddress.IPv6Address(packed)
    return six.ipv4_mapped or six
