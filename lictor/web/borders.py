"""The borders: what every request passes before anything of ours looks at it.

One ASGI layer around the whole application, errors included. It refuses odd bytes in Host first
(frameworks have built URLs out of them, CVE-2026-48710), then a Host that is not ours (DNS
rebinding), then a page of another origin, for every method; it lets in JSON bodies of at most 256
KiB and nothing else; and it puts the security headers on every answer. It knows no person and no
route: who may do what is asked at the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web import problems
from lictor.web.auth.errors import BadRequestBody, DoorError, WrongDoor
from lictor.web.origins import Asked, Origins

MAX_BODY = 256 * 1024  # bytes
BODY_SECONDS = 15.0  # in which a body must have come

_LENGTH = re.compile(r"[0-9]{1,12}")
_SECRET_NAMES = re.compile(
    r"(?:^|[&;])(?:[a-z0-9_.%-]*(?:token|password|passwd|secret|api_?key|authorization))=",
    re.IGNORECASE,
)

#: Nothing from elsewhere, nothing inline, no frames: the pages bring all that they need.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
#: No Strict-Transport-Security: it would hold for every port of this host, and others serve there.
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Borders:
    """The layer: an ASGI application around `app`. `base_path` is "" or begins with `/`."""

    app: ASGIApp
    origins: Origins
    base_path: str = ""
    max_body: int = MAX_BODY
    headers: Mapping[str, str] = field(default_factory=lambda: SECURITY_HEADERS)
    _usual: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # An answer is for its asker alone; what may be kept says so itself.
        usual = {**self.headers, "Cache-Control": "no-store"}
        pairs = tuple((name.lower().encode(), text.encode()) for name, text in usual.items())
        object.__setattr__(self, "_usual", pairs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it here."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked: Asked | None = None
        try:
            asked = self.origins.judge(scope)
            guarded = self._guarded(send, asked)
            if asked.preflight:
                await _preflight(guarded)
                return
            _no_secret_in_url(scope)
            receive = await self._whole_body(scope, receive)
        except DoorError as error:
            await _refuse(error, self._guarded(send, asked))
            return
        await self.app(self._inner(scope, asked), receive, guarded)

    def _inner(self, scope: Scope, asked: Asked) -> Scope:
        """The request as the application sees it: under its base path, with who is at the far end."""
        path: str = scope["path"]
        base = self.base_path
        if base and path != base and not path.startswith(f"{base}/"):
            path = f"{base}{path}"  # the proxy has taken it away
        headers = [(k, v) for k, v in scope["headers"] if not (k == b"range" and b"," in v)]
        return {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "root_path": base,
            "scheme": asked.scheme,
            "headers": headers,
            "state": {**scope.get("state", {}), "remote": asked.remote},
        }

    def _guarded(self, send: Send, asked: Asked | None) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                raw = message["headers"] = list(message.get("headers", ()))
                there = {name.lower() for name, _ in raw}
                raw += [pair for pair in self._usual if pair[0] not in there]
                headers = MutableHeaders(raw=raw)
                if asked is not None and asked.cors:
                    headers["Access-Control-Allow-Origin"] = asked.cors
                    headers.setdefault("Vary", "Origin")
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        return guarded

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body to its end, within the limits; the application gets it in one piece."""
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            return receive
        if length is not None and (
            not _LENGTH.fullmatch(length) or len(headers.getlist("content-length")) > 1
        ):
            raise worded(BadRequestBody, because("body.bad_length"))
        if length is not None and int(length) > self.max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await self._read(receive)
        except TimeoutError:
            raise worded(BadRequestBody, because("body.late"), status=408) from None
        if body:
            _json_only(headers)
        return _replay(body, receive)

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise worded(BadRequestBody, because("body.cut"))
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_body:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> BadRequestBody:
        over = because("body.over_limit", limit=self.max_body // 1024)
        return worded(BadRequestBody, over, status=413)


def _json_only(headers: Headers) -> None:
    """Forms and plain text are what pages of other origins may send without asking."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise worded(BadRequestBody, because("body.not_json"), status=415)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise worded(BadRequestBody, because("body.packed"), status=415)


def _no_secret_in_url(scope: Scope) -> None:
    """URLs end up in histories and in the logs of proxies."""
    query: bytes = scope.get("query_string", b"")
    if query and _SECRET_NAMES.search(query.decode("latin-1")):
        elsewhere = because("next.authorization")
        raise worded(WrongDoor, because("door.secret_in_url"), hint=elsewhere, status=400)


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


async def _preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
        (b"access-control-allow-headers", b"authorization, content-type, last-event-id"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(error: DoorError, send: Send) -> None:
    body = json.dumps(problem(error), ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/problem+json"), *_raw(error.headers.items())]
    if error.status in {400, 408, 413}:
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    headers.append((b"content-length", str(len(body)).encode()))
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def problem(error: DoorError) -> dict[str, Any]:
    """The error as RFC 9457 has it."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        **problems.told(error),
    }


def _raw(items: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in items]
