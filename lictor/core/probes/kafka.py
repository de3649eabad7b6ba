"""The `kafka` check: ApiVersions, the first request of every Kafka client.

Version 0 of it is understood by every broker since 0.10 and needs no login. The answer is tied to
our question by its correlation id, so an echo server does not pass. Source: Apache Kafka protocol
guide, "ApiVersions". Topics and consumer groups are not looked at.
"""

from __future__ import annotations

import asyncio
import struct

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, block_of, converse

_API_VERSIONS, _VERSION, _OURS = 18, 0, 0x4C494354  # "LICT"
_CLIENT = b"lictor-health"
#: A broker knows at least Produce, Fetch, ListOffsets, Metadata and ApiVersions.
_FEWEST = 5


def request() -> bytes:
    """The whole request: size, then header version 1 without a body."""
    head = struct.pack("!hhih", _API_VERSIONS, _VERSION, _OURS, len(_CLIENT)) + _CLIENT
    return struct.pack("!i", len(head)) + head


async def probe_kafka(spec: ProbeSpec) -> ProbeResult:
    """Ask `spec.target` which requests it understands."""
    return await converse(spec, "Kafka", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(request())
    await writer.drain()
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    if size < 10:
        raise Foreign
    correlation, error, count = struct.unpack("!ihi", (await block_of(reader, size))[:10])
    if correlation != _OURS:
        raise Foreign
    if error:
        raise NotWell(f"Kafka answers with the error {error}")
    if count < _FEWEST or size < 10 + 6 * count:
        raise Foreign
    return f"Kafka answers: it understands {count} kinds of request"
