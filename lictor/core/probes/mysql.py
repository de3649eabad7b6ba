"""The `mysql` check: the server's greeting, and a handshake that is finished.

The server speaks first. Hanging up after its greeting would count as a broken connection, and after
a hundred of those (`max_connect_errors`) it locks our host out. So the handshake is completed with a
user that has no password: being refused is an answer, and so is being let in. Source: MySQL internals
manual, "Connection Phase"; MariaDB speaks the same.
"""

from __future__ import annotations

import asyncio
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_OK, _AUTH_SWITCH, _ERROR = 0x00, 0xFE, 0xFF
#: LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
_CAPABILITIES = 0x1 | 0x200 | 0x8000 | 0x80000
_UTF8 = 33
_CANNOT_SERVE = {
    1040: "MySQL has too many connections",
    1053: "MySQL is shutting down",
    1129: "MySQL has locked this host out (max_connect_errors)",
    1130: "MySQL does not let this host connect",
}


async def probe_mysql(spec: ProbeSpec) -> ProbeResult:
    """Greet and be greeted by `spec.target`."""
    return await converse(spec, "MySQL", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    _, greeting = await _packet(reader)
    if greeting[0] == _ERROR:
        _refuse(greeting)
    if greeting[0] != 10 or b"\0" not in greeting:
        raise Foreign
    answer = struct.pack("<IIB23x", _CAPABILITIES, 1 << 24, _UTF8)
    answer += b"lictor-health\0" + b"\0" + b"mysql_native_password\0"
    number = await _say(reader, writer, 1, answer)
    if number is not None:  # it wants another method: an empty proof ends that, too
        await _say(reader, writer, number + 1, b"")
    return "MySQL answers"


async def _say(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, body: bytes
) -> int | None:
    """Send one packet; the number of the answer if the server goes on, None if it is done."""
    writer.write(len(body).to_bytes(3, "little") + bytes([number]) + body)
    await writer.drain()
    number, answer = await _packet(reader)
    if answer[0] == _ERROR:
        _refuse(answer)
    elif answer[0] == _OK:
        writer.write(b"\x01\0\0\0\x01")  # COM_QUIT
        await writer.drain()
    return number if answer[0] == _AUTH_SWITCH else None


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readexactly(4)
    body = await block_of(reader, int.from_bytes(head[:3], "little"))
    if not body:
        raise Foreign
    return head[3], body


def _refuse(packet: bytes) -> None:
    """Raise if this error means that it serves nobody; "access denied" does not mean that."""
    code = int.from_bytes(packet[1:3], "little")
    if code in _CANNOT_SERVE:
        raise NotWell(_CANNOT_SERVE[code])
    if not 1000 <= code < 5000:
        raise Foreign
