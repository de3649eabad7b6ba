"""Probes against programs that answer badly: a short true line, in time, and never a wrong pass."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.prober import LictorProber
from tests.support.children import alive, child, eventually, free_port, open_fds, text_of

Serve = Callable[..., int]


@pytest.fixture
async def prober():
    made = LictorProber()
    yield made
    await made.close()


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The children of `serve`, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture
def serve(running) -> Serve:
    """Run a bad child on a free port; returns the port once it is open."""

    def start(name: str, **options: object) -> int:
        port = free_port()
        running.append(subprocess.Popen(child(name, port=port, **options)))
        wait_open(port)
        return port

    return start


def is_open(port: int) -> bool:
    # Looked up in the kernel's table: a connection would be one of those the child answers badly.
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def wait_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while not is_open(port):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def http(port: int, *, timeout: float = 5.0, path: str = "/") -> ProbeSpec:
    return ProbeSpec("http", f"http://127.0.0.1:{port}{path}", timeout=timeout)


async def ask_bad(prober: LictorProber, port: int) -> ProbeResult:
    begun = time.monotonic()
    result = await prober.probe(http(port, timeout=0.5))
    assert time.monotonic() - begun < 10
    return result


async def test_a_service_that_answers_200_passes_and_the_time_is_told(prober, serve):
    result = await prober.probe(http(serve("good")))
    assert (result.passed, result.output) == (True, "200 OK")
    assert 0 < result.took < 5


@pytest.mark.parametrize(
    ("name", "options", "output"),
    [
        ("health-500", {}, "500 Internal Server Error"),
        ("slow-health", {"seconds": 30}, "no answer within 0.5 s"),
        ("hang-accept", {}, "no answer within 0.5 s"),
        ("half-answer", {}, "no answer within 0.5 s"),
    ],
)
async def test_a_bad_answer_fails_in_time_with_its_reason(prober, serve, name, options, output):
    result = await ask_bad(prober, serve(name, **options))
    assert (result.passed, result.output) == (False, output)


async def test_an_endless_answer_is_read_to_a_limit_only(prober, serve):
    result = await prober.probe(http(serve("endless-answer", count=1024)))
    assert (result.passed, result.output) == (True, "200 OK")
    assert result.took < 5


async def test_a_redirect_is_told_and_never_followed(prober, serve, tmp_path):
    good = serve("good")
    port = serve("redirect-health", file=f"http://127.0.0.1:{good}/")
    result = await prober.probe(http(port))
    assert (result.passed, result.output) == (False, "302 Found: a redirect is not followed")


async def test_nobody_on_the_port_is_a_refused_connection(prober):
    result = await prober.probe(http(free_port()))
    assert (result.passed, result.output) == (False, "connection refused")
    result = await prober.probe(ProbeSpec("tcp", f"127.0.0.1:{free_port()}"))
    assert (result.passed, result.output) == (False, "TCP connect: connection refused")


async def test_a_port_that_closes_later_is_noticed(prober, serve, running):
    port = serve("close-port", seconds=60)
    assert (await prober.probe(http(port))).passed
    running[-1].send_signal(signal.SIGUSR1)
    await eventually(lambda: not is_open(port))
    assert (await prober.probe(http(port))).output == "connection refused"


async def answering(data: bytes) -> asyncio.Server:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(reply, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("data", "passed", "output"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, "204 No Content"),
        (b"HTTP/1.1 503 Fine\r\nContent-Length: 0\r\n\r\n", False, "503 Service Unavailable"),
        (b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n", False, "599"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", False, "the answer ended half-way"),
        (b"", False, "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9\r\n", False, "the answer is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            True,
            "200 OK",
        ),
    ],
)
async def test_each_kind_of_answer_has_its_words(prober, data, passed, output):
    async with await answering(data) as server:
        port = server.sockets[0].getsockname()[1]
        result = await prober.probe(http(port))
    assert (result.passed, result.output) == (passed, output)


async def test_no_cookie_is_kept_and_no_proxy_of_the_environment_is_used(prober, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    heard: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await prober.probe(http(port))).passed
        assert (await prober.probe(http(port))).passed
    assert len(heard) == 2
    assert b"cookie" not in heard[1].lower()


@pytest.mark.parametrize("target", ["not a url", "http://", "ftp://127.0.0.1/", "http://[::1"])
async def test_what_is_no_url_fails_with_a_sentence(prober, target):
    result = await prober.probe(ProbeSpec("http", target, timeout=2))
    assert not result.passed
    assert result.output


async def test_a_name_that_does_not_resolve_fails(prober):
    result = await prober.probe(ProbeSpec("http", "http://no-such-host.invalid/", timeout=5))
    assert not result.passed
    assert result.output


async def test_tcp_passes_when_somebody_listens(prober, serve):
    port = serve("hang-accept")
    result = await prober.probe(ProbeSpec("tcp", f"127.0.0.1:{port}"))
    assert (result.passed, result.output) == (True, "TCP connect: ok")


@pytest.mark.parametrize("target", ["", "localhost", "127.0.0.1:x", "127.0.0.1:0", "a:70000"])
async def test_tcp_needs_a_host_and_a_port(prober, target):
    result = await prober.probe(ProbeSpec("tcp", target))
    assert (result.passed, result.output) == (False, f"{target!r} is not host:port")


async def test_a_kind_nobody_knows_fails_and_is_named(prober):
    result = await prober.probe(ProbeSpec("quan\x1btum", "x"))
    assert (result.passed, result.output) == (False, "unknown kind of check: quan\\x1btum")


async def test_more_kinds_can_be_added_and_may_fail_as_they_like():
    async def odd(spec: ProbeSpec) -> ProbeResult:
        raise RuntimeError(f"no {spec.target}\nat all")

    prober = LictorProber({"odd": odd})
    result = await prober.probe(ProbeSpec("odd", "luck"))
    assert (result.passed, result.output) == (
        False,
        "the check itself failed: RuntimeError: no luck",
    )
    await prober.close()


def command(*argv: str, timeout: float = 10.0) -> ProbeSpec:
    return ProbeSpec("command", argv=argv, timeout=timeout)


@pytest.mark.parametrize(
    ("argv", "passed", "output"),
    [
        (("true",), True, "exit status 0"),
        (("sh", "-c", "echo fine; echo more"), True, "fine"),
        (("sh", "-c", "echo 'no db' >&2; exit 3"), False, "exit status 3: no db"),
        (("sh", "-c", "kill -9 $$"), False, "ended by signal 9"),
        (("sh", "-c", r"printf '\033[31mred'"), True, "\\x1b[31mred"),
        (("no-such-check",), False, "no-such-check: No such file or directory"),
        (("echo", "a\0b"), False, "echo: embedded null byte"),
        ((), False, "there is no command to run"),
        (("sh", "-c", "echo $CONSUL_HTTP_TOKEN-"), True, "-"),
    ],
)
async def test_a_command_passes_with_status_0_and_its_first_line_says_why(
    prober, monkeypatch, argv, passed, output
):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "secret")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    before = open_fds()
    result = await prober.probe(command(*argv))
    assert (result.passed, result.output) == (passed, output)
    assert open_fds() == before


async def test_a_command_that_takes_too_long_is_killed_with_its_children(prober, tmp_path):
    said = tmp_path / "said"
    argv = ("sh", "-c", f"trap '' TERM; sleep 60 & echo $$ $! > {said}; wait")
    result = await prober.probe(command(*argv, timeout=1))
    assert (result.passed, result.output) == (False, "no end within 1 s")
    await eventually(lambda: not any(alive(int(pid)) for pid in text_of(said).split()))
    assert text_of(said)


async def test_a_command_that_says_too_much_is_neither_held_up_nor_kept(prober):
    result = await prober.probe(command("sh", "-c", "yes | head -c 5000000; echo end"))
    assert (result.passed, result.output) == (True, "y")
    result = await prober.probe(command("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"))
    assert result.passed
    assert len(result.output) == 200


async def test_a_child_that_keeps_the_output_open_does_not_hold_the_probe(prober, tmp_path):
    said = tmp_path / "said"
    result = await prober.probe(command("sh", "-c", f"sleep 60 & echo $! > {said}; echo ok"))
    assert (result.passed, result.output) == (True, "ok")
    await eventually(lambda: not alive(int(text_of(said))))


async def test_a_cancelled_command_is_killed(prober, tmp_path):
    said = tmp_path / "said"
    task = asyncio.create_task(
        prober.probe(command("sh", "-c", f"echo $$ > {said}; exec sleep 60"))
    )
    await eventually(lambda: text_of(said))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(int(text_of(said)))


async def test_a_prober_can_be_used_after_it_was_closed(serve):
    prober, port = LictorProber(), serve("good")
    for _ in range(2):
        assert (await prober.probe(http(port))).passed
        await prober.close()


def test_the_http_library_is_not_loaded_before_it_is_needed():
    code = (
        "import sys, lictor.core.probes.prober; "
        "print([n for n in ('aiohttp', 'psutil') if n in sys.modules])"
    )
    env = {"PATH": os.environ["PATH"]}
    import sys

    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert done.stdout == b"[]\n"
