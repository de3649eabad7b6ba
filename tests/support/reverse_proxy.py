"""A small reverse proxy as people put one in front: one path of its own site is the agent's.

It passes on what comes as it comes (streams too), says who asked in the usual headers, and answers
404 for every path that is not below its own: a page that asks outside of its base path is noticed.
It runs in a thread, because the browser's tests have no loop to lend.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self

import aiohttp
from aiohttp import web

_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


class ReverseProxy:
    """`url` is the agent as people see it; `strip` takes the base path away on the way in."""

    def __init__(self, target: str, base: str, *, strip: bool) -> None:
        self.strays: list[str] = []
        self._target, self._base, self._strip = target, base, strip
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the proxy does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=20)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            self._session = session
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", self._pass)
            runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{port}{self._base}"
            self._ready.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        if not path.startswith(f"{self._base}/"):
            self.strays.append(path)
            raise web.HTTPNotFound
        if self._strip:
            path = path.removeprefix(self._base)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Proto"] = "http"
        headers["X-Forwarded-Host"] = request.host
        async with self._session.request(
            request.method,
            self._target + path,
            headers=headers,
            data=await request.read() or None,
            allow_redirects=False,
        ) as answer:
            out = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    out.headers.add(name, value)
            with contextlib.suppress(ConnectionError):  # who asked has gone
                await out.prepare(request)
                async for piece in answer.content.iter_any():
                    await out.write(piece)
                await out.write_eof()
            return out
