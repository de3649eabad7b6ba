"""A proxy before a real Consul that passes everything on, until it is told to lie.

It exists because a Consul that hangs, refuses, cuts its answer short or says 500 cannot be had from
the real one on demand, while everything else must stay real. It counts what passes through, so that
a test can say how often Consul was asked, and for what. Runs in threads of its own: the tests from
outside are plain functions.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_HANG_S = 120.0
#: For every request (method and path) what to do with it; "" passes it on.
Fault = Callable[[str, str], str]
FAULTS = ("hang", "cut", "500", "429", "garbage", "truncated", "empty", "deaf", "index")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came: its time (monotonic seconds), method and path with its query."""

    at: float
    method: str
    path: str


class LyingProxy:
    """Stands before the Consul at `target` (a URL), on a free port of 127.0.0.1.

    Faults: `hang` (no answer), `cut` (the connection is reset), `500`, `429`, `garbage` (200, not
    JSON), `truncated` (half of the answer), `empty` (200 and nothing in it), `deaf` (the request is
    done, its answer lost), `index` (X-Consul-Index of the answer is 1).
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.asked: list[Asked] = []
        self.fault: Fault = lambda _method, _path: ""
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def lie(self, fault: str, *, method: str = "", path: str = "") -> None:
        """From now on do this to every request of this method whose path contains `path`."""
        assert fault in FAULTS, fault
        self.released.clear()
        self.fault = lambda m, p: fault if method in {"", m} and path in p else ""

    def be_honest(self) -> None:
        """Pass everything on again; what hangs is cut."""
        self.fault = lambda _method, _path: ""
        self.released.set()

    def since(self, moment: float, *, methods: Iterable[str] = ()) -> list[Asked]:
        """What was asked after that moment of the monotonic clock."""
        wanted = tuple(methods)
        return [a for a in self.asked if a.at >= moment and (not wanted or a.method in wanted)]

    def writes_since(self, moment: float) -> list[Asked]:
        """What would change something: a renewed session moves no index."""
        asked = self.since(moment, methods=("PUT", "DELETE", "POST"))
        return [each for each in asked if not each.path.startswith("/v1/session/renew/")]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.be_honest()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


def _handler_of(proxy: LyingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _HANG_S

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle_any(self) -> None:
            proxy.asked.append(Asked(time.monotonic(), self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault(self.command, self.path)
            if fault == "hang":
                proxy.released.wait(_HANG_S)
            if fault in {"hang", "cut"}:
                self._reset()
            elif fault in {"500", "429"}:
                self._answer(int(fault), {}, b"something is wrong")
            elif fault == "garbage":
                self._answer(200, {"X-Consul-Index": "7"}, b"<html>hello</html>")
            elif fault == "empty":
                self._answer(200, {"X-Consul-Index": "7"}, b"")
            else:
                self._pass_on(body, fault)

        do_GET = do_PUT = do_DELETE = do_POST = handle_any

        def _pass_on(self, body: bytes, fault: str) -> None:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"host", "connection", "content-length"}
            }
            upstream = http.client.HTTPConnection(*proxy.target, timeout=_HANG_S)
            with contextlib.closing(upstream):
                try:
                    upstream.request(self.command, self.path, body or None, headers)
                    answer = upstream.getresponse()
                    read = answer.read()
                except (OSError, http.client.HTTPException):
                    self._reset()
                    return
                kept = {n: v for n, v in answer.getheaders() if n.lower() in _KEPT}
                # A fault may have begun while a blocking query waited: it is to lie too.
                fault = fault or proxy.fault(self.command, self.path)
                if fault == "deaf":
                    self._reset()
                elif fault == "truncated":
                    self._answer(answer.status, kept, read, missing=max(1, len(read) // 2))
                else:
                    if fault == "index":
                        kept["X-Consul-Index"] = "1"
                    self._answer(answer.status, kept, read)

        def _answer(
            self, status: int, headers: dict[str, str], body: bytes, *, missing: int = 0
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) - missing])
            if missing:
                self._reset()

        def _reset(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                # No lingering: the other side sees a reset, as from a process that was killed.
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


_KEPT = frozenset(
    {"content-type", "x-consul-index", "x-consul-knownleader", "x-consul-lastcontact"}
)
