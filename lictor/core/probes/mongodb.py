"""The `mongodb` check: the command `hello` in an OP_MSG, as every driver begins.

It needs no login. A server that says `ok: 1` serves; one without a primary still serves reads and
passes. Source: MongoDB wire protocol, "OP_MSG"; BSON specification 1.1.
"""

from __future__ import annotations

import asyncio
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_OP_MSG, _OURS = 2013, 0x4C494354
_DOCUMENT = b"\x10hello\0\x01\0\0\0" + b"\x02$db\0\x06\0\0\0admin\0"
#: `ok` as a double, as servers send it.
_OK = b"\x01ok\0"


def request() -> bytes:
    """The whole message: header, no flags, one section with `{hello: 1, $db: "admin"}`."""
    bson = struct.pack("<i", len(_DOCUMENT) + 5) + _DOCUMENT + b"\0"
    body = struct.pack("<IB", 0, 0) + bson
    return struct.pack("<iiii", len(body) + 16, _OURS, 0, _OP_MSG) + body


async def probe_mongodb(spec: ProbeSpec) -> ProbeResult:
    """Say hello to `spec.target`."""
    return await converse(spec, "MongoDB", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(request())
    await writer.drain()
    size, _, answers, kind = struct.unpack("<iiii", await reader.readexactly(16))
    if answers != _OURS or kind != _OP_MSG:
        raise Foreign
    _, _, document = (await block_of(reader, size - 16)).rpartition(_OK)
    if len(document) < 8:
        raise Foreign
    (ok,) = struct.unpack("<d", document[:8])
    if ok != 1.0:
        raise NotWell("MongoDB refuses to say hello")
    return "MongoDB answers"
