"""Checks that speak a protocol: what real servers' bytes mean, and what strangers' bytes never mean.

Redis, PostgreSQL and a WebSocket server are real ones (see also `test_real_servers`). The answers of
Kafka, MySQL, AMQP, MongoDB and gRPC servers are bytes as such servers send them.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes import grpc, kafka, mongodb
from lictor.core.probes.prober import LictorProber
from lictor.core.probes.protocols import askers
from tests.support.children import free_port

KINDS = sorted(askers())
WORDS = {
    "amqp": "AMQP",
    "grpc": "gRPC",
    "kafka": "Kafka",
    "mongodb": "MongoDB",
    "mysql": "MySQL",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "websocket": "WebSocket",
}


Handle: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handle: Handle) -> AsyncIterator[int]:
    """Serve on a free port; leaves nothing behind."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await handle(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if tasks:
            await asyncio.wait(tasks, timeout=20)
        await server.wait_closed()


class Player:
    """Says each line after it has heard something (a `first` line at once), and keeps what it heard."""

    def __init__(self, lines: list[bytes], first: bytes = b"") -> None:
        self._lines = lines
        self._first = first
        self.heard = b""
        self.port = 0

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._first)
        for line in self._lines:
            heard = await reader.read(65536)
            self.heard += heard
            if not heard:
                break
            writer.write(line)
            await writer.drain()
        while heard := await reader.read(65536):
            self.heard += heard


@contextlib.asynccontextmanager
async def playing(*lines: bytes, first: bytes = b"") -> AsyncIterator[Player]:
    player = Player(list(lines), first)
    async with serving(player.play) as player.port:
        yield player


async def ask(kind: str, port: int, timeout: float = 5.0) -> ProbeResult:
    prober = LictorProber()
    target = f"ws://127.0.0.1:{port}/" if kind == "websocket" else f"127.0.0.1:{port}"
    try:
        return await prober.probe(ProbeSpec(kind, target, timeout=timeout))
    finally:
        await prober.close()


async def told(kind: str, *lines: bytes, first: bytes = b"") -> tuple[bool, str]:
    async with playing(*lines, first=first) as server:
        result = await ask(kind, server.port)
    return result.passed, result.output


# --- what every one of them does -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_there_is_a_refused_connection(kind):
    result = await ask(kind, free_port())
    assert (result.passed, result.output) == (False, f"{WORDS[kind]}: connection refused")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_keeps_silent_is_given_up_in_time(kind):
    async with playing(b"", b"") as server:
        result = await ask(kind, server.port, timeout=0.3)
    assert (result.passed, result.output) == (False, f"no answer in {WORDS[kind]} within 0.3 s")
    assert result.took < 10


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_is_closed_at_once_is_no_answer(kind):
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()

    async with serving(hang_up) as port:
        result = await ask(kind, port)
    assert (result.passed, result.output) == (False, f"{WORDS[kind]}: closed without an answer")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "websocket"])
async def test_a_web_server_on_the_port_is_another_protocol(kind):
    page = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\nConnection: close\r\n\r\nno!\r\n"
    first = page if kind == "mysql" else b""
    assert await told(kind, page, first=first) == (False, f"the answer is not {WORDS[kind]}")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_nonsense_ends_the_conversation(kind):
    flood = b"\xa5" * 200_000
    passed, output = await told(kind, flood, first=flood if kind == "mysql" else b"")
    assert not passed
    assert output == f"the answer is not {WORDS[kind]}"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_echo_of_our_own_words_does_not_pass(kind):
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(65536):
            writer.write(heard)
            await writer.drain()

    async with serving(echo) as port:
        result = await ask(kind, port, timeout=0.5)
    assert not result.passed


async def test_a_target_that_is_no_address_is_said():
    prober = LictorProber()
    result = await prober.probe(ProbeSpec("kafka", "broker"))
    assert (result.passed, result.output) == (False, "'broker' is not host:port")
    result = await prober.probe(ProbeSpec("websocket", "http://h/"))
    assert (result.passed, result.output) == (False, "'http://h/' is not a ws:// URL")
    await prober.close()


