"""`/supervisor/*` in somebody else's FastAPI application: a small client of a Lictor agent.

    app.include_router(supervisor_router("http://127.0.0.1:7031", token=TOKEN))

Every request goes to the agent with the token of the application, whose own rights are the
application's business: mount it behind its sign-in. Nothing of the caller but the query and the
JSON body is passed on, no cookie and no credential of theirs, and nothing but the answer's body,
status and type comes back. With the agent away, the answer is 503 and says so. It talks to one
address only and follows no redirect. aiohttp is imported when the first request comes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from lictor.core.model.reason import because
from lictor.web.problems import said

_CONNECT = 3.0  # seconds
_ANSWER = 30.0  # seconds
_MOST_BODY = 256 * 1024  # bytes
_MOST_ANSWER = 16 * 1024 * 1024  # bytes
_NAME = re.compile(r"[A-Za-z0-9_@.-]{1,200}")
_ACTIONS = frozenset({"start", "stop", "restart", "reload", "bulk"})
_PASSED = ("Last-Event-ID", "Accept-Language")


def supervisor_router(
    base_url: str, token: str, *, prefix: str = "/supervisor", timeout: float = _ANSWER
) -> APIRouter:
    """A router with the paths of `/supervisor`; `token` is an API token (`lictor token create`).

    `base_url` is the agent's address (http or https), `timeout` in seconds for one answer. Raises
    `ValueError` for an address that is none.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{base_url!r} is no address of an agent: expected http://host:port")
    relay = _Relay(base_url.rstrip("/") + "/supervisor", token, timeout)
    router = APIRouter(prefix=prefix, tags=["supervisor"])

    @router.get("/status")
    async def status(request: Request) -> Response:
        return await relay.ask(request, "status")

    @router.get("/logs/{service}")
    async def logs(service: str, request: Request) -> Response:
        return await relay.about(request, "logs", service)

    @router.get("/health/{service}")
    async def health(service: str, request: Request) -> Response:
        return await relay.about(request, "health", service)

    @router.post("/{action}")
    async def act(action: str, request: Request) -> Response:
        if action not in _ACTIONS:
            return said(404, "page.unknown", because("page.none"))
        return await relay.ask(request, action)

    return router


class _Relay:
    """Asks one agent. A connection for each request: they are few, and no loop is remembered."""

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self._url = url
        self._token = token
        self._timeout = timeout

    async def about(self, request: Request, what: str, service: str) -> Response:
        if not _NAME.fullmatch(service):
            return said(404, "service.unknown", because("service.no_such"))
        return await self.ask(request, f"{what}/{quote(service, safe='@')}")

    async def ask(self, request: Request, path: str) -> Response:
        import aiohttp  # noqa: PLC0415 - an application that never asks does not need it

        body = await _body_of(request)
        if body is None:
            return said(413, "body.too_large", because("body.too_large"))
        headers = {"Authorization": f"Bearer {self._token}"}
        headers |= {name: request.headers[name] for name in _PASSED if name in request.headers}
        if body:
            headers["Content-Type"] = "application/json"
        limits = aiohttp.ClientTimeout(
            total=None, connect=_CONNECT, sock_connect=_CONNECT, sock_read=self._timeout
        )
        session = aiohttp.ClientSession(timeout=limits, trust_env=False, auto_decompress=True)
        try:
            answer = await session.request(
                request.method,
                f"{self._url}/{path}",
                params=list(request.query_params.multi_items()),
                data=body or None,
                headers=headers,
                allow_redirects=False,
            )
            if answer.content_type == "text/event-stream":
                return StreamingResponse(
                    _events(session, answer),
                    answer.status,
                    {"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
                    "text/event-stream",
                )
            found = _plain(answer.status, await _content_of(answer), answer.content_type)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found = said(
                503,
                "agent.unreachable",
                because("agent.away", error=str(error) or type(error).__name__),
                hint=because("next.agent_running"),
            )
        except BaseException:
            await session.close()
            raise
        await session.close()
        return found


async def _content_of(answer: Any) -> bytes | None:
    """The whole answer, in however many pieces it comes; None when it is too large."""
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > _MOST_ANSWER:
            answer.close()
            return None
    return bytes(content)


def _plain(status: int, content: bytes | None, kind: str) -> Response:
    if content is None:
        return said(502, "agent.too_much", because("agent.answer_too_large"))
    if 300 <= status < 400:
        return said(502, "agent.redirected", because("agent.not_one"))
    if status == 401:  # the application's token is meant, and not its user
        return said(503, "agent.token", because("agent.token_refused"))
    return Response(content, status, {"Cache-Control": "no-store"}, kind)


async def _events(session: Any, answer: Any) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.content.iter_any():
            yield piece
    except (OSError, TimeoutError):
        return  # the agent ended: so does the stream, and the page asks again
    finally:
        answer.close()
        await session.close()


async def _body_of(request: Request) -> bytes | None:
    """The body; None when it is too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BODY:
            return None
    return body
