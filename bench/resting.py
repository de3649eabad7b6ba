"""What an agent asks of Consul while nothing happens, counted by a relay between the two."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from pathlib import Path

import common
from consul_server import Consul
from crowd import crowd

#: Longer than the interval of the checks: the first answer of each is news.
_SETTLE_S = 75.0
_WINDOW_S = 30.0


def report(top: Path, where: Consul, count: int) -> list[str]:
    relay = Counting(where)
    with (
        crowd("q", count) as lines,
        common.agent_over(top / "rest", relay.address, lines),
    ):
        common.until(lambda: where.passing(r"q\d+") >= 2 * count, "all are passing")
        time.sleep(_SETTLE_S)
        relay.asked.clear()
        time.sleep(_WINDOW_S)
        asked = list(relay.asked)
    relay.close()
    watches = {path.partition(b"?")[0] for path in asked if b"wait=" in path}
    return [
        f"requests a second to Consul at rest, {count} services ({len(watches)} open watches)",
        f"{len(asked) / _WINDOW_S:.2f}",
        "-",
        "-",
    ]


class Counting:
    """A relay to Consul that counts connections and the requests on them."""

    _LINE = re.compile(rb"(?:GET|PUT|POST|DELETE) (/v1/[^ ]*) HTTP/1\.1\r\n")

    def __init__(self, where: Consul) -> None:
        host, _, port = where.address.removeprefix("http://").rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                threading.Thread(target=self._relay, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(far, near, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if count:
                    self.asked += self._LINE.findall(data)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
