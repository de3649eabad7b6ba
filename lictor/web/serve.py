"""Runs the application in the agent's own loop, on a socket that was bound before anything started."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

_STALLED = 30.0  # seconds


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are the agent's."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - uvicorn's own
        yield


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    context: ssl.SSLContext | None = None,
    *,
    at_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve until cancelled; https with `context`. `at_end` ends what would go on for ever."""
    # A caller who takes nothing any more is cut after this time: what waits for them is given up by
    # the kernel (tcp(7), RFC 5482), also when their program still holds the connection open.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_STALLED * 1000))
    config = uvicorn.Config(
        app,
        proxy_headers=False,  # the borders decide whom to believe
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
    )
    config.load()
    config.ssl = context
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        at_end()
        server.should_exit = True
        server.force_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({serving}, timeout=2)
        raise
