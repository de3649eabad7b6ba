"""`lictor events|hold|release|top` and the ends of verbs: what is asked and what is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.fake_agent import Stream, row
from tests.cli.terminal import at_terminal
from tests.cli.test_change import result


def line(number: int = 1, **more: object) -> dict:
    return {
        "id": number,
        "at": "2026-01-31T10:00:05.250Z",
        "kind": "phase",
        "service": "piper",
        "who": "lictor",
        "phase": "backoff",
        "outcome": None,
        "sentence": "It ended with exit code 3.",
        "reason": "exit.code",
        "reason_params": {"code": 3},
    } | more


def page(*lines: dict, more: bool = False) -> Stream:
    return Stream(list(lines), {"count": len(lines), "more": more, "next": None})


def test_events_are_shown_with_local_time_who_and_why(agent, run):
    agent(events=page(line(), line(2, kind="verb", phase=None, who="anna", sentence="anna did.")))
    done = run("events", env={"TZ": "Asia/Shanghai"})
    first, second = done.stdout.splitlines()[1:]
    assert first.split() == [
        *("2026-01-31", "18:00:05", "piper", "lictor", "↻", "backoff"),
        *("It", "ended", "with", "exit", "code", "3."),
    ]
    assert second.split()[2:5] == ["piper", "anna", "verb"]


def test_the_reason_is_said_in_the_readers_language_but_json_is_not(agent, run):
    agent(events=page(line()))
    assert "3" in run("events", env={"LICTOR_LANG": "zh"}).stdout
    assert "It ended" not in run("events", env={"LICTOR_LANG": "zh"}).stdout
    assert json.loads(run("events", "-o", "json", env={"LICTOR_LANG": "zh"}).stdout) == [line()]


def test_what_is_asked_for_is_passed_on(agent, run):
    fake = agent(events=page(line()))
    words = ("piper", "gpt_sovits", "-n", "7", "--kind", "verb", "--kind", "hold")
    assert run("events", *words, "--since", "2026-01-31T10:00:00Z").returncode == 0
    assert fake.args("events") == {
        "names": ["piper", "gpt-sovits"],
        "kinds": ["verb", "hold"],
        "since": datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp(),
        "lines": 7,
    }
    assert run("events", "--since", "1h").returncode == 0
    ago = datetime.now(UTC).timestamp() - fake.args("events")["since"]
    assert 3590 < ago < 3700
    assert run("events", "--kind", "nonsense").returncode == 2
    assert run("events", "--since", "nonsense").returncode == 2


def test_more_lines_than_one_page_are_put_together_in_order(agent, run):
    def answer(args: dict) -> Stream:
        before = args.get("before", 2600)
        numbers = range(max(100, before - args["lines"]), before)
        lines = [line(number) for number in numbers]
        full = len(lines) == args["lines"]
        return Stream(lines, {"more": full, "next": numbers[0] if full else None})

    agent(events=answer)
    ids = [one["id"] for one in json.loads(run("events", "-n", "2200", "-o", "json").stdout)]
    assert ids == list(range(400, 2600))
    ids = [one["id"] for one in json.loads(run("events", "-n", "9000", "-o", "json").stdout)]
    assert ids == list(range(100, 2600))


def test_following_prints_one_object_a_line(agent, run):
    fake = agent(events=page(line(1), line(2)))
    done = run("events", "-f", "-n", "3", "-o", "json")
    assert [json.loads(text)["id"] for text in done.stdout.splitlines()] == [1, 2]
    assert (fake.args("events")["follow"], fake.args("events")["lines"]) == (True, 3)
    plain = run("events", "-f")
    assert len(plain.stdout.splitlines()) == 2
    assert "It ended with exit code 3." in plain.stdout


def test_what_came_from_a_service_cannot_steer_the_terminal(agent, run):
    agent(
        events=page(line(sentence="evil \x1b[2J\x1b]0;title\x07 end", reason="x", who="a\x1b[31m"))
    )
    for words in (["events"], ["events", "-f"]):
        assert "\x1b" not in run(*words).stdout


def test_an_empty_journal_is_said_on_stderr(agent, run):
    agent(events=page())
    done = run("events")
    assert (done.stdout, done.returncode) == ("", 0)
    assert done.stderr
    assert run("events", "-o", "json").stdout.strip() == "[]"


# --- holds -----------------------------------------------------------------------------------


def test_a_hold_of_another_node_names_the_node(agent, run):
    fake = agent(hold=[result() | {"node": "b"}], release=[result() | {"node": "b"}])
    done = run("hold", "piper", "--reason", "new fans", "--node", "b")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[0] == "b"
    assert fake.args("hold")["node"] == "b"
    assert run("release", "piper", "--node", "b").returncode == 0
    assert fake.args("release") == {"names": ["piper"], "node": "b"}


def test_a_hold_says_why_and_how_long(agent, run):
    fake = agent(hold=[result()], release=[result(word="already")])
    done = run("hold", "piper", "--reason", "new fans", "--until", "30m", "--state", "maintenance")
    assert done.returncode == 0
    args = fake.args("hold")
    left = datetime.fromisoformat(args.pop("until")) - datetime.now(UTC)
    assert timedelta(minutes=29) < left < timedelta(minutes=31)
    assert args == {
        "names": ["piper"],
        "reason": "new fans",
        "state": "maintenance",
        "yes": False,
    }
    assert run("release", "piper", "stt").returncode == 0
    assert fake.args("release") == {"names": ["piper", "stt"]}


def test_a_clock_time_is_the_next_one(agent, run):
    fake = agent(hold=[result()])
    assert run("hold", "piper", "--reason", "x", "--until", "18:00").returncode == 0
    until = datetime.fromisoformat(fake.args("hold")["until"])
    assert (until.hour, until.minute) == (18, 0)
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(days=1, hours=1)


@pytest.mark.parametrize(
    "words",
    [
        ["hold", "piper"],
        ["hold", "--reason", "x"],
        ["hold", "piper", "--reason", "x", "--state", "paused"],
        ["hold", "piper", "--reason", "x", "--until", "25:00"],
        ["release"],
        ["restart", "piper", "--until", "1h"],
    ],
)
def test_what_makes_no_sense_never_reaches_the_agent(agent, run, words):
    fake = agent(hold=[], release=[], change=[])
    assert run(*words).returncode == 2
    assert fake.asked == []


def test_verbs_pass_on_their_reason_and_their_end(agent, run):
    fake = agent(change=[result()])
    assert run("stop", "piper", "--reason", "loud", "--until", "1h").returncode == 0
    args = fake.args("change")
    assert args["reason"] == "loud"
    assert datetime.fromisoformat(args["until"]) > datetime.now(UTC)
    assert run("restart", "piper", "--reason", "stuck").returncode == 0
    assert (fake.args("change")["reason"], "until" in fake.args("change")) == ("stuck", False)


def test_a_service_that_was_left_alone_because_it_is_held_is_shown_so(agent, run):
    agent(change=[result(word="held", sentence="anna holds it stopped (new fans).")])
    done = run("start")
    assert done.returncode == 0
    assert "held" in done.stdout


# --- top -------------------------------------------------------------------------------------

FIGURES = {"processes": 3, "threads": 12, "fds": 40, "connections": 2}


def hungry() -> list[dict]:
    return [
        row("idle", cpu_percent=0.0, memory_mb=900.0, **FIGURES),
        row("busy", cpu_percent=99.5, memory_mb=10.0, **FIGURES),
        row("off", "stopped", cpu_percent=0, **dict.fromkeys(FIGURES, 0)),
        row("dark", cpu_percent=None, memory_mb=None, **dict.fromkeys(FIGURES)),
    ]


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ([], ["busy", "dark", "idle", "off"]),
        (["--sort", "cpu"], ["busy", "dark", "idle", "off"]),
        (["--sort", "memory"], ["idle", "busy", "dark", "off"]),
    ],
)
def test_the_hungriest_come_first_and_what_does_not_run_last(agent, run, words, order):
    fake = agent(status=hungry())
    rows = json.loads(run("top", *words, "-o", "json").stdout)
    assert [one["name"] for one in rows] == order
    assert fake.args("status")["figures"] is True
    table = run("top", *words).stdout.splitlines()
    assert [text.split()[0] for text in table[1:]] == order


def test_a_pipe_gets_one_table_and_a_terminal_a_living_one(agent, run, env):
    fake = agent(status=hungry())
    once = run("top").stdout
    assert once.count("busy") == 1
    assert "99.5%" in once
    asked = len(fake.asked)
    code, screen = at_terminal(["top"], env, interrupt_after="busy")
    assert code == 130
    assert "99.5%" in screen
    assert len(fake.asked) > asked
