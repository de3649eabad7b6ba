"""Many observed services at one listener: what costs Consul something, and this host nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def crowd(letter: str, count: int) -> Iterator[list[str]]:
    """Their lines for a config; the names are the letter and a number."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        port = listener.getsockname()[1]
        yield [
            f"  {letter}{number:04}: {{driver: observed, port: {20000 + number},"
            f" health: {{tcp: '127.0.0.1:{port}', interval: 60s}}}}"
            for number in range(count)
        ]