# --- redis -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "passed", "output"),
    [
        (b"+PONG\r\n", True, "Redis answers PONG"),
        (b"-NOAUTH Authentication required.\r\n", True, "Redis answers, and wants a password"),
        (
            b"-LOADING Redis is loading the dataset in memory\r\n",
            False,
            "Redis is still loading its data",
        ),
        (
            b"-DENIED Redis is running in protected mode\r\n",
            False,
            "Redis answers with the error DENIED",
        ),
        (b"+OK\r\n", False, "the answer is not Redis"),
    ],
)
async def test_the_answer_of_redis(line, passed, output):
    assert await told("redis", line) == (passed, output)


# --- postgres --------------------------------------------------------------------------------------

SCRAM = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"


def pg_error(code: bytes) -> bytes:
    body = b"SFATAL\0VFATAL\0C" + code + b"\0Msecret words\0Fpostmaster.c\0L2000\0Rx\0\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


@pytest.mark.parametrize(
    ("answer", "passed", "output"),
    [
        (SCRAM, True, "PostgreSQL answers"),
        (pg_error(b"28000"), True, "PostgreSQL answers"),
        (pg_error(b"3D000"), True, "PostgreSQL answers"),
        (
            pg_error(b"57P03"),
            False,
            "PostgreSQL takes no connections now: it is starting, stopping or recovering",
        ),
        (pg_error(b"53300"), False, "PostgreSQL has too many connections"),
        (pg_error(b"XX000"), False, "PostgreSQL answers with the error XX000"),
    ],
)
async def test_the_answer_of_postgres(answer, passed, output):
    assert await told("postgres", b"N", answer) == (passed, output)


async def test_whoever_is_let_into_postgres_says_goodbye():
    async with playing(b"N", b"R\0\0\0\x08\0\0\0\0") as server:
        assert (await ask("postgres", server.port)).passed
    assert server.heard.endswith(b"X\0\0\0\x04")
    assert b"user\0postgres\0" in server.heard


# --- kafka -----------------------------------------------------------------------------------------


def versions(count: int = 6, error: int = 0, correlation: bytes = b"LICT") -> bytes:
    rows = b"".join(struct.pack("!hhh", key, 0, 9) for key in range(count))
    body = correlation + struct.pack("!hi", error, count) + rows
    return struct.pack("!i", len(body)) + body


@pytest.mark.parametrize(
    ("answer", "passed", "output"),
    [
        (versions(60), True, "Kafka answers: it understands 60 kinds of request"),
        (versions(error=35), False, "Kafka answers with the error 35"),
        (versions(correlation=b"KAFK"), False, "the answer is not Kafka"),
        (versions(2), False, "the answer is not Kafka"),
    ],
)
async def test_the_answer_of_kafka(answer, passed, output):
    assert await told("kafka", answer) == (passed, output)


async def test_kafka_is_asked_in_the_oldest_form():
    async with playing(versions()) as server:
        await ask("kafka", server.port)
    assert server.heard == kafka.request()
    assert server.heard == b"\0\0\0\x17\0\x12\0\0LICT\0\x0dlictor-health"


# --- mysql -----------------------------------------------------------------------------------------

