"""One short conversation over TCP, with a limit in time, for the checks that speak a protocol.

`converse` connects, lets a function say a protocol's hello, and turns everything that can go wrong
on the way (nobody there, silence, a torn connection, an answer in another language) into one line.
A function that talks raises `NotWell` when the answer is right and means "no". Nothing a server says
is ever shown: the lines are ours, so they may go to Consul. No credential is ever sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.tcp import failure_words, split_address

Talk: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[str]]

#: The most that is read of one answer, in bytes.
LIMIT = 64 * 1024


class NotWell(Exception):
    """The server understood, and its answer means that it cannot serve; the text says why."""


class Foreign(Exception):
    """What answers speaks another protocol."""


async def converse(
    spec: ProbeSpec,
    protocol: str,
    talk: Talk,
    *,
    address: tuple[str, int] | None = None,
    tls: ssl.SSLContext | None = None,
) -> ProbeResult:
    """Connect to `spec.target` (or `address`) and `talk`: what that returns is a passing answer."""
    writer: asyncio.StreamWriter | None = None
    try:
        host, port = address or split_address(spec.target)
        async with asyncio.timeout(spec.timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=LIMIT, ssl=tls)
            said = await talk(reader, writer)
        return ProbeResult(passed=True, output=said)
    except NotWell as error:
        return _no(str(error))
    except (Foreign, asyncio.LimitOverrunError):
        return _no(f"the answer is not {protocol}")
    except asyncio.IncompleteReadError as error:
        how = "the answer ended half-way" if error.partial else "closed without an answer"
        return _no(f"{protocol}: {how}")
    except TimeoutError:
        what = "no connection" if writer is None else f"no answer in {protocol}"
        return _no(f"{what} within {spec.timeout:g} s")
    except ssl.SSLError as error:
        return _no(f"TLS: {error.reason or 'refused'}")
    except OSError as error:
        return _no(f"{protocol}: {failure_words(error)}")
    except ValueError as error:  # the target itself
        return _no(str(error))
    finally:
        if writer is not None:
            await _hang_up(writer)


async def line_of(reader: asyncio.StreamReader) -> bytes:
    """One line without its end. Raises `Foreign` if it has no end within `LIMIT`."""
    try:
        return (await reader.readuntil(b"\n")).rstrip(b"\r\n")
    except asyncio.LimitOverrunError as error:
        raise Foreign from error


async def block_of(reader: asyncio.StreamReader, size: int) -> bytes:
    """`size` bytes; a size that no hello has is a foreign protocol, and is not waited for."""
    if not 0 <= size <= LIMIT:
        raise Foreign
    return await reader.readexactly(size)


def _no(output: str) -> ProbeResult:
    return ProbeResult(passed=False, output=output)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    """Close without waiting for a peer that does not listen."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            await writer.wait_closed()
