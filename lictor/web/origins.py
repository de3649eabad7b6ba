"""Under which names this agent answers, and to pages of which origins.

A page that a person has open may ask 127.0.0.1 for anything, and may rebind its own name to it; so
the Host must be one of ours (RFC 9110 section 7.2), and the Origin, where there is one, must be that
same Host or one that the config names. It judges every method alike: lists of "dangerous" methods
have forgotten one before (CVE-2026-27482). Pure values in, a verdict out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import Scope

from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import WrongDoor

_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(:(?P<port>[0-9]{1,5}))?"
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request that may pass looks like from the far end of a proxy.

    `cors` is the other origin that may read the answer, or "".
    """

    scheme: str
    remote: str
    cors: str = ""
    preflight: bool = False


class Origins:
    """Judges requests. `hosts` are names and addresses without a port; `cors` are whole origins."""

    def __init__(
        self,
        *,
        hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
        behind_proxy: bool = False,
        secure: bool = False,
    ) -> None:
        self._hosts = _LOOPBACK | {_bare(host) for host in hosts if host}
        self._cors = frozenset(origin.lower() for origin in cors)
        self._behind_proxy = behind_proxy
        self._scheme = "https" if secure else "http"

    def judge(self, scope: Scope) -> Asked:
        """Whether a request may pass. Raises `WrongDoor`."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        own = self._host(_single(headers, b"host"), scope)
        proxied = self._behind_proxy and _is_loopback(_peer(scope))
        host, scheme, remote = own, self._scheme, _peer(scope)
        if proxied:
            host, scheme, remote = self._forwarded(headers, scope, host, scheme, remote)
        return self._page(headers, scope, host=host, scheme=scheme, remote=remote)

    # --- Host ---------------------------------------------------------------------------

    def _host(self, raw: bytes | None, scope: Scope) -> tuple[str, int | None]:
        """Name and port of a Host header that is ours."""
        match = _HOST.fullmatch(raw.decode("latin-1")) if raw is not None else None
        if match is None:
            raise worded(WrongDoor, because("door.bad_host"), status=400)
        name, port = _bare(match["name"]), match["port"]
        if port is not None and not 1 <= int(port) <= 65535:
            raise worded(WrongDoor, because("door.bad_host"), status=400)
        server = scope.get("server")
        # The address that the connection came in on: a name can be rebound, this cannot.
        here = _bare(str(server[0])) if server else ""
        if name not in self._hosts and not (name == here and _is_address(here)):
            raise worded(
                WrongDoor,
                because("door.other_name", name=name),
                hint=because("next.allowed_hosts"),
                status=421,
            )
        return name, None if port is None else int(port)

    def _forwarded(
        self,
        headers: dict[bytes, list[bytes]],
        scope: Scope,
        host: tuple[str, int | None],
        scheme: str,
        remote: str,
    ) -> tuple[tuple[str, int | None], str, str]:
        """What a proxy on loopback says of the far end; its own word is the last of each list."""
        given = _last(headers, b"x-forwarded-host")
        if given is not None:
            host = self._host(given.encode("latin-1"), scope)
        proto = _last(headers, b"x-forwarded-proto")
        if proto is not None:
            scheme = proto.lower() if proto.lower() in _PORTS else scheme
        address = _last(headers, b"x-forwarded-for")
        if address is not None and _is_address(_bare(address)):
            remote = _bare(address).strip("[]")
        return host, scheme, remote

    # --- Origin -------------------------------------------------------------------------

    def _page(
        self,
        headers: dict[bytes, list[bytes]],
        scope: Scope,
        *,
        host: tuple[str, int | None],
        scheme: str,
        remote: str,
    ) -> Asked:
        origin = _single(headers, b"origin")
        site = _single(headers, b"sec-fetch-site")
        if origin is None:
            if site not in {None, b"same-origin", b"none"} and not _navigation(headers, scope):
                raise _foreign()
            return Asked(scheme, remote)
        text = origin.decode("latin-1").lower()
        if _same(text, scheme, host):
            if site not in {None, b"same-origin"}:
                raise _foreign()
            return Asked(scheme, remote)
        if text not in self._cors:
            raise _foreign()
        asks = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        return Asked(scheme, remote, cors=origin.decode("latin-1"), preflight=asks)


def _same(origin: str, scheme: str, host: tuple[str, int | None]) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme != scheme or not parts.hostname or "@" in parts.netloc or parts.path:
        return False
    ours = host[1] or _PORTS[scheme]
    return _bare(parts.hostname) == host[0] and (port or _PORTS[scheme]) == ours


def _navigation(headers: dict[bytes, list[bytes]], scope: Scope) -> bool:
    """A person followed a link to us: a whole page, by GET, without the strict cookie."""
    return (
        scope["method"] in {"GET", "HEAD"}
        and _single(headers, b"sec-fetch-mode") == b"navigate"
        and _single(headers, b"sec-fetch-dest") == b"document"
    )


def _foreign() -> WrongDoor:
    return worded(WrongDoor, because("door.foreign_page"), hint=because("next.cors_origins"))


def _single(headers: dict[bytes, list[bytes]], name: bytes) -> bytes | None:
    """The value of a header that may be there once."""
    values = headers.get(name, [])
    if len(values) > 1:
        raise worded(WrongDoor, because("door.header_twice", name=name.decode()), status=400)
    return values[0] if values else None


def _last(headers: dict[bytes, list[bytes]], name: bytes) -> str | None:
    values = headers.get(name)
    if not values:
        return None
    return values[-1].decode("latin-1").rpartition(",")[2].strip() or None


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


@lru_cache(maxsize=256)  # asked for each request, mostly about the same few names
def _bare(host: str) -> str:
    """A host name or address in one spelling: small letters, no dot at the end, IPv6 in brackets."""
    host = host.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    return f"[{address}]" if address.version == 6 else str(address)


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
