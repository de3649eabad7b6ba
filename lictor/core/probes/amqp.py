"""The `amqp` check: the protocol header, answered by Connection.Start (AMQP 0-9-1, as RabbitMQ).

Source: AMQP 0-9-1 specification, section 4.2.2. A broker of another version answers with the header
that it understands: it is told, and does not pass.
"""

from __future__ import annotations

import asyncio
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_HEADER = b"AMQP\0\0\x09\x01"
_METHOD, _CONNECTION, _START = 1, 10, 10


async def probe_amqp(spec: ProbeSpec) -> ProbeResult:
    """Offer AMQP 0-9-1 to `spec.target`."""
    return await converse(spec, "AMQP", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(_HEADER)
    await writer.drain()
    head = await reader.readexactly(7)
    if head.startswith(b"AMQP"):
        raise NotWell("the broker speaks another version of AMQP than 0-9-1")
    kind, channel, size = struct.unpack("!BHI", head)
    if kind != _METHOD or channel != 0 or size < 4:
        raise Foreign
    if struct.unpack("!HH", (await block_of(reader, size))[:4]) != (_CONNECTION, _START):
        raise Foreign
    return "AMQP broker answers"
