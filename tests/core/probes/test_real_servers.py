"""The checks that speak a protocol, asked of real servers."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import WSMsgType, web

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.prober import LictorProber
from tests.support import servers


async def ask(kind: str, target: str) -> ProbeResult:
    prober = LictorProber()
    try:
        return await prober.probe(ProbeSpec(kind, target, timeout=5.0))
    finally:
        await prober.close()


async def until_answered(kind: str, port: int) -> ProbeResult:
    """The first answer of a server that has just been started."""
    deadline = time.monotonic() + 60
    while True:
        result = await ask(kind, f"127.0.0.1:{port}")
        if "refused" not in result.output or time.monotonic() > deadline:
            return result
        await asyncio.sleep(0.1)


async def passes(kind: str, port: int) -> ProbeResult:
    deadline = time.monotonic() + 60
    result = await until_answered(kind, port)
    while not result.passed and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        result = await until_answered(kind, port)
    return result


async def test_a_real_redis_answers_with_and_without_a_password():
    with servers.redis() as port:
        result = await passes("redis", port)
        assert (result.passed, result.output) == (True, "Redis answers PONG")
    with servers.redis("--requirepass", "secret") as port:
        result = await passes("redis", port)
        assert result.output == "Redis answers, and wants a password"


async def test_a_real_postgres_answers_and_says_when_it_is_full():
    with servers.postgres("max_connections=4", "superuser_reserved_connections=0") as port:
        result = await passes("postgres", port)
        assert (result.passed, result.output) == (True, "PostgreSQL answers")
        # Sessions that stay open: the same words as the check's, without the goodbye.
        held = [await session(port) for _ in range(4)]
        result = await ask("postgres", f"127.0.0.1:{port}")
        assert (result.passed, result.output) == (False, "PostgreSQL has too many connections")
        for writer in held:
            writer.close()
            await writer.wait_closed()


async def test_a_real_postgres_is_asked_over_tls_where_it_has_it():
    with servers.postgres(tls=True) as port:
        result = await passes("postgres", port)
        assert (result.passed, result.output) == (True, "PostgreSQL answers")


async def session(port: int) -> asyncio.StreamWriter:
    words = b"user\0postgres\0database\0postgres\0\0"
    deadline = time.monotonic() + 20
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((len(words) + 8).to_bytes(4, "big") + (196608).to_bytes(4, "big") + words)
        answer = await reader.readexactly(1)
        if answer == b"R":
            return writer
        writer.close()  # the check's own session may still be on its way out
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@pytest.fixture
async def websocket_server():
    """aiohttp's server: `/ws` takes WebSockets and writes down how they end, `/page` does not."""
    ends: list[object] = []

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            ends.append(message.type)
        ends.append(socket.close_code)
        return socket

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.add_routes([web.get("/ws", talk), web.get("/page", page)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1], ends
    await runner.cleanup()


async def test_a_real_websocket_server_is_opened_and_closed_in_order(websocket_server):
    port, ends = websocket_server
    result = await ask("websocket", f"ws://127.0.0.1:{port}/ws")
    assert (result.passed, result.output) == (True, "WebSocket handshake: ok")
    deadline = time.monotonic() + 20
    while not ends and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert ends == [1000]
    assert WSMsgType.ERROR not in ends


async def test_a_page_where_a_websocket_should_be_does_not_pass(websocket_server):
    port, _ = websocket_server
    result = await ask("websocket", f"ws://127.0.0.1:{port}/page")
    assert (result.passed, result.output) == (
        False,
        "the handshake is answered with HTTP status 200, not 101",
    )
