"""The `redis` check: PING, answered by PONG (Redis serialization protocol, RESP2).

A server that asks for a password has answered too: it works, and this check has no password to
give. One that is loading its data set, or whose master is away, says so and does not pass.
"""

from __future__ import annotations

import asyncio
import re

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.dialogue import Foreign, NotWell, converse, line_of

_PING = b"*1\r\n$4\r\nPING\r\n"
_WORKS = {b"NOAUTH": "Redis answers, and wants a password", b"NOPERM": "Redis answers"}
_SAYS = {b"LOADING": "Redis is still loading its data", b"MASTERDOWN": "Redis has lost its master"}


async def probe_redis(spec: ProbeSpec) -> ProbeResult:
    """Send PING to `spec.target`."""
    return await converse(spec, "Redis", _talk)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    writer.write(_PING)
    await writer.drain()
    answer = await line_of(reader)
    if answer == b"+PONG":
        return "Redis answers PONG"
    error = re.match(rb"-([A-Z]{3,20})\b", answer)
    if error is None:
        raise Foreign
    word = error[1]
    if word in _WORKS:
        return _WORKS[word]
    raise NotWell(_SAYS.get(word, f"Redis answers with the error {word.decode()}"))
