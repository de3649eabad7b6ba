"""`lictor logs`: raw in a pipe, harmless on a terminal, JSON for programs."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli.fake_agent import AgentError, Stream
from tests.cli.terminal import at_terminal

LINES = [
    {"service": "piper", "line": "\x1b[31mred\x1b[0m \x1b]0;title\x07text"},
    {"service": "piper", "line": "два 三"},
]


def test_a_pipe_gets_the_lines_untouched(agent, run):
    fake = agent(logs=Stream(LINES))
    done = run("logs", "piper")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(line["line"] + "\n" for line in LINES)
    assert fake.args("logs") == {
        "names": ["piper"],
        "lines": None,
        "follow": False,
        "grep": None,
        "since": None,
        "until": None,
    }


def test_options_are_passed_on(agent, run):
    fake = agent(logs=Stream([]))
    run("logs", "piper", "stt", "-n", "5", "--grep", "ERROR", "--since", "10m", "--until", "14:05")
    expected = {"names": ["piper", "stt"], "lines": 5, "follow": False, "grep": "ERROR"}
    assert fake.args("logs") == {**expected, "since": "10m", "until": "14:05"}


def test_several_services_are_told_apart(agent, run):
    agent(logs=Stream([{"service": "piper", "line": "a"}, {"service": "stt", "line": "b"}]))
    assert run("logs", "piper", "stt").stdout == "piper | a\nstt | b\n"


def test_a_terminal_keeps_colours_and_nothing_else_that_steers(agent, env):
    agent(logs=Stream(LINES))
    _, shown = at_terminal(["logs", "piper"], env)
    assert "\x1b[31mred\x1b[0m text" in shown
    assert "title" not in shown
    _, plain = at_terminal(["logs", "piper"], env | {"NO_COLOR": "1"})
    assert "red text" in plain
    assert "\x1b" not in plain


def test_json_is_one_document(agent, run):
    agent(logs=Stream(LINES))
    assert json.loads(run("logs", "piper", "-o", "json").stdout) == LINES


def test_following_prints_each_line_when_it_comes(agent, env):
    agent(logs=Stream(LINES, hang=True))
    command = [sys.executable, "-m", "lictor", "logs", "piper", "-f", "-o", "json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in LINES]
        process.terminate()
        process.wait(30)
    assert [json.loads(line) for line in lines] == LINES


def test_an_empty_log_says_where_it_would_be(agent, run):
    agent(logs=Stream([], ok={"empty": {"piper": "/data/logs/piper.log"}}))
    for words in ([], ["-o", "json"]):
        done = run("logs", "piper", *words)
        assert done.returncode == 0
        assert done.stderr == "piper has written nothing yet (/data/logs/piper.log).\n"


def test_lines_that_a_full_disk_cost_are_not_hidden(agent, run):
    agent(logs=Stream(LINES, ok={"empty": {}, "lost": {"piper": 7}}))
    done = run("logs", "piper")
    assert done.returncode == 0
    assert done.stderr == "The disk was full: 7 lines of piper could not be kept.\n"


def test_an_unknown_service_exits_4(agent, run):
    agent(logs=AgentError("service.unknown", "There is no service nope.", 4))
    assert run("logs", "nope").returncode == 4


def test_logs_of_nobody_make_no_sense(run):
    assert run("logs").returncode == 2
    assert run("logs", "piper", "-n", "-1").returncode == 2


def test_a_reader_that_goes_away_ends_following(agent, env):
    agent(logs=Stream([{"service": "piper", "line": "x" * 1000}] * 500, hang=True))
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m lictor logs piper -f | head -1"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (len(done.stdout), done.stderr) == (1001, "")
