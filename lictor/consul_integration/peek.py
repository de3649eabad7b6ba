"""One look at a node's lease before anything is started, with nothing heavy loaded.

Whoever starts on a node that another agent has must not start a single service, and the client that
everything else here uses takes longer to load than the first services to start. So this is one plain
GET of the standard library, a second long at most. No answer of any kind means "nobody known":
Consul's absence never keeps an agent from running.
"""

from __future__ import annotations

import base64
import http
import http.client
import json
import socket
import ssl
from typing import Any
from urllib.parse import quote

from lictor.consul_integration.address import ConsulAddress, TlsOptions
from lictor.core.errors import ConsulError

_LIMIT = 1.0  # seconds


def holder(
    address: ConsulAddress, key: str, *, token: str | None = None, tls: TlsOptions | None = None
) -> dict[str, Any] | None:
    """The document of a locked key; None if it is not locked, or if that cannot be known."""
    try:
        found = _get(address, f"/v1/kv/{quote(key)}", token, tls or TlsOptions())
        item = found[0]
        if not item.get("Session"):
            return None
        document = json.loads(base64.b64decode(item.get("Value") or ""))
    except (OSError, http.client.HTTPException, ConsulError):
        return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _get(address: ConsulAddress, path: str, token: str | None, tls: TlsOptions) -> Any:
    connection = _connection(address, tls)
    try:
        connection.request("GET", path, headers={"X-Consul-Token": token} if token else {})
        response = connection.getresponse()
        body = response.read(1 << 20)
        return json.loads(body) if response.status == http.HTTPStatus.OK else []
    finally:
        connection.close()


def _connection(address: ConsulAddress, tls: TlsOptions) -> http.client.HTTPConnection:
    if address.socket:
        return _UnixConnection(address.socket)
    if address.scheme == "https":
        context = tls.context()
        connection = _NamedTls(address.host, address.port, timeout=_LIMIT, context=context)
        connection.server_name = tls.server_name or address.host
        return connection
    return http.client.HTTPConnection(address.host, address.port, timeout=_LIMIT)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_LIMIT)
        self.sock.connect(self._path)


class _NamedTls(http.client.HTTPSConnection):
    """HTTPS to a server whose certificate has another name than its address."""

    server_name = ""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context: ssl.SSLContext = self._context  # type: ignore[attr-defined]
        self.sock = context.wrap_socket(self.sock, server_hostname=self.server_name)
