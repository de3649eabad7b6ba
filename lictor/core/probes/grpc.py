"""The `grpc` check: `grpc.health.v1.Health/Check` for the whole server.

The few frames of HTTP/2 that one call takes are written here, because a gRPC library is larger than
Lictor: preface, settings, one request with plain (never compressed) headers, and of the answer only
the frame types and the message. Sources: RFC 9113, RFC 7541, gRPC over HTTP/2, the health protocol.
"""

from __future__ import annotations

import asyncio
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_STREAM = 1
_EMPTY_MESSAGE = b"\0\0\0\0\0"  # not compressed, length 0: HealthCheckRequest{}
_STATES = {0: "unknown", 1: "serving", 2: "not serving", 3: "service unknown"}
_MOST_FRAMES = 100


async def probe_grpc(spec: ProbeSpec) -> ProbeResult:
    """Ask the health service of `spec.target`, without TLS."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        return await _talk(reader, writer, spec.target)

    return await converse(spec, "gRPC", talk)


def request(authority: str) -> bytes:
    """Everything that the client says before it listens."""
    headers = b"".join(
        b"\0" + _text(name) + _text(value)  # literal, never indexed, no Huffman code
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
        + _frame(_DATA, _END_STREAM, _STREAM, _EMPTY_MESSAGE)
    )


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> str:
    writer.write(request(authority))
    await writer.drain()
    message = b""
    for _ in range(_MOST_FRAMES):
        kind, flags, stream, body = await _next_frame(reader)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, body))
        elif kind == _GOAWAY or (kind == _RESET and stream == _STREAM):
            raise NotWell("gRPC: the server ended the call")
        elif kind == _DATA and stream == _STREAM:
            message += body
        if stream == _STREAM and kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            break
    return _judge(message)


def _judge(message: bytes) -> str:
    """A HealthCheckResponse: field 1, a varint (absent when it is 0)."""
    if not message:
        raise NotWell("gRPC answers, and has no health service")
    if len(message) < 5 or message[0] != 0:
        raise Foreign
    body = message[5 : 5 + int.from_bytes(message[1:5], "big")]
    status = body[1] if body[:1] == b"\x08" and len(body) > 1 else 0
    if status != 1:
        raise NotWell(f"gRPC health: {_STATES.get(status, status)}")
    return "gRPC health: serving"


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    head = await reader.readexactly(9)
    kind, flags, stream = struct.unpack("!BBI", head[3:])
    body = await block_of(reader, int.from_bytes(head[:3], "big"))
    return kind, flags, stream & 0x7FFFFFFF, body


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + body


def _text(text: str) -> bytes:
    """A string literal of HPACK: its length in seven bits (ours are all shorter than 127)."""
    raw = text.encode("ascii", "replace")[:126]
    return bytes([len(raw)]) + raw
