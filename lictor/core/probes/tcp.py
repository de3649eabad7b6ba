"""A probe that connects: the port accepts, and that is all it knows.

A TCP connection is accepted by the kernel before the program looks, so a pass means that somebody
listens, not that he answers. Nothing is ever sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult


def split_address(target: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises `ValueError` with a sentence."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{target!r} is not host:port")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def failure_words(error: OSError) -> str:
    """What the system says about a connection, without the address and the class name."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


async def probe_tcp(spec: ProbeSpec) -> ProbeResult:
    """Connect to `spec.target` and close again."""
    try:
        host, port = split_address(spec.target)
    except ValueError as error:
        return ProbeResult(passed=False, output=str(error))
    try:
        async with asyncio.timeout(spec.timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return ProbeResult(passed=False, output=f"no connection within {spec.timeout:g} s")
    except OSError as error:
        return ProbeResult(passed=False, output=f"TCP connect: {failure_words(error)}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ProbeResult(passed=True, output="TCP connect: ok")
