"""What a container needs, as config.yml says it, after expansion.

A value only: whether an engine can give it is the business of the docker driver. It is part of a
service's fingerprint, because a running container cannot be given another network or volume.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_PORT = re.compile(
    r"(?:(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(?P<outside>[0-9]{1,5}):)?"
    r"(?P<inside>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?"
)
_HIGHEST = 65535
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # the letters that an engine takes


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The `docker:` part of a service.

    `name` None: made from the service's name. `volumes` are `source:target[:ro]`, `ports`
    `[host:]port:port`; `shm_size` is bytes. `build`: a folder with a Dockerfile, from which `image`
    is built when it is missing. `init`: a small first process hands on signals and collects orphans;
    False for images that bring their own.
    """

    image: str
    name: str | None = None
    network: str | None = None
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    shm_size: int | None = None
    ipc: str | None = None
    build: str | None = None
    init: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """One port of a container (`inside`) that is reachable at `host`:`outside`."""

    host: str
    outside: int
    inside: int
    protocol: str = "tcp"


def published(text: str) -> Published:
    """`[host:]port:port[/udp]`, or one number for both. Without a host it is loopback.

    Docker itself would open it to every network, past most firewalls. Raises `ValueError`.
    """
    match = _PORT.fullmatch(text)
    if match is None:
        raise ValueError("expected [host:]port:port, such as 8000:8000 or 0.0.0.0:8000:80")
    inside = int(match["inside"])
    outside = int(match["outside"] or inside)
    if not (1 <= inside <= _HIGHEST and 1 <= outside <= _HIGHEST):
        raise ValueError("a port is a number from 1 to 65535")
    host = (match["host"] or "127.0.0.1").strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("before the port stands an address of this host, or nothing") from None
    return Published(host, outside, inside, match["protocol"] or "tcp")


def named(text: str) -> str:
    """A container's name, checked as the engine would. Raises `ValueError`."""
    if not _NAME.fullmatch(text):
        raise ValueError("expected letters, digits, `_`, `.` and `-`")
    return text


def mounted(text: str) -> str:
    """A volume, checked for its form: `source:target[:options]`. Raises `ValueError`."""
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts):
        raise ValueError("expected source:target or source:target:ro")
    return text
