"""The `websocket` check: an opening handshake, and a close as orderly (RFC 6455).

The answer must carry the hash of our key, so a web server that merely says 101 does not pass. After
the handshake a Close frame is sent and no data: a speech server opens no session for it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
from urllib.parse import urlsplit

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, converse, line_of

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MOST_HEADERS = 100


async def probe_websocket(spec: ProbeSpec) -> ProbeResult:
    """Open and close a WebSocket at `spec.target` (ws:// or wss://)."""
    parts = urlsplit(spec.target)
    secure = parts.scheme == "wss"
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        return ProbeResult(passed=False, output=f"{spec.target!r} is not a ws:// URL")
    address = (parts.hostname, parts.port or (443 if secure else 80))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        return await _talk(reader, writer, path, parts.netloc)

    tls = ssl.create_default_context() if secure else None
    return await converse(spec, "WebSocket", talk, address=address, tls=tls)


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, host: str
) -> str:
    key = base64.b64encode(os.urandom(16))
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
        "User-Agent: lictor-health\r\n\r\n".encode()
    )
    await writer.drain()
    status, headers = await _head(reader)
    if status != 101:
        raise NotWell(f"the handshake is answered with HTTP status {status}, not 101")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    if headers.get(b"sec-websocket-accept") != base64.b64encode(digest):
        raise NotWell("the handshake is answered with a wrong key")
    writer.write(_close())
    await writer.drain()
    return "WebSocket handshake: ok"


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]]:
    words = (await line_of(reader)).split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise Foreign
    headers: dict[bytes, bytes] = {}
    for _ in range(_MOST_HEADERS):
        line = await line_of(reader)
        if not line:
            return int(words[1]), headers
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    raise Foreign


def _close() -> bytes:
    """A Close frame with the status 1000; what a client sends is masked (section 5.3)."""
    mask, status = os.urandom(4), (1000).to_bytes(2, "big")
    return b"\x88\x82" + mask + bytes(s ^ m for s, m in zip(status, mask, strict=False))
