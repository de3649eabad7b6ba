"""`lictor set` and `lictor unset`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.fake_agent import AgentError

ANSWER = {"service": "vllm", "sentence": "It restarts with the new model."}


def test_values_are_sent_as_typed(agent, run):
    fake = agent(set=ANSWER)
    done = run("set", "vLLM", "model=Qwen/Q=7", "share=0.5", "empty=", "--reason", "a test")
    assert (done.returncode, done.stdout) == (0, "vllm: It restarts with the new model.\n")
    assert fake.args("set") == {
        "name": "vllm",
        "params": {"model": "Qwen/Q=7", "share": "0.5", "empty": ""},
        "reason": "a test",
    }
    assert json.loads(run("set", "vllm", "a=b", "-o", "json").stdout) == ANSWER


def test_until_takes_a_length_of_time_or_a_moment(agent, run):
    fake = agent(set=ANSWER)
    before = datetime.now(UTC)
    assert run("set", "vllm", "a=b", "--until", "2h").returncode == 0
    moment = datetime.fromisoformat(fake.args("set")["until"])
    assert timedelta(hours=1, minutes=59) < moment - before < timedelta(hours=2, minutes=2)
    assert run("set", "vllm", "a=b", "--until", "2030-01-31T18:00:00+02:00").returncode == 0
    assert datetime.fromisoformat(fake.args("set")["until"]) == datetime.fromisoformat(
        "2030-01-31T16:00:00+00:00"
    )
    assert (
        run("set", "vllm", "a=b", "--until", "2030-01-31T18:00", env={"TZ": "UTC"}).returncode == 0
    )
    assert fake.args("set")["until"] == "2030-01-31T18:00:00+00:00"


def test_unset_without_keys_means_all(agent, run):
    fake = agent(unset=ANSWER)
    assert run("unset", "vllm").returncode == 0
    assert fake.args("unset") == {"name": "vllm", "params": []}
    assert run("unset", "vllm", "model", "share").returncode == 0
    assert fake.args("unset")["params"] == ["model", "share"]


def test_a_value_that_does_not_fit_is_the_agents_refusal(agent, run):
    agent(set=AgentError("failed", "share is not a number.", 1))
    done = run("set", "vllm", "share=x")
    assert (done.returncode, done.stderr) == (1, "error: share is not a number.\n")


@pytest.mark.parametrize(
    "args",
    [
        ["set", "vllm"],
        ["set", "vllm", "noequals"],
        ["set", "vllm", "=x"],
        ["set", "vllm", "a=b", "--until", "later"],
        ["unset"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_makes_no_sense_exits_2(run, args):
    assert run(*args).returncode == 2
