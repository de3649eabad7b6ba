"""The agent's other end of the line: one Unix socket, one question, its answer.

The wire is newline-delimited JSON. We send `{"op": ..., "args": {...}}`; the agent answers with any
number of `{"item": {...}}` and then exactly one `{"ok": result}` or `{"error": {code, message, hint,
exit_code, reasons, hint_reasons}}`; the last two say the texts as codes. Only the standard library is
used, because every command pays for what is imported here. Nothing in this module retries: a command
that was cut off may have been carried out.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from lictor.cli.words import say, sentence
from lictor.core.errors import AgentUnreachable, LictorError, NotPermitted

#: Seconds that an agent may be silent after a plain question.
DEADLINE = 10.0

#: Seconds between two calls of `on_tick` while the agent is silent.
TICK = 0.5

#: An answer line longer than this many bytes is not one of ours.
MAX_LINE = 64 * 1024 * 1024

#: Linux: `sun_path` has 108 bytes, the last one is NUL (unix(7)).
_LONGEST_PATH = 107

Row = dict[str, Any]


class AgentSaid(LictorError):
    """The agent understood and said no: its own code, message, hint and exit code."""

    def __init__(self, message: str, *, hint: str, code: str, exit_code: int) -> None:
        super().__init__(message, hint=hint, code=code)
        self.exit_code = exit_code


def candidates(env: Mapping[str, str]) -> list[Path]:
    """Where the agent's socket may be, best first.

    An explicit `$LICTOR_SOCKET` or `$LICTOR_DATA_DIR` is the only candidate: somebody who points at
    a test agent that is not running must never talk to the system's agent instead.
    """
    if env.get("LICTOR_SOCKET"):
        return [Path(env["LICTOR_SOCKET"])]
    if env.get("LICTOR_DATA_DIR"):
        return [Path(env["LICTOR_DATA_DIR"]) / "lictor.sock"]
    home = env.get("HOME") or str(Path("~").expanduser())
    state = env.get("XDG_STATE_HOME") or str(Path(home) / ".local" / "state")
    return [Path(state) / "lictor" / "lictor.sock", Path("/var/lib/lictor/lictor.sock")]


class Agent:
    """A connection to the agent. One question may be asked on it."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock = sock
        self._path = path
        self._buffer = bytearray()
        self._pidfd = _peer_pidfd(sock)

    @classmethod
    def connect(cls, env: Mapping[str, str] | None = None, *, within: float = DEADLINE) -> Agent:
        """Connect to the first candidate that answers.

        Raises `NotPermitted` if an agent is there and we may not talk to it, `AgentUnreachable` if
        none is.
        """
        paths = candidates(os.environ if env is None else env)
        forbidden: Path | None = None
        for path in paths:
            try:
                return cls(_open(path, within), path)
            except PermissionError:
                forbidden = forbidden or path
            except (FileNotFoundError, NotADirectoryError, ConnectionError):
                continue  # nobody there, or a socket that a dead agent left
            except TimeoutError:
                raise _silent(path, within) from None
        if forbidden is not None:
            raise NotPermitted(
                say("error.socket_forbidden", path=forbidden), hint=say("hint.socket_forbidden")
            )
        looked = ", ".join(str(path) for path in paths)
        raise AgentUnreachable(say("error.no_agent", looked=looked), hint=say("hint.no_agent"))

    def ask(
        self,
        op: str,
        args: Mapping[str, object] | None = None,
        *,
        silence: float | None = DEADLINE,
        on_item: Callable[[Row], None] | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> Any:
        """Ask one question and return the answer's `ok`.

        `silence` is how many seconds may pass without a line (None: for ever). `on_item` gets each
        item; `on_tick` is called about twice a second while the agent says nothing.
        """
        request = json.dumps({"op": op, "args": dict(args or {})}) + "\n"
        try:
            self._sock.settimeout(DEADLINE)
            self._sock.sendall(request.encode())
        except TimeoutError:
            raise _silent(self._path, DEADLINE) from None
        except OSError:
            raise self._closed() from None
        while True:
            answer = self._answer(self._line(silence, on_tick))
            if "item" in answer:
                if on_item is not None and isinstance(answer["item"], dict):
                    on_item(answer["item"])
            elif "error" in answer:
                raise _said(answer["error"])
            else:
                return answer["ok"]

    def wait_gone(self, seconds: float) -> bool:
        """Whether the agent's process ends within so many seconds.

        True at once where the kernel cannot tell (no pidfd, or an agent of another pid namespace).
        """
        if self._pidfd is None:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, line: bytes) -> Row:
        try:
            answer = json.loads(line)
        except ValueError:
            raise self._garbage() from None
        if not isinstance(answer, dict) or answer.keys().isdisjoint({"item", "ok", "error"}):
            raise self._garbage()
        return answer

    def _line(self, silence: float | None, on_tick: Callable[[], None] | None) -> bytes:
        end = None if silence is None else time.monotonic() + silence
        searched = 0
        while True:
            cut = self._buffer.find(b"\n", searched)
            if cut >= 0:
                line = bytes(self._buffer[:cut])
                del self._buffer[: cut + 1]
                return line
            searched = len(self._buffer)
            if searched > MAX_LINE:
                raise self._garbage()
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise _silent(self._path, silence or 0)
            chunk = self._receive(left if on_tick is None else min(left or TICK, TICK))
            if chunk is None:
                if on_tick is not None:
                    on_tick()
            elif not chunk:
                raise self._closed()
            else:
                self._buffer += chunk

    def _receive(self, seconds: float | None) -> bytes | None:
        """Some bytes, b"" at the end of the line, None if nothing came in time."""
        self._sock.settimeout(seconds)
        try:
            return self._sock.recv(1 << 18)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""

    def _closed(self) -> AgentUnreachable:
        return AgentUnreachable(
            say("error.agent_closed", path=self._path),
            hint=say("hint.agent_closed"),
            code="agent.closed",
        )

    def _garbage(self) -> AgentUnreachable:
        return AgentUnreachable(
            say("error.agent_garbage", path=self._path),
            hint=say("hint.agent_garbage"),
            code="agent.garbage",
        )


