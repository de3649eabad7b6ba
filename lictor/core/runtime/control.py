"""Answers the CLI on a Unix socket in data_dir, one JSON line per message.

Request: `{"op": "status", "args": {...}}`. Answer: any number of `{"item": ...}`, then exactly one
`{"ok": ...}` or `{"error": {"code", "message", "hint", "exit_code", "reasons", "hint_reasons"}}`, where
the last two are the two texts as codes. Who calls is known from the kernel (SO_PEERCRED): root, the
agent's own user and members of `socket_group` may do everything, others nothing. A caller that goes
away cancels what it was waiting for, never what it ordered.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import logging
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lictor.core.errors import LictorError, NotPermitted, OperationFailed, UsageError
from lictor.core.model.reason import because
from lictor.core.worded import record, worded

log = logging.getLogger(__name__)

_MAX_REQUEST = 256 * 1024  # bytes
_ucred = struct.Struct("3i")

Emit = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[str, dict[str, Any], str, Emit], Awaitable[Any]]


class ControlServer:
    """Listens on `path`; `handle(op, args, who, emit)` does the work."""

    def __init__(self, path: Path, handle: Handler, *, group: str | None = None) -> None:
        self._path = path
        self._handle = handle
        self._group = group
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The data_dir's lock is ours, so a socket that is there is a dead agent's."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=_bind(self._path), limit=_MAX_REQUEST
        )
        if self._group is not None:
            try:
                os.chown(self._path, -1, grp.getgrnam(self._group).gr_gid)
                self._path.chmod(0o660)
            except (KeyError, OSError) as error:
                log.warning("socket_group %s cannot be used: %s", self._group, error)

    async def close(self) -> None:
        """Stop listening; callers get a moment for their last answer, then they are cut."""
        if self._server is not None:
            self._server.close()
        if self._callers:
            await asyncio.wait(self._callers, timeout=0.3)
        for task in self._callers:
            task.cancel()
        if self._callers:
            await asyncio.wait(self._callers, timeout=1)
        self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._callers.add(task)
            task.add_done_callback(self._callers.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send(message: dict[str, Any]) -> None:
            writer.write(json.dumps(message, ensure_ascii=False, default=str).encode() + b"\n")
            await writer.drain()

        async def emit(item: dict[str, Any]) -> None:
            await send({"item": item})

        try:
            who = self._who(writer.get_extra_info("socket"))
            line = await _read_line(reader)
            if not line:
                return
            op, args = _parse(line)
            work = asyncio.ensure_future(self._handle(op, args, who, emit))
            answer = await _unless_hung_up(work, reader)
        except LictorError as error:
            await send({"error": _plain(error)})
        except (asyncio.CancelledError, ConnectionError):
            raise  # the caller went away: nobody is left to answer
        except Exception as error:
            log.exception("request failed")
            failed = because("agent.fault", error=f"{type(error).__name__}: {error}")
            fault = worded(OperationFailed, failed)
            await send({"error": _plain(fault)})
        else:
            await send({"ok": answer})

    def _who(self, connection: socket.socket) -> str:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _ucred.size)
        pid, uid, gid = _ucred.unpack(raw)
        name = _user_name(uid)
        if uid in {0, os.getuid()} or self._in_group(name, gid):
            return name
        raise worded(
            NotPermitted,
            because("agent.not_controlled_by", user=name, pid=pid),
            hint=because("next.be_root_or_member", group=self._group)
            if self._group
            else because("next.be_root"),
        )

    def _in_group(self, name: str, gid: int) -> bool:
        if self._group is None:
            return False
        try:
            entry = grp.getgrnam(self._group)
        except KeyError:
            return False
        return gid == entry.gr_gid or name in entry.gr_mem


def _bind(path: Path) -> socket.socket:
    """A listening socket at `path`, for its owner only, however deep the folder lies.

    A socket's address holds 107 bytes (unix(7)); a longer path is reached through the open folder.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
        os.close(folder)
    listener.setblocking(False)
    return listener


async def _unless_hung_up(work: asyncio.Future[Any], reader: asyncio.StreamReader) -> Any:
    """Await the work, but end it when the caller goes away (a `logs -f` that was interrupted)."""
    gone = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ConnectionResetError
        return work.result()
    finally:
        gone.cancel()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await gone


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:  # what `readline` makes of a line over the limit
        too_long = because("ask.too_long", limit=_MAX_REQUEST // 1024)
        raise worded(UsageError, too_long) from error


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise worded(UsageError, because("ask.not_json")) from error
    match request:
        case {"op": str(op), "args": dict(args)}:
            return op, args
        case {"op": str(op)} if "args" not in request:
            return op, {}
    raise worded(UsageError, because("ask.form"))


def _plain(error: LictorError) -> dict[str, Any]:
    return {**record(error), "exit_code": error.exit_code}


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
