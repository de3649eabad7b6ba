"""Runs the application in the agent's own loop, on a socket that was bound before anything started."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are the agent's."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - uvicorn's own
        yield


async def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve until cancelled."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        server.force_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({serving}, timeout=2)
        raise