def ask(
    op: str,
    args: Mapping[str, object] | None = None,
    *,
    silence: float | None = DEADLINE,
    on_item: Callable[[Row], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Any:
    """Connect, ask one question (see `Agent.ask`), hang up."""
    with Agent.connect(within=DEADLINE if silence is None else min(silence, DEADLINE)) as agent:
        return agent.ask(op, args, silence=silence, on_item=on_item, on_tick=on_tick)


def ask_rows(op: str, args: Mapping[str, object] | None = None, **how: Any) -> list[Row]:
    """Ask a question whose answer is a list of objects."""
    return rows_of(ask(op, args, **how))


def ask_object(op: str, args: Mapping[str, object] | None = None, **how: Any) -> Row:
    """Ask a question whose answer is one object."""
    answer = ask(op, args, **how)
    if not isinstance(answer, dict):
        raise _misfit()
    return answer


def rows_of(answer: object) -> list[Row]:
    """The answer as the list of objects that it must be; raises `AgentUnreachable` otherwise."""
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise _misfit()
    return answer


def no_agent(error: AgentUnreachable) -> bool:
    """Whether the error says that no agent runs (and not that one is mute or speaks garbage)."""
    return error.code == AgentUnreachable.code


def _misfit() -> AgentUnreachable:
    return AgentUnreachable(
        say("error.agent_misfit"), hint=say("hint.agent_garbage"), code="agent.garbage"
    )


def _silent(path: Path, seconds: float) -> AgentUnreachable:
    return AgentUnreachable(
        say("error.agent_silent", path=path, seconds=seconds),
        hint=say("hint.agent_silent"),
        code="agent.silent",
    )


def _said(error: object) -> AgentSaid:
    told = error if isinstance(error, dict) else {"message": str(error)}
    exit_code = told.get("exit_code")
    valid = isinstance(exit_code, int) and not isinstance(exit_code, bool) and 0 < exit_code < 256
    return AgentSaid(
        sentence({**told, "sentence": told.get("message")}) or str(told.get("code") or "error"),
        hint=sentence({"sentence": told.get("hint"), "reasons": told.get("hint_reasons")}),
        code=str(told.get("code") or "error"),
        exit_code=exit_code if valid and isinstance(exit_code, int) else 1,
    )


def _open(path: Path, within: float) -> socket.socket:
    """Connect to `path`; a full queue of the agent counts as silence."""
    end = time.monotonic() + within
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(max(0.01, end - time.monotonic()))
        try:
            _connect(sock, path)
        except BlockingIOError:  # EAGAIN: the backlog is full (unix(7))
            sock.close()
            if time.monotonic() >= end:
                raise TimeoutError from None
            time.sleep(0.05)
        except BaseException:
            sock.close()
            raise
        else:
            return sock


def _connect(sock: socket.socket, path: Path) -> None:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        sock.connect(str(path))
        return
    # A deep data_dir does not fit into `sun_path`; its directory's descriptor makes it short.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _peer_pidfd(sock: socket.socket) -> int | None:
    """A descriptor of the process at the other end, so that its end can be awaited."""
    size = struct.calcsize("3i")
    with contextlib.suppress(OSError):
        pid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
        if pid > 0:
            return os.pidfd_open(pid)
    return None
