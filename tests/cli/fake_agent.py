"""An agent's mouth without a body: answers the socket's protocol with prepared lines.

Each test says what the agent answers to each op: a result, an `AgentError`, a list of items with a
result (`Stream`), or raw bytes. What was asked is kept in `asked`. Run as a program
(`python -m tests.cli.fake_agent SOCKET`) it is an agent process that ends after `down`.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class AgentError:
    code: str
    message: str
    exit_code: int
    hint: str = ""
    reasons: list[dict] = field(default_factory=list)
    hint_reasons: list[dict] = field(default_factory=list)


@dataclass
class Stream:
    items: list[dict]
    ok: object = field(default_factory=dict)
    pause: float = 0.0
    hang: bool = False


@dataclass
class Raw:
    data: bytes
    hang: bool = False


class FakeAgent:
    def __init__(self, path: Path, answers: dict[str, object]) -> None:
        self.path = path
        self.answers = answers
        self.asked: list[tuple[str, dict]] = []
        self._closing = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(16)
        self._server.settimeout(0.1)
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for thread in (self._acceptor, *self._threads):
            thread.join(20)
        self._server.close()
        self.path.unlink(missing_ok=True)

    def args(self, op: str) -> dict:
        """What the last question of this op said."""
        return next(args for asked, args in reversed(self.asked) if asked == op)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            line = lines.readline()
            if not line:
                return
            request = json.loads(line)
            self.asked.append((request["op"], request["args"]))
            answer = self.answers[request["op"]]
            if callable(answer):
                answer = answer(request["args"])
            try:
                self._answer(connection, answer)
            except (BrokenPipeError, ConnectionResetError):
                return

    def _answer(self, connection: socket.socket, answer: object) -> None:
        if isinstance(answer, Raw):
            connection.sendall(answer.data)
            if answer.hang:
                self._closing.wait(15)
            return
        if isinstance(answer, AgentError):
            _send(connection, {"error": vars(answer)})
            return
        if isinstance(answer, Stream):
            for item in answer.items:
                _send(connection, {"item": item})
                time.sleep(answer.pause)
            if answer.hang:
                self._closing.wait(15)
            answer = answer.ok
        _send(connection, {"ok": answer})


def _send(connection: socket.socket, message: dict) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())


def row(name: str, phase: str = "ready", **more: object) -> dict:
    """One entry of `status`, as the agent sends it."""
    sentences = {"ready": "It runs and its health check passes.", "failed": "It ended with code 1."}
    return {
        "name": name,
        "instance": None,
        "node": "host1",
        "driver": "process",
        "desired": "running",
        "phase": phase,
        "health": "passing" if phase == "ready" else "critical",
        "sentence": sentences.get(phase, "It is as it is."),
        "reason": "test.reason",
        "reason_params": {},
        "pid": 4242 if phase == "ready" else None,
        "container_id": None,
        "address": "127.0.0.1",
        "port": 5000,
        "uptime_s": 75.5 if phase == "ready" else 0,
        "restarts": 0,
        "cpu_percent": None,
        "memory_mb": 12.0 if phase == "ready" else 0,
        "last_error": None,
        "registered": True,
        "description": "",
        "display_name": "",
    } | more


OVERVIEW = {
    "node": "host1",
    "version": "0.1.0",
    "pid": 1,
    "data_dir": "/data",
    "consul": {"address": "http://127.0.0.1:8500", "state": "ok", "sentence": "Consul answers."},
    "web": "http://127.0.0.1:7031",
    "warnings": [],
}


def _program() -> None:
    """One connection, one `down`, then the process ends."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        connection, _ = server.accept()
        with connection:
            connection.makefile("rb").readline()
            _send(connection, {"item": {"service": "piper", "phase": "stopping"}})
            _send(connection, {"ok": {}})
            time.sleep(0.3)  # an agent has things to put away
            Path(sys.argv[1]).unlink()


if __name__ == "__main__":
    _program()
