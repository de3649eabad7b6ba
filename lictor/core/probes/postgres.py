"""The `postgres` check: the server's own start-up conversation, up to its first answer.

Like `pg_isready`: SSLRequest, TLS if it is offered (the certificate is not looked at, because
nothing secret is said), then a StartupMessage. Whether the server asks for a password, lets us in or
refuses this user, it serves; "starting up", "shutting down" and "too many clients" are its own error
codes and do not pass. Source: PostgreSQL documentation, "Message Flow" and "Error Codes".
"""

from __future__ import annotations

import asyncio
import ssl
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_PROTOCOL_3 = 196608
_TERMINATE = b"X\x00\x00\x00\x04"
_CANNOT_SERVE = {
    "57P01": "PostgreSQL is shutting down",
    "57P03": "PostgreSQL takes no connections now: it is starting, stopping or recovering",
    "53300": "PostgreSQL has too many connections",
    "53200": "PostgreSQL is out of memory",
    "53100": "PostgreSQL's disk is full",
}


async def probe_postgres(spec: ProbeSpec) -> ProbeResult:
    """Ask `spec.target` to begin a session, and end it at the first answer."""
    return await converse(spec, "PostgreSQL", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(_SSL_REQUEST)
    await writer.drain()
    offer = await reader.readexactly(1)
    if offer == b"S":
        await writer.start_tls(_any_certificate())
    elif offer != b"N":
        raise Foreign
    writer.write(_startup())
    await writer.drain()
    kind, size = struct.unpack("!cI", await reader.readexactly(5))
    if kind not in {b"R", b"E"}:
        raise Foreign
    body = await block_of(reader, size - 4)
    if kind == b"E":
        return _refusal(body)
    (method,) = struct.unpack("!I", body[:4].rjust(4, b"\0"))
    if method == 0:
        writer.write(_TERMINATE)  # it let us in: leave by the door, so that its log stays quiet
        await writer.drain()
    return "PostgreSQL answers"


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _startup() -> bytes:
    # `postgres` exists nearly everywhere, and a role that does not would fill the server's log.
    pairs = {"user": "postgres", "database": "postgres", "application_name": "lictor-health"}
    text = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items()) + b"\0"
    return struct.pack("!II", len(text) + 8, _PROTOCOL_3) + text


def _refusal(body: bytes) -> str:
    """An ErrorResponse: fields of a letter and a text; `C` is the SQLSTATE."""
    fields = {part[:1]: part[1:] for part in body.split(b"\0") if part}
    code = fields.get(b"C", b"").decode("ascii", "replace")
    if len(code) != 5:
        raise Foreign
    if code in _CANNOT_SERVE:
        raise NotWell(_CANNOT_SERVE[code])
    if code[:2] in {"28", "3D", "42"}:  # who we are, or which database: it serves others
        return "PostgreSQL answers"
    raise NotWell(f"PostgreSQL answers with the error {code}")
