"""Stands in for systemd: the receiver of a program's sd_notify datagrams."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.agent import PATIENCE


class NotifySocket:
    """A `$NOTIFY_SOCKET`: at a path, or abstract when `address` begins with `@`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def hear(self) -> list[dict[str, str]]:
        """Everything that was said so far, each datagram as its fields."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._socket.recv(65536).decode()
                fields = dict(line.split("=", 1) for line in text.split("\n"))
                self.heard.append((time.monotonic(), fields))
        return [fields for _, fields in self.heard]

    def wait_for(
        self, truth: Callable[[dict[str, str]], bool], *, after: int = 0, within: float = PATIENCE
    ) -> dict[str, str]:
        """The first datagram, of those after the first `after`, that is as described."""
        deadline = time.monotonic() + within
        while True:
            for fields in self.hear()[after:]:
                if truth(fields):
                    return fields
            assert time.monotonic() < deadline, f"never said; heard: {self.heard}"
            time.sleep(0.02)

    def close(self) -> None:
        self._socket.close()
        if not self.address.startswith("@"):
            Path(self.address).unlink(missing_ok=True)


def abstract_name() -> str:
    """An abstract address that nobody else uses."""
    return f"@lictor-test-{os.getpid()}-{time.monotonic_ns()}"
