"""The Unix socket, spoken to with real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lictor.core.errors import NoSuchService, Refused
from lictor.core.model.reason import because
from lictor.core.runtime.control import ControlServer
from lictor.core.worded import worded
from tests.support.patience import soon, until


class Desk:
    """A handler that notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict, str]] = []
        self.cut: list[str] = []

    async def handle(self, op, args, who, emit):
        self.asked.append((op, args, who))
        match op:
            case "count":
                for number in range(args["to"]):
                    await emit({"number": number})
                return {"done": True}
            case "forever":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cut.append(op)
                    raise
            case "flood":
                while True:
                    await emit({"line": "x" * 1000})
            case "unknown":
                raise NoSuchService(
                    "There is no service ghost.", hint="`lictor status` lists them."
                )
            case "held":
                held = because("order.held", service="piper")
                raise worded(Refused, held, hint=because("next.end_hold", service="piper"))
            case "bug":
                raise ValueError("a bug, not a bad request")
        return {"op": op}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def path(desk, tmp_path):
    server = ControlServer(tmp_path / "lictor.sock", desk.handle)
    await server.start()
    yield tmp_path / "lictor.sock"
    await server.close()


@contextlib.asynccontextmanager
async def connected(path):
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def say(path, raw: bytes) -> list[dict]:
    """Send raw bytes; give everything that is answered."""
    async with connected(path) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(raw)
            await writer.drain()
        lines = (await soon(reader.read())).splitlines()
        return [json.loads(line) for line in lines]


async def ask(path, op: str, **args) -> list[dict]:
    return await say(path, json.dumps({"op": op, "args": args}).encode() + b"\n")


async def test_a_request_is_answered_and_its_caller_known(path, desk):
    assert await ask(path, "status", names=["piper"]) == [{"ok": {"op": "status"}}]
    ((op, args, who),) = desk.asked
    assert (op, args) == ("status", {"names": ["piper"]})
    assert who in {"root", os.environ.get("USER", ""), str(os.getuid())} or who.isidentifier()


async def test_arguments_may_be_left_out(path, desk):
    await say(path, b'{"op": "status"}\n')
    assert desk.asked[0][1] == {}


async def test_items_come_before_the_one_answer(path):
    answers = await ask(path, "count", to=3)
    assert answers == [*({"item": {"number": n}} for n in range(3)), {"ok": {"done": True}}]


async def test_an_error_carries_code_message_hint_and_exit_code(path):
    assert await ask(path, "unknown") == [
        {
            "error": {
                "code": "service.unknown",
                "message": "There is no service ghost.",
                "hint": "`lictor status` lists them.",
                "exit_code": 4,
                "reasons": [],
                "hint_reasons": [],
            }
        }
    ]


async def test_an_error_carries_its_texts_as_codes_too(path):
    (answer,) = await ask(path, "held")
    error = answer["error"]
    assert error["message"] == "piper is held."
    assert error["reasons"] == [{"code": "order.held", "params": {"service": "piper"}}]
    assert error["hint_reasons"] == [{"code": "next.end_hold", "params": {"service": "piper"}}]


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'{"args": {}}\n',
        b'{"op": 7}\n',
        b'{"op": "down", "args": ["keep"]}\n',
        b'{"op": "down", "args": null}\n',
        b'{"op": "status", "args": {}\n',
        b"[" * 100_000 + b"\n",
        b'{"op": "' + b"x" * 300_000 + b'"}\n',
    ],
    ids=[
        *("text", "bytes", "list", "no-op", "number", "args-list", "args-null"),
        *("half", "deep", "long"),
    ],
)
async def test_what_is_no_request_is_a_usage_error_and_reaches_nobody(path, desk, raw):
    (answer,) = await say(path, raw)
    assert (answer["error"]["code"], answer["error"]["exit_code"]) == ("usage", 2)
    assert desk.asked == []
    assert await ask(path, "status")


async def test_a_fault_of_the_agent_is_not_blamed_on_the_caller(path, caplog):
    (answer,) = await ask(path, "bug")
    assert (answer["error"]["code"], answer["error"]["exit_code"]) == ("failed", 1)
    assert "a bug, not a bad request" in answer["error"]["message"]
    assert "request failed" in caplog.text


async def test_a_caller_that_hangs_up_cancels_what_it_waited_for(path, desk, caplog):
    async with connected(path) as (_, writer):
        writer.write(b'{"op": "forever"}\n')
        await until(lambda: desk.asked)
    await until(lambda: desk.cut == ["forever"])
    assert "request failed" not in caplog.text


async def test_a_caller_that_hangs_up_in_a_flood_of_answers_is_no_fault_of_ours(path, caplog):
    async with connected(path) as (reader, writer):
        writer.write(b'{"op": "flood"}\n')
        await soon(reader.readline())
    assert await ask(path, "status")
    await asyncio.sleep(0.1)
    assert "request failed" not in caplog.text


async def test_a_caller_that_says_nothing_holds_nobody_up(path):
    async with connected(path):
        assert await ask(path, "status") == [{"ok": {"op": "status"}}]


async def test_callers_are_served_at_the_same_time(path, desk):
    async with connected(path) as (_, writer):
        writer.write(b'{"op": "forever"}\n')
        await until(lambda: desk.asked)
        answers = await asyncio.gather(*(ask(path, "status") for _ in range(20)))
        assert answers == [[{"ok": {"op": "status"}}]] * 20


async def test_only_the_owner_may_reach_the_socket(path):
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_dead_agents_socket_is_replaced_and_ours_removed_at_the_end(tmp_path, desk):
    path = tmp_path / "lictor.sock"
    for _ in range(2):
        server = ControlServer(path, desk.handle)
        await server.start()
        path.rename(tmp_path / "kept")
        (tmp_path / "kept").rename(path)
        assert await ask(path, "status")
        await server.close()
        assert not path.exists()
        path.touch()


async def test_the_end_cuts_those_who_wait(tmp_path, desk):
    server = ControlServer(tmp_path / "lictor.sock", desk.handle)
    await server.start()
    async with connected(tmp_path / "lictor.sock") as (reader, writer):
        writer.write(b'{"op": "forever"}\n')
        await until(lambda: desk.asked)
        await soon(server.close())
        assert await soon(reader.read()) == b""


async def test_a_path_longer_than_a_socket_address_works_all_the_same(tmp_path, desk):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    server = ControlServer(deep / "lictor.sock", desk.handle)
    await server.start()
    short = tmp_path / "s"
    short.symlink_to(deep)
    try:
        assert (deep / "lictor.sock").is_socket()
        if len(os.fsencode(short / "lictor.sock")) < 108:
            assert await ask(short / "lictor.sock", "status")
    finally:
        await server.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_a_stranger_is_refused_by_who_the_kernel_says_he_is(desk):
    place = Path(tempfile.mkdtemp(prefix="lictor-"))
    place.chmod(0o755)
    server = ControlServer(place / "lictor.sock", desk.handle)
    await server.start()
    (place / "lictor.sock").chmod(0o666)  # as if the permissions had been loosened
    code = (
        "import os,socket\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"s=socket.socket(socket.AF_UNIX); s.connect({str(place / 'lictor.sock')!r})\n"
        "print(s.makefile().readline())"
    )
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-S", "-E", "-c", code],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert json.loads(done.stdout)["error"]["exit_code"] == 7
        assert desk.asked == []
    finally:
        await server.close()
        shutil.rmtree(place)
