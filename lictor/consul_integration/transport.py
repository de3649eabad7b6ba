"""One HTTP request to Consul: deadline, two pools, a cap, and errors that mean something.

py-consul's own transports have no deadline (criteo/py-consul#118), share one pool between watches
and calls, and let exceptions of `requests` or `aiohttp` out. This one gives every call a deadline,
keeps two pools, caps what it reads, follows no redirect, uses no proxy and maps every failure to the
tree in `lictor.core.errors`. It never shows a token, and repeats a request only where Consul says that
it has not looked at it (429: its limit of requests), a few times, each a little later; aiohttp does it
once when a kept connection turns out to be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp.client_exceptions import ConnectionTimeoutError
from consul.exceptions import ConsulException
from yarl import URL

from lictor.consul_integration.address import ConsulAddress, TlsOptions, TokenProvider
from lictor.consul_integration.failures import refusal, words
from lictor.consul_integration.handshake import handshake_failure
from lictor.core.errors import (
    BadRequest,
    ConsulError,
    ConsulTimeout,
    ConsulUnreachable,
    Garbage,
    TooLarge,
)
from lictor.core.model.reason import because
from lictor.core.worded import worded

Params: TypeAlias = Sequence[tuple[str, Any]]

#: Seconds, about, until a request that was refused with 429 is sent again. Among many calls one is
#: refused sooner or later; without this, that one would end a whole comparison.
_LATER = (0.1, 0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take. Times are seconds, `body` is bytes.

    `total` is above the 7.1 s for which a server without a leader holds a request (measured on
    1.8.7; Consul's `rpc_hold_timeout`). A blocking query gets its `wait`, the sixteenth that Consul
    adds as jitter, and `watch_margin`. `calls` and `watches` are connections: Consul resets the
    201st of one client address (`http_max_conns_per_client`), so they are few.
    """

    connect: float = 1.0
    total: float = 10.0
    watch_margin: float = 2.0
    body: int = 8 * 1024 * 1024
    calls: int = 8
    watches: int = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as py-consul's callbacks expect it. `headers` ignores the case of names."""

    code: int
    headers: Mapping[str, str]
    body: str


class ConnectionRenewed(ConsulUnreachable):
    """A blocking query would have carried its index to another connection than it came from.

    Consul may have been restarted, even emptied, in between; then the query would sleep through
    every change. Nothing was sent: read again with index 0.
    """


