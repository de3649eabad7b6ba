"""`lictor model`: what it asks of the agent, what it says, and with which status it ends."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cli.fake_agent import AgentError, Stream
from tests.cli.terminal import at_terminal

PLAN = {
    "service": "vllm",
    "model": "org/b",
    "before": "org/a",
    "usual_s": 125,
    "hurts": [],
    "steps": [
        {
            "action": "restart",
            "service": "vllm",
            "reason": "config.changed",
            "reason_params": {},
            "sentence": "Its definition changed.",
        }
    ],
}
DONE = {
    "service": "vllm",
    "result": "done",
    "model": "org/b",
    "sentence": "It serves model org/b now, in the place of org/a.",
    "reasons": [{"code": "model.switched", "params": {"model": "org/b", "before": "org/a"}}],
}
BACK = {**DONE, "result": "back", "sentence": "It is back at model org/a.", "reasons": []}
LISTED = {
    "service": "vllm",
    "current": "org/a",
    "open": False,
    "cache": "/srv/hub",
    "models": [
        {
            "id": "org/a",
            "size_bytes": 5_583_457_485,
            "last_used": "2026-11-21T17:53:35.000Z",
            "complete": True,
            "partial": False,
            "in_use_by": ["vllm"],
        },
        {
            "id": "org/half",
            "size_bytes": 1024,
            "last_used": None,
            "complete": False,
            "partial": True,
            "in_use_by": [],
        },
    ],
}


def test_a_switch_says_first_what_it_does(agent, run):
    fake = agent(**{"model.plan": PLAN, "model": DONE})
    done = run("model", "vLLM", "org/b")
    assert done.returncode == 0
    assert done.stdout == "vllm: It serves model org/b now, in the place of org/a.\n"
    assert "vllm: restart - Its definition changed." in done.stderr
    assert "A start with this model usually takes 2 min 5 s." in done.stderr
    assert fake.args("model") == {"name": "vllm", "model": "org/b", "yes": False}
    assert json.loads(run("model", "vllm", "org/b", "-o", "json").stdout) == DONE


def test_with_wait_it_tells_how_far_it_is_and_ends_as_the_switch_does(agent, run):
    loading = {"service": "vllm", "phase": "starting", "sentence": "Model org/b: 36 %."}
    fake = agent(**{"model.plan": PLAN, "model": Stream([loading], BACK)})
    done = run("model", "vllm", "org/b", "--wait", "--timeout", "5m", "--trust-remote-code")
    assert done.returncode == 1
    assert "Model org/b: 36 %." in done.stderr
    assert done.stdout == "vllm: It is back at model org/a.\n"
    assert fake.args("model") == {
        "name": "vllm",
        "model": "org/b",
        "yes": False,
        "wait": True,
        "timeout": 300.0,
        "trust_remote_code": True,
    }


def test_a_refusal_is_the_agents_and_nothing_is_asked_for_after_it(agent, run):
    fake = agent(**{"model.plan": AgentError("usage", "vllm model: expected org/name.", 2)})
    done = run("model", "vllm", "nonsense")
    assert (done.returncode, done.stderr) == (2, "error: vllm model: expected org/name.\n")
    assert [op for op, _ in fake.asked if op == "model"] == []


def test_without_a_model_it_shows_the_one_and_the_cache(agent, run):
    agent(models=LISTED)
    shown = run("model", "vllm")
    assert shown.returncode == 0
    assert "vllm is to serve org/a." in shown.stderr
    head, first, second = shown.stdout.splitlines()
    assert head.split() == ["MODEL", "SIZE", "LAST", "USED", "STATE"]
    assert first.split() == [*("org/a", "5.2", "GiB", "2026-11-21", "17:53"), "used", "by", "vllm"]
    assert second.split() == ["org/half", "≥", "1.0", "KiB", "-", "incomplete"]
    assert json.loads(run("model", "vllm", "-o", "json").stdout) == LISTED


def test_removing_asks_and_away_from_a_terminal_needs_to_be_said(agent, run, env):
    gone = {"service": "vllm", "result": "done", "sentence": "Removed."}
    fake = agent(**{"model.delete": gone})
    refused = run("model", "vllm", "--delete", "org/b")
    assert refused.returncode == 8
    assert "needs -y" in refused.stderr
    assert fake.asked == []
    assert run("model", "vllm", "--delete", "org/b", "-y").stdout == "vllm: Removed.\n"
    assert fake.args("model.delete") == {"name": "vllm", "model": "org/b"}
    for word, code in (("n", 8), ("y", 0)):
        ended, shown = at_terminal(["model", "vllm", "--delete", "org/b"], env, types=f"{word}\n")
        assert ended == code
        assert "Remove org/b from the disk?" in shown


@pytest.mark.parametrize(
    "args", [["model"], ["model", "vllm", "a/b", "--delete", "a/b"], ["model", "no such"]]
)
def test_a_command_line_that_makes_no_sense_exits_2(run, args):
    done: subprocess.CompletedProcess[str] = run(*args)
    assert done.returncode == 2
