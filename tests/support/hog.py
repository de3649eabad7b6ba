"""A program that keeps every connection that a Consul would still take from this host.

It exists because Consul resets whoever comes after the last one (`http_max_conns_per_client`, 200 by
default) without an answer: one greedy client locks everybody on its host out. It asks nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.support.consul import ConsulServer


class Hog:
    """Takes each free connection of `server` while the `with` block runs. `lines`: those it has.

    The block ends when Consul has noticed that each of them is free again: it counts a connection
    until it has read its end, and refuses others for so long.
    """

    def __init__(self, server: ConsulServer) -> None:
        self._to = (server.address, server.http_port)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lines: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(20)
        for line in self.lines:
            with contextlib.suppress(OSError), line:
                line.settimeout(20)
                line.shutdown(socket.SHUT_WR)
                line.recv(1)

    def _run(self) -> None:
        while not self._end.wait(0.01):
            with contextlib.suppress(OSError):
                line = socket.create_connection(self._to, timeout=5)
                if self._end.wait(0.03) or not _open(line):
                    line.close()  # it was one too many
                    self._end.wait(0.1)
                else:
                    self.lines.append(line)


def _open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
