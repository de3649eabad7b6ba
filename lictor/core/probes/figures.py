"""What a service tells of itself in Prometheus' text form: read once, within a second.

Only a few figures of known model servers are looked for, wherever several series have one name their
sum. A service that does not answer, or says something else, told nothing. This never judges.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.progress import Work

_WITHIN = 1.0  # seconds a service has to tell its figures
_MOST = 1 << 20  # bytes of figures that are read
_SERIES = re.compile(
    rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?\s+([0-9.eE+-]+)(?:\s+\d+)?\s*$", re.MULTILINE
)

#: Requests that are answered just now: vLLM, llama.cpp, SGLang.
RUNNING = frozenset(
    {b"vllm:num_requests_running", b"llamacpp:requests_processing", b"sglang:num_running_reqs"}
)
#: Requests that wait for their turn.
WAITING = frozenset(
    {b"vllm:num_requests_waiting", b"llamacpp:requests_deferred", b"sglang:num_queue_reqs"}
)
#: What grows while they work: tokens read and written.
DONE = frozenset(
    {
        *(b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total"),
        *(b"llamacpp:prompt_tokens_total", b"llamacpp:tokens_predicted_total"),
        *(b"sglang:prompt_tokens_total", b"sglang:generation_tokens_total"),
    }
)


def metrics_path(spec: ServiceSpec) -> str | None:
    """Where it tells its figures, if it does."""
    path = spec.later.get("metrics")
    return path if isinstance(path, str) and spec.port is not None else None


async def work(spec: ServiceSpec) -> Work | None:
    """Requests in flight and work done; None where it told neither."""
    text = await figures(spec)
    if text is None:
        return None
    in_flight, done = total(text, RUNNING), total(text, DONE)
    return None if in_flight is None or done is None else Work(in_flight, done)


async def figures(spec: ServiceSpec) -> bytes | None:
    """All that it tells; None when it does not answer in time or with something else."""
    path = metrics_path(spec)
    if path is None:
        return None
    try:
        async with asyncio.timeout(_WITHIN):
            return await _get(spec, path)
    except (OSError, TimeoutError, ValueError):
        return None


def total(text: bytes, names: Collection[bytes]) -> float | None:
    """The sum over all series of these names; None if there is none."""
    found = [float(value) for name, value in _SERIES.findall(text) if name in names]
    return sum(found) if found else None


async def _get(spec: ServiceSpec, path: str) -> bytes:
    """One plain GET to the service on its own address; only the port of a whole URL is looked at."""
    parts = urlsplit(path)
    host, port = spec.host, parts.port or spec.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it binds
    reader, writer = await asyncio.open_connection(host, port)
    try:
        target = parts.path or "/metrics"
        writer.write(f"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0] + b" ":
            raise ValueError("no figures")
        return body
    finally:
        writer.close()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """What it sends until it closes, up to a limit."""
    data = b""
    while len(data) < _MOST and (piece := await reader.read(_MOST)):
        data += piece
    return data
