"""Whether and by whom a port is held, for the sentence "port 5000 is held by nginx (pid 812)".

Asked before every start of a service that names a port, so it must be quick on a host with many
connections: the kernel is asked for its listeners alone (sock_diag(7)), which takes a fraction of a
millisecond where /proc/net/tcp, with every connection in it, takes 5 ms and more. Nothing here
opens a port, binds or signals anything: looking must not change what is looked at.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from lictor.core.probes.text import one_line

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN, _ESTABLISHED = 10, 1  # include/net/tcp_states.h: TCP_LISTEN, TCP_ESTABLISHED
_SOCK_DIAG = 4  # linux/netlink.h: NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # linux/sock_diag.h: SOCK_DIAG_BY_FAMILY
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ANSWERED_WITHIN = 1.0  # seconds; the kernel answers at once or not at all


class _Listener(NamedTuple):
    address: Address
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


def connections(ports: Collection[int]) -> Mapping[int, int]:
    """How many connections each of these local ports has at this moment, 0 included.

    Those that are open, whoever made them, and no listeners. Raises `OSError` where neither the
    kernel's answer nor its table can be had.
    """
    found = Counter(
        one.port
        for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6"))
        for one in _sockets(family, name, _ESTABLISHED)
    )
    return {port: found[port] for port in ports}


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


def _address(host: str) -> Address | None:
    if host == "localhost":
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]") or "0.0.0.0")  # noqa: S104
    except ValueError:
        return None


def _clash(
    wanted: Address | None,
    held: Address,
) -> bool:
    if wanted is None or wanted == held:
        return True
    if wanted.version == held.version:
        return wanted.is_unspecified or held.is_unspecified
    # Across families only the IPv6 wildcard meets IPv4.
    six = wanted if wanted.version == 6 else held
    return six.is_unspecified


def _listeners() -> Iterator[_Listener]:
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        yield from _sockets(family, name, _LISTEN)


def _sockets(family: int, name: str, state: int) -> Iterable[_Listener]:
    try:
        return _diag(family, state)
    except OSError:
        # A sandbox without netlink, or a kernel without inet_diag.
        return _table(name, state)


def _diag(family: int, state: int) -> list[_Listener]:
    """The sockets of one family in our own network namespace, by sock_diag(7)."""
    # struct inet_diag_req_v2: family, protocol, extensions, padding, states, an empty socket id
    question = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, 1 << state)
    header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _DUMP, 1, 0)
    found: list[_Listener] = []
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG
    ) as link:
        link.settimeout(_ANSWERED_WITHIN)
        link.send(header + question)
        while True:
            data, at = link.recv(1 << 17), 0
            while at < len(data):
                size, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise OSError(
                        -struct.unpack_from("=i", data, at + _HEADER.size)[0], "sock_diag"
                    )
                found.append(_told(data, at + _HEADER.size))
                at += (size + 3) & ~3  # NLMSG_ALIGN


def _told(data: bytes, at: int) -> _Listener:
    """One struct inet_diag_msg: family, ..., at 4 its own port, at 8 the address, at 68 the inode."""
    (port,) = struct.unpack_from("!H", data, at + 4)
    (inode,) = struct.unpack_from("=I", data, at + 68)
    size = 4 if data[at] == socket.AF_INET else 16
    return _Listener(_plain(data[at + 8 : at + 8 + size]), port, inode)


def _table(name: str, state: int) -> Iterator[_Listener]:
    """The same from /proc/net (proc(5)), whose addresses are 32-bit words in the host's order."""
    try:
        text = Path(f"/proc/net/{name}").read_text(encoding="ascii")
    except OSError:
        return  # a kernel without IPv6 has no tcp6
    for line in text.splitlines()[1:]:
        part = line.split()
        if int(part[3], 16) == state:
            address, port = part[1].split(":")
            words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
            packed = struct.pack(f"={len(words)}I", *words)
            yield _Listener(_plain(packed), int(port, 16), int(part[9]))


def _plain(packed: bytes) -> Address:
    if len(packed) == 4:
        return ipaddress.IPv4Address(packed)
    six = ipaddress.IPv6Address(packed)
    return six.ipv4_mapped or six
