"""`lictor users|token|dashboard`: what is asked of the agent, and what a person or a script sees."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.cli.terminal import DEADLINE

ANNA = {
    "name": "anna",
    "role": "user",
    "disabled": False,
    "created": 1_800_000_000.0,
    "password_changed": 1_800_000_000.0,
}
TOKEN = {
    "id": "0123456789ab",
    "name": "ci",
    "user": None,
    "role": "admin",
    "only": None,
    "created": 1_800_000_000.0,
    "expires": None,
    "used": None,
}


def asked(fake) -> dict:
    return fake.asked[-1][1]


def test_users_are_listed_for_people_and_for_programs(agent, run):
    agent(**{"users.list": [ANNA, {**ANNA, "name": "boris", "disabled": True}]})
    done = run("users", "list", env={"TZ": "UTC"})
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", "anna", "boris"]
    assert "shut out" in done.stdout
    assert json.loads(run("users", "list", "-o", "json").stdout)[0] == ANNA


def test_a_made_up_password_is_said_once_and_not_on_stdout(agent, run):
    agent(**{"users.create": {**ANNA, "password": "made-up-one"}})
    done = run("users", "create", "anna")
    assert "made-up-one" not in done.stdout
    assert "made-up-one" in done.stderr


def test_what_a_token_prints_is_its_text_alone(agent, run):
    fake = agent(**{"tokens.create": {**TOKEN, "token": "lictor_x_y"}})
    done = run("token", "create", "ci", "--only", "metrics", "--only", "logs", "--lasts", "90d")
    assert done.stdout == "lictor_x_y\n"
    assert done.stderr
    assert asked(fake)["only"] == ["metrics", "logs"]
    assert asked(fake)["lasts"] == 90 * 86_400


def test_the_dashboards_link_is_alone_on_stdout(agent, run):
    answer = {"url": "http://127.0.0.1:1/#link=s", "user": "admin", "expires_in": 300}
    agent(dashboard=answer)
    done = run("dashboard")
    assert done.stdout == "http://127.0.0.1:1/#link=s\n"
    assert "5 min" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["users"],
        ["users", "create"],
        ["users", "set-role", "anna", "root"],
        ["users", "create", "anna", "hunter2"],
        ["token", "create", "ci", "--user", "a", "--role", "user"],
        ["token", "create", "ci", "--lasts", "soon"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_a_usage_error(agent, run, words):
    fake = agent()
    assert run(*words).returncode == 2
    assert fake.asked == []


def typed(env: dict[str, str], *args: str, lines: list[str]) -> tuple[int, str]:
    """Run on a terminal, and type each line when something was asked; what was shown comes back."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lictor", *args], stdin=inner, stdout=inner, stderr=inner, env=env
    )
    os.close(inner)
    shown, left, end = b"", list(lines), time.monotonic() + DEADLINE
    try:
        while time.monotonic() < end:
            if not select.select([outer], [], [], 0.5)[0]:
                continue
            try:
                shown += os.read(outer, 4096)
            except OSError:  # EIO: the other end is closed
                break
            if left and shown.endswith(b": "):
                os.write(outer, left.pop(0).encode() + b"\n")
        return process.wait(DEADLINE), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(outer)


def test_a_password_is_asked_for_twice_and_not_shown(agent, env):
    fake = agent(**{"users.passwd": ANNA})
    code, shown = typed(env, "users", "passwd", "anna", lines=["hunter2-hunter2"] * 2)
    assert code == 0, shown
    assert asked(fake) == {"name": "anna", "password": "hunter2-hunter2"}
    assert "hunter2" not in shown


def test_two_passwords_that_differ_change_nothing(agent, env):
    fake = agent(**{"users.passwd": ANNA})
    code, shown = typed(env, "users", "passwd", "anna", lines=["hunter2-hunter2", "hunter3"])
    assert code == 2, shown
    assert fake.asked == []