class Transport:
    """Two pools of connections to one Consul. Raises `ConsulError` only."""

    def __init__(
        self,
        address: ConsulAddress,
        *,
        token: TokenProvider,
        tls: TlsOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.address = address
        self.limits = limits or Limits()
        self._token = token
        self._tls = tls or TlsOptions()
        self._context = self._tls.context() if address.scheme == "https" else None
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._closed = False
        self._waiters: set[asyncio.Event] = set()
        self._keeps_alive = True

    async def send(
        self,
        method: str,
        path: str,
        params: Params = (),
        data: str | bytes | None = None,
        *,
        callback: Callable[[Answer], Any],
        watch: bool = False,
    ) -> Any:
        """Send one request within its deadline and give the answer's meaning.

        A 404 goes to `callback` (for many endpoints it means "none"); every other refusal is
        raised as the error that `failures.refusal` says. `watch`: use the watches' pool; a request
        with an `index` then raises `ConnectionRenewed` rather than open a connection.
        """
        url = URL(self._url(path, params), encoded=True)
        for pause in (*_LATER, None):
            async with self._mapped(path):
                answer = await self._exchange(method, url, data, _wait_of(params), watch=watch)
            if answer.code != http.HTTPStatus.TOO_MANY_REQUESTS or pause is None:
                break
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - not a secret
        if answer.code not in {http.HTTPStatus.OK, http.HTTPStatus.NOT_FOUND}:
            raise refusal(answer.code, answer.body, path)
        self._tell_contact()
        try:
            return callback(answer)
        except ConsulError:
            raise
        except (ConsulException, ValueError, TypeError, LookupError, AttributeError) as error:
            senseless = because("reply.senseless", path=path, why=words(error))
            raise worded(Garbage, senseless) from error
        except RecursionError as error:
            raise worded(Garbage, because("reply.too_deep", path=path)) from error

    async def contact(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as any call of this transport got a good answer.

        For whoever waits out a back-off: when others reach Consul again, so can he.
        """
        event = asyncio.Event()
        self._waiters.add(event)
        try:
            # (`wait_for` of Python 3.11 loses a cancellation that meets the event)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await event.wait()
        finally:
            self._waiters.discard(event)

    async def close(self) -> None:
        """Close both pools. Calls under way fail with `ConsulUnreachable`; closing twice is fine."""
        self._closed = True
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _tell_contact(self) -> None:
        for event in self._waiters:
            event.set()

    def _url(self, path: str, params: Params) -> str:
        query = f"?{urlencode(params)}" if params else ""
        return f"{self.address.base}{quote(path, safe='/:')}{query}"

    def _session(self, *, watch: bool) -> aiohttp.ClientSession:
        # Made at the first call: aiohttp wants a running loop, and a client may be built without.
        if self._closed:
            raise worded(ConsulUnreachable, because("contact.closed"))
        if watch not in self._sessions:
            limit = self.limits.watches if watch else self.limits.calls
            connector: aiohttp.BaseConnector
            if self.address.socket:
                connector = aiohttp.UnixConnector(self.address.socket, limit=limit)
            elif self._context is not None:
                connector = aiohttp.TCPConnector(limit=limit, ssl=self._context)
            else:
                connector = aiohttp.TCPConnector(limit=limit)
            self._sessions[watch] = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_tracing()],
            )
        return self._sessions[watch]

    async def _exchange(
        self, method: str, url: URL, data: str | bytes | None, wait: float | None, *, watch: bool
    ) -> Answer:
        total = self.limits.total
        if wait is not None:
            total = wait * 17 / 16 + self.limits.watch_margin
        headers = {"Accept-Encoding": "identity"}  # nothing to gain on loopback; and no zip bombs
        token = self._token()
        if token:
            headers["X-Consul-Token"] = token
        resumes = watch and wait is not None and self._keeps_alive
        async with self._session(watch=watch).request(
            method,
            url,
            data=data or None,
            headers=headers,
            allow_redirects=False,
            server_hostname=self._tls.server_name or None,
            timeout=aiohttp.ClientTimeout(total=total, sock_connect=self.limits.connect),
            trace_request_ctx=resumes,
        ) as response:
            # Some proxy that closes after each answer must not turn every watch into polling.
            self._keeps_alive = response.headers.get("Connection", "").lower() != "close"
            body = await self._read(response)
            return Answer(response.status, response.headers, body)

    async def _read(self, response: aiohttp.ClientResponse) -> str:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self.limits.body:
                response.close()  # the rest is not read, so the connection cannot be used again
                raise worded(TooLarge, because("reply.too_long", limit=self.limits.body))
            parts.append(part)
        try:
            return b"".join(parts).decode()
        except UnicodeDecodeError as error:
            raise worded(Garbage, because("reply.not_text")) from error

    @contextlib.asynccontextmanager
    async def _mapped(self, path: str) -> AsyncIterator[None]:
        where = str(self.address)
        try:
            yield
        except ConnectionTimeoutError as error:
            within = f"{self.limits.connect:g}"
            slow = because("contact.slow_connect", address=where, seconds=within)
            raise worded(ConsulUnreachable, slow) from error
        except TimeoutError as error:
            late = because("contact.slow", address=where, path=path)
            raise worded(ConsulTimeout, late) from error
        except aiohttp.ClientSSLError as error:
            failed = because("tls.failed", address=where, why=words(error))
            raise self._handshake(error) or worded(ConsulUnreachable, failed) from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            odd = because("contact.not_http", address=where, why=words(error))
            raise worded(Garbage, odd) from error
        except aiohttp.ClientConnectorError as error:
            nobody = because("contact.nobody", address=where, why=words(error.os_error))
            raise worded(ConsulUnreachable, nobody) from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            # RuntimeError: aiohttp's word for "session is closed", when close() came in between.
            cut = because("contact.cut", address=where, why=words(error))
            raise self._handshake(error) or worded(ConsulUnreachable, cut) from error
        except ValueError as error:  # a token with a line break in it, for one
            unsendable = because("contact.unsendable", path=path, why=words(error))
            raise worded(BadRequest, unsendable) from error

    def _handshake(self, error: BaseException) -> ConsulUnreachable | None:
        """What TLS is to blame for, if so."""
        if self._context is None:
            return None
        shown = bool(self._tls.client_cert)
        return handshake_failure(error, str(self.address), certificate=shown)


def _tracing() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(_refuse_to_resume)
    return trace


async def _refuse_to_resume(_: object, context: Any, __: object) -> None:
    # aiohttp opens a connection when none is kept, and also to repeat a request whose kept
    # connection turned out to be dead: both ways an old index would reach a new server.
    if context.trace_request_ctx:
        raise ConnectionRenewed("The connection of this watch is gone.")


def _wait_of(params: Params) -> float | None:
    """The seconds a blocking query may block; None for one that answers at once."""
    given = dict(params)
    if "index" not in given:
        return None
    wait = str(given.get("wait", "300s"))  # Consul's default is five minutes
    return float(wait.removesuffix("s"))
