"""`lictor up|down|reload|plan|env`, and the parts of the program itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from lictor import __version__
from lictor.cli.main import run as run_here
from tests.cli.fake_agent import AgentError, Stream
from tests.cli.terminal import at_terminal

PLAN = [
    {"action": "start", "service": "piper", "reason": "x", "sentence": "It should run."},
    {"action": "stop", "service": "stt", "reason": "y", "sentence": "Nobody wants it."},
]


def test_plan_shows_action_service_and_why(agent, run):
    agent(plan=PLAN)
    done = run("plan")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split(maxsplit=2) == ["start", "piper", "It should run."]
    assert json.loads(run("plan", "-o", "json").stdout) == PLAN


def test_an_empty_plan_is_said_on_stderr(agent, run):
    agent(plan=[])
    done = run("plan")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing to do" in done.stderr
    assert json.loads(run("plan", "-o", "json").stdout) == []


def test_reload_lists_what_changes(agent, run):
    changes = {
        "added": ["piper"],
        "removed": [],
        "restart": ["vllm@a"],
        "in_place": ["stt"],
        "agent_restart": ["web.port"],
        "notes": [{"sentence": "It runs as root."}],
    }
    agent(reload=changes)
    assert run("reload").stdout.splitlines() == [
        "added: piper",
        "restarts: vllm@a",
        "changed without a restart: stt",
        "needs a restart of the agent: web.port",
        "note: It runs as root.",
    ]
    assert json.loads(run("reload", "-o", "json").stdout) == changes


def test_reload_of_an_unchanged_config_says_so(agent, run):
    agent(reload={"added": [], "removed": []})
    done = run("reload")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing has changed" in done.stderr


def test_a_broken_config_shows_every_problem_on_its_own_line(agent, run):
    message = "config.yml:3:1: what?\nconfig.yml:9:5: who?"
    agent(reload=AgentError("config.invalid", message, 2))
    done = run("reload")
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


def test_env_is_safe_to_eval(agent, run):
    values = {"CONSUL_HTTP_ADDR": "http://h:1", "TOKEN": 'it\'s $(touch pwned) `x` "q"\nline'}
    agent(env=values)
    exports = run("env").stdout
    check = 'printf "%s\\0%s" "$CONSUL_HTTP_ADDR" "$TOKEN"'
    shell = subprocess.run(
        ["sh", "-c", f"{exports}\n{check}"], capture_output=True, text=True, check=True
    )
    assert shell.stdout.split("\0") == list(values.values())
    assert json.loads(run("env", "-o", "json").stdout) == values


def test_env_refuses_a_name_that_would_be_code(agent, run):
    agent(env={"A;rm -rf": "x"})
    done = run("env")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("words", [[], ["--keep"]])
def test_down_waits_until_the_agents_process_is_gone(home, run, env, words):
    program = [sys.executable, "-m", "tests.cli.fake_agent", str(home / "lictor.sock")]
    with subprocess.Popen(program) as process:
        deadline = time.monotonic() + 20
        while not (home / "lictor.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        done = run("down", *words)
        gone = not (home / "lictor.sock").exists()
        assert process.wait(20) == 0
    assert done.returncode == 0
    assert gone
    assert ("services go on" in done.stderr) == bool(words)
    assert "piper: ◑ stopping" in done.stderr


def test_down_without_an_agent_is_already_so(run):
    done = run("down")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No agent is running" in done.stderr


def test_down_passes_keep_on(agent, run):
    fake = agent(down=AgentError("not_permitted", "No.", 7))
    assert run("down", "--keep").returncode == 7
    assert fake.args("down") == {"keep": True}


def test_up_hands_over_to_the_composition_root(monkeypatch):
    called: list[object] = []
    wiring = ModuleType("lictor.cli.wiring")
    wiring.run_agent = lambda *args: called.append(args) or 6  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lictor.cli.wiring", wiring)
    assert run_here(["up", "-c", "my.yml", "-d"]) == 6
    assert run_here(["up"]) == 6
    assert run_here(["up", "--on-term", "keep"]) == 6
    assert called == [("my.yml", True, None), (None, False, None), (None, False, "keep")]


def test_version_is_said_in_both_ways(run):
    for words in (["--version"], ["-V"], ["version"], ["--color", "never", "--version"]):
        done = run(*words)
        assert (done.returncode, done.stdout) == (0, f"lictor {__version__}\n")
    assert json.loads(run("version", "-o", "json").stdout)["version"] == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_come_for_three_shells(run, shell):
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_LICTOR_COMPLETE" in done.stdout


def test_completion_offers_live_names_and_commands(agent, run):
    from tests.cli.fake_agent import row

    agent(status=[row("piper"), row("vllm", instance="a")])
    ask = {"_LICTOR_COMPLETE": "bash_complete"}
    names = run(env=ask | {"COMP_WORDS": "lictor start ", "COMP_CWORD": "2"}).stdout
    assert names.split() == ["plain,piper", "plain,vllm", "plain,vllm@a"]
    commands = run(env=ask | {"COMP_WORDS": "lictor sta", "COMP_CWORD": "1"}).stdout
    assert commands.split() == ["plain,status", "plain,start"]


def test_completion_without_an_agent_is_empty_and_quiet(run):
    ask = {"_LICTOR_COMPLETE": "bash_complete", "COMP_WORDS": "lictor start ", "COMP_CWORD": "2"}
    done = run(env=ask)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_every_command_has_help(run):
    from lictor.cli.app import COMMANDS

    listed = run("--help").stdout
    for name in COMMANDS:
        assert f"  {name} " in listed
    for name in ("status", "start", "config"):
        assert run(name, "-h").returncode == 0


def test_an_unexpected_error_is_one_line_and_a_traceback_only_on_request(monkeypatch, capsys):
    def explode(*_: object) -> int:
        raise RuntimeError("boom")

    wiring = ModuleType("lictor.cli.wiring")
    wiring.run_agent = explode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lictor.cli.wiring", wiring)
    monkeypatch.setenv("LICTOR_LANG", "en")
    assert run_here(["up"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: Something went wrong inside lictor (RuntimeError: boom)")
    assert "LICTOR_DEBUG=1" in said
    assert "Traceback" not in said
    monkeypatch.setenv("LICTOR_DEBUG", "1")
    assert run_here(["up"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_it_quietly(agent, env):
    from tests.cli.fake_agent import row

    agent(status=[row(f"s{i}", last_error="x" * 500) for i in range(2000)])
    for output in ("json", "table"):
        done = subprocess.run(
            ["sh", "-c", f"'{sys.executable}' -m lictor status -o {output} | head -1"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        assert done.stderr == ""


def test_a_full_disk_is_an_error_and_not_a_traceback(agent, env):
    agent(plan=PLAN)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lictor", "plan", "-o", "json"],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_output_streams_do_not_crash_it(agent, env):
    agent(plan=PLAN)
    command = f"'{sys.executable}' -m lictor plan >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], env=env, check=False, timeout=60).returncode == 0


def test_a_dumb_terminal_gets_no_cursor_tricks(agent, env):
    item = {"service": "piper", "phase": "starting", "sentence": "It loads."}
    agent(wait=Stream([item], [{"service": "piper", "result": "done", "sentence": "ok"}]))
    _, shown = at_terminal(["wait", "piper"], env | {"TERM": "dumb"})
    assert "\x1b" not in shown
    assert "It loads." in shown
