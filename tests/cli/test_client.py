"""The line to the agent: which socket, and what happens when the other end misbehaves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lictor.cli import client
from lictor.core.errors import AgentUnreachable
from tests.cli.fake_agent import AgentError, FakeAgent, Raw, Stream, row


def test_an_explicit_socket_is_the_only_candidate():
    env = {"LICTOR_SOCKET": "/s", "LICTOR_DATA_DIR": "/d", "HOME": "/h"}
    assert client.candidates(env) == [Path("/s")]


def test_an_explicit_data_dir_hides_the_other_agents_of_the_host():
    assert client.candidates({"LICTOR_DATA_DIR": "/d", "HOME": "/h"}) == [Path("/d/lictor.sock")]


def test_without_a_word_the_users_socket_comes_before_the_systems():
    assert client.candidates({"HOME": "/h"}) == [
        Path("/h/.local/state/lictor/lictor.sock"),
        Path("/var/lib/lictor/lictor.sock"),
    ]
    assert client.candidates({"HOME": "/h", "XDG_STATE_HOME": "/x"})[0] == Path(
        "/x/lictor/lictor.sock"
    )


def test_a_stale_socket_is_no_agent(home, run):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "lictor.sock"))
    done = run("status")
    assert done.returncode == 5
    assert "lictor up" in done.stderr
    assert str(home) in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["status"],
        ["status", "-o", "json"],
        ["start", "piper"],
        ["stop", "piper"],
        ["restart"],
        ["wait", "piper"],
        ["logs", "piper"],
        ["health"],
        ["plan"],
        ["reload"],
        ["env"],
        ["set", "piper", "a=b"],
        ["unset", "piper"],
    ],
    ids=" ".join,
)
def test_without_an_agent_commands_exit_5_and_say_how_to_start_one(run, args):
    done = run(*args)
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.startswith("error: No agent answers")
    assert "hint: " in done.stderr


AS_NOBODY = """
import os, sys
from lictor.cli.main import run
run(["status"])  # loads everything while the interpreter's files may still be read
sys.stderr.write("--- now ---\\n")
if os.getuid() == 0:  # root may open every socket
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.environ["LICTOR_DATA_DIR"] = os.environ["FORBIDDEN"]
sys.exit(run(["status"]))
"""


def test_a_socket_that_refuses_us_is_not_permitted(home, env):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "lictor.sock"))
        server.listen()
        (home / "lictor.sock").chmod(0o600 if os.getuid() == 0 else 0)
        home.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY],
            env=env | {"LICTOR_DATA_DIR": "/nonexistent", "FORBIDDEN": str(home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 7
    said = done.stderr.split("--- now ---\n")[1]
    assert said.startswith(f"error: You may not talk to the agent at {home}/lictor.sock.\nhint: ")


def test_a_mute_agent_meets_a_deadline(agent, env, monkeypatch):
    agent(status=Raw(b"", hang=True))
    monkeypatch.setenv("LICTOR_DATA_DIR", env["LICTOR_DATA_DIR"])
    with pytest.raises(AgentUnreachable) as caught:
        client.ask("status", silence=0.3)
    assert caught.value.code == "agent.silent"


def test_an_agent_that_dribbles_without_ever_ending_a_line_meets_the_deadline(home, monkeypatch):
    monkeypatch.setenv("LICTOR_SOCKET", str(home / "s"))
    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "s"))
        server.listen()

        def dribble() -> None:
            connection, _ = server.accept()
            with connection:
                while not done.wait(0.05):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            with pytest.raises(AgentUnreachable) as caught:
                client.ask("status", silence=0.5)
        finally:
            done.set()
            thread.join()
    assert caught.value.code == "agent.silent"


def test_an_agent_that_accepts_nobody_meets_the_deadline(home):
    path = home / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        waiting = []
        for _ in range(4):  # fill the queue of the listener
            other = socket.socket(socket.AF_UNIX)
            other.setblocking(False)
            waiting.append(other)
            try:
                other.connect(str(path))
            except BlockingIOError:
                break
        else:
            pytest.fail("the queue never filled")
        began = time.monotonic()
        with pytest.raises(AgentUnreachable) as caught:
            client.Agent.connect({"LICTOR_SOCKET": str(path)}, within=0.3)
        for other in waiting:
            other.close()
    assert caught.value.code == "agent.silent"
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"[]\n", b'"ok"\n', b'{"what": 1}\n', b"\xff\xfe\n"],
)
def test_garbage_is_named_as_such_and_exits_5(agent, run, garbage):
    agent(status=Raw(garbage))
    done = run("status")
    assert done.returncode == 5
    assert "does not speak Lictor's protocol" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("cut", [b"", b'{"ok": [', b'{"item": {}}\n'])
def test_an_answer_that_is_cut_short_exits_5(agent, run, cut):
    agent(status=Raw(cut))
    done = run("status")
    assert done.returncode == 5
    assert "hung up" in done.stderr


@pytest.mark.parametrize("answer", [{}, "text", [1], None])
def test_an_answer_of_another_form_exits_5(agent, run, answer):
    agent(status=answer)
    done = run("status")
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


def test_the_agents_error_becomes_message_hint_and_exit_code(agent, run):
    agent(status=AgentError("service.unknown", "There is no service nope.", 4, "Try status."))
    done = run("status", "nope")
    assert done.returncode == 4
    assert done.stderr == "error: There is no service nope.\nhint: Try status.\n"


HELD = AgentError(
    *("held", "piper is held.", 8, "`lictor release piper` ends it."),
    reasons=[{"code": "order.held", "params": {"service": "piper"}}],
    hint_reasons=[{"code": "next.end_hold", "params": {"service": "piper"}}],
)


@pytest.mark.parametrize(
    ("language", "message", "hint"),
    [
        ("en", "error: piper is held.", "hint: `lictor release piper` ends it."),
        ("ru", "piper удерживается.", "`lictor release piper` снимает удержание."),
        ("zh", "piper 处于锁定状态。", "`lictor release piper` 可解除锁定。"),
    ],
)
def test_the_agents_error_is_told_in_the_persons_language(agent, run, language, message, hint):
    agent(status=HELD)
    first, second = run("status", env={"LICTOR_LANG": language}).stderr.splitlines()
    assert first.endswith(message)
    assert second.endswith(hint)


def test_an_error_that_this_program_cannot_say_comes_as_the_agent_wrote_it(agent, run):
    newer = [{"code": "order.of_tomorrow", "params": {}}]
    agent(status=AgentError("x", "A new error.", 1, "A new hint.", newer, newer))
    said = run("status", env={"LICTOR_LANG": "ru"}).stderr
    assert "A new error." in said
    assert "A new hint." in said


@pytest.mark.parametrize("code", [0, 256, -1, True, "5", None])
def test_an_exit_code_that_makes_no_sense_becomes_1(agent, run, code):
    agent(plan=AgentError("failed", "It failed.", code))
    assert run("plan").returncode == 1


def test_an_error_with_a_known_reason_is_said_in_the_persons_language(monkeypatch):
    monkeypatch.setenv("LICTOR_LANG", "en")
    said = client._said({"message": "English.", "reason": "no.such.reason", "exit_code": 8})
    assert (said.message, said.exit_code) == ("English.", 8)


def test_a_long_path_still_reaches_its_socket(home):
    deep = home / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    short = home / "s"
    with FakeAgent(short, {"status": [row("piper")]}):
        (deep / "lictor.sock").hardlink_to(short)
        with client.Agent.connect({"LICTOR_DATA_DIR": str(deep)}) as agent:
            assert agent.ask("status")[0]["name"] == "piper"


def test_a_large_answer_arrives_whole(agent, env, monkeypatch):
    rows = [row("piper", last_error="x" * 10_000) for _ in range(300)]
    agent(status=rows)
    monkeypatch.setenv("LICTOR_DATA_DIR", env["LICTOR_DATA_DIR"])
    assert client.ask_rows("status") == rows


def test_items_come_in_order_before_the_answer(agent, env, monkeypatch):
    agent(logs=Stream([{"line": str(i)} for i in range(50)], ok={"done": True}))
    monkeypatch.setenv("LICTOR_DATA_DIR", env["LICTOR_DATA_DIR"])
    items: list[dict] = []
    assert client.ask("logs", on_item=items.append) == {"done": True}
    assert [item["line"] for item in items] == [str(i) for i in range(50)]


def test_the_request_is_one_line_of_json(home):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "s"))
        server.listen()
        with client.Agent.connect({"LICTOR_SOCKET": str(home / "s")}) as agent:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as file:
                thread = threading.Thread(target=lambda: agent.ask("status", {"names": ["a\nb"]}))
                thread.start()
                assert json.loads(file.readline()) == {"op": "status", "args": {"names": ["a\nb"]}}
                file.write(b'{"ok": []}\n')
                file.flush()
                thread.join()
