"""A tiny HTTP server that answers what it is told to: garbage, refusals, silence, a cut line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

Script: TypeAlias = Callable[[str], bytes | None]


class Liar:
    """Serves raw bytes. `script` gets the request's head and gives the answer.

    None: keep silent until the other side gives up. Bytes: send them, and close the connection
    unless it is to be kept.
    """

    def __init__(self, script: Script, *, keep: bool) -> None:
        self._script = script
        self._keep = keep
        self._open: set[asyncio.StreamWriter] = set()
        self.requests: list[str] = []
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Close every connection, as a server does that ends."""
        for writer in self._open:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._serve_one(reader, writer) and self._keep:
                pass
        self._open.discard(writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        told = self._script(head)
        if told is None:
            await reader.read()
            return False
        writer.write(told)
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def liar(script: Script, *, keep: bool = False) -> AsyncIterator[Liar]:
    """A liar on a free port of loopback."""
    it = Liar(script, keep=keep)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        it.drop()
        await server.wait_closed()


def answer(
    body: str | bytes, *, status: str = "200 OK", index: int | None = 1, headers: str = ""
) -> bytes:
    """A whole answer with a right length."""
    raw = body.encode() if isinstance(body, str) else body
    mark = f"X-Consul-Index: {index}\r\n" if index is not None else ""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n{mark}{headers}\r\n"
    return head.encode() + raw
