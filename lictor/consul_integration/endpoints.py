"""py-consul's endpoint classes over our transport.

py-consul builds paths and parameters and reads answers; `transport` does the rest. py-consul was
made for this: its `HTTPClient` is abstract, and endpoints return whatever the client returns, so
with awaitables they are awaited. Nothing of py-consul's own configuration is used, because it lets
the environment win over what was said explicitly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from consul import base

from lictor.consul_integration.transport import Answer, Params, Transport


class Gate(base.HTTPClient):  # type: ignore[misc]
    """py-consul's `HTTPClient`, whose methods return awaitables and raise `ConsulError` only.

    `watch` chooses the pool. The headers that py-consul made are not used: they carry at most a
    token, and the transport has the right one.
    """

    def __init__(self, transport: Transport, *, watch: bool) -> None:
        address = transport.address
        super().__init__(address.host, address.port, address.scheme)
        self._transport = transport
        self._watch = watch

    def get(
        self,
        callback: Callable[[Answer], Any],
        path: str,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - see the class
    ) -> Awaitable[Any]:
        """GET."""
        return self._send("GET", callback, path, params, None)

    def put(
        self,
        callback: Callable[[Answer], Any],
        path: str,
        params: Params | None = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - see the class
    ) -> Awaitable[Any]:
        """PUT."""
        return self._send("PUT", callback, path, params, data)

    def delete(
        self,
        callback: Callable[[Answer], Any],
        path: str,
        params: Params | None = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - see the class
    ) -> Awaitable[Any]:
        """DELETE."""
        return self._send("DELETE", callback, path, params, data)

    def post(
        self,
        callback: Callable[[Answer], Any],
        path: str,
        params: Params | None = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,  # noqa: ARG002 - see the class
    ) -> Awaitable[Any]:
        """POST."""
        return self._send("POST", callback, path, params, data)

    def close(self) -> Awaitable[None]:
        """Close both pools of the transport."""
        return self._transport.close()

    def _send(
        self,
        method: str,
        callback: Callable[[Answer], Any],
        path: str,
        params: Params | None,
        data: str | bytes | None,
    ) -> Awaitable[Any]:
        return self._transport.send(
            method, path, params or (), data, callback=callback, watch=self._watch
        )


class Endpoints(base.Consul):  # type: ignore[misc]
    """py-consul's endpoints over one pool of our transport."""

    def __init__(self, transport: Transport, *, watch: bool = False) -> None:
        self._gate = Gate(transport, watch=watch)
        # Every argument is given, because py-consul reads the environment for those that are not.
        super().__init__(
            host=transport.address.host, port=transport.address.port, scheme="http", verify=True
        )
        # CONSUL_HTTP_TOKEN would win over an explicit token; the transport sends the right one.
        self.token = None

    def http_connect(self, *_: Any, **__: Any) -> Gate:
        """Our transport, whatever py-consul worked out for host and port."""
        return self._gate