#: What MariaDB 10.11.19 said: protocol 10, version, thread, salt, capabilities, plugin.
GREETING = (
    b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\0\x0b\0\0\0c{c^-d2k\0\xfe\xf7\x08\x02\0\xff\x81\x15"
    b"\0\0\0\0\0\0\x1d\0\0\0DRNnc&0]edEj\0mysql_native_password\0"
)


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def my_error(code: int) -> bytes:
    return b"\xff" + code.to_bytes(2, "little") + b"#28000Access denied for user 'lictor-health'"


async def test_being_refused_by_mysql_is_an_answer():
    async with playing(packet(2, my_error(1045)), first=packet(0, GREETING)) as server:
        result = await ask("mysql", server.port)
    assert (result.passed, result.output) == (True, "MySQL answers")
    assert b"lictor-health\0\0mysql_native_password\0" in server.heard
    assert server.heard[3] == 1


async def test_a_change_of_method_is_answered_so_that_the_handshake_ends():
    switch = b"\xfecaching_sha2_password\0" + b"s" * 20 + b"\0"
    async with playing(
        packet(2, switch), packet(4, my_error(1045)), first=packet(0, GREETING)
    ) as server:
        result = await ask("mysql", server.port)
    assert (result.passed, result.output) == (True, "MySQL answers")
    assert server.heard.endswith(b"\0\0\0\x03")


async def test_a_mysql_that_takes_nobody_does_not_pass():
    full = packet(0, b"\xff\x10\x04Too many connections")
    assert await told("mysql", first=full) == (False, "MySQL has too many connections")
    locked = packet(0, b"\xff" + (1129).to_bytes(2, "little") + b"Host is blocked")
    assert (await told("mysql", first=locked))[1].startswith("MySQL has locked this host out")


async def test_whoever_is_let_into_mysql_says_goodbye():
    async with playing(packet(2, b"\0\0\0\x02\0\0\0"), first=packet(0, GREETING)) as server:
        assert (await ask("mysql", server.port)).passed
    assert server.heard.endswith(b"\x01\0\0\0\x01")


# --- amqp ------------------------------------------------------------------------------------------


async def test_the_answer_of_an_amqp_broker():
    start = b"\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x0ePLAIN AMQPLAIN\0\0\0\x05en_US"
    frame = struct.pack("!BHI", 1, 0, len(start)) + start + b"\xce"
    assert await told("amqp", frame) == (True, "AMQP broker answers")
    assert await told("amqp", b"AMQP\0\x01\0\0") == (
        False,
        "the broker speaks another version of AMQP than 0-9-1",
    )


# --- mongodb ---------------------------------------------------------------------------------------


def hello(ok: float, answers: int = 0x4C494354) -> bytes:
    fields = b"\x08isWritablePrimary\0\x01" + b"\x10maxWireVersion\0\x15\0\0\0"
    fields += b"\x01ok\0" + struct.pack("<d", ok)
    bson = struct.pack("<i", len(fields) + 5) + fields + b"\0"
    body = struct.pack("<IB", 0, 0) + bson
    return struct.pack("<iiii", len(body) + 16, 7, answers, 2013) + body


async def test_the_answer_of_mongodb():
    async with playing(hello(1.0)) as server:
        result = await ask("mongodb", server.port)
    assert (result.passed, result.output) == (True, "MongoDB answers")
    assert server.heard == mongodb.request()
    assert await told("mongodb", hello(0.0)) == (False, "MongoDB refuses to say hello")
    assert await told("mongodb", hello(1.0, answers=3)) == (False, "the answer is not MongoDB")


# --- grpc ------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + body


SETTINGS = frame(4, 0, 0, b"\0\4\0\x40\0\0") + frame(4, 1, 0) + frame(6, 0, 0, b"12345678")
HEADERS = frame(1, 4, 1, b"\x88\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64")
TRAILERS = frame(1, 5, 1, b"\x40\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f\x01\x30")


def health(*message: int) -> bytes:
    body = b"\0" + len(message).to_bytes(4, "big") + bytes(message)
    return SETTINGS + HEADERS + frame(0, 0, 1, body) + TRAILERS


@pytest.mark.parametrize(
    ("answer", "passed", "output"),
    [
        (health(8, 1), True, "gRPC health: serving"),
        (health(8, 2), False, "gRPC health: not serving"),
        (health(), False, "gRPC health: unknown"),
        (SETTINGS + TRAILERS, False, "gRPC answers, and has no health service"),
        (SETTINGS + frame(7, 0, 0, bytes(8)), False, "gRPC: the server ended the call"),
    ],
)
async def test_the_answer_of_grpc(answer, passed, output):
    assert await told("grpc", answer) == (passed, output)


async def test_a_ping_of_http2_is_answered_and_settings_are_agreed_to():
    async with playing(health(8, 1)) as server:
        await ask("grpc", server.port)
    assert server.heard.startswith(grpc.request(f"127.0.0.1:{server.port}"))
    assert frame(4, 1, 0) in server.heard
    assert frame(6, 1, 0, b"12345678") in server.heard


# --- websocket -------------------------------------------------------------------------------------


async def test_a_page_that_merely_says_101_does_not_pass():
    switch = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"
    assert await told("websocket", switch) == (
        False,
        "the handshake is answered with a wrong key",
    )


async def test_a_web_server_without_websockets_does_not_pass():
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    assert await told("websocket", page) == (
        False,
        "the handshake is answered with HTTP status 404, not 101",
    )
