"""Whom the kernel ends first: each test in a process of its own, since a score is for life."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lictor.core.drivers import oom
from tests.support.children import child


@pytest.fixture
def raised():
    """A child whose score is raised, as if it had inherited one of ours."""
    with subprocess.Popen(child("good"), stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        score = Path(f"/proc/{process.pid}/oom_score_adj")
        score.write_text("300")
        yield process.pid, score
        process.kill()


@pytest.fixture(autouse=True)
def _forget():
    oom._spared.cache_clear()
    yield
    oom._spared.cache_clear()


def alone(code: str) -> str:
    lines = ["from lictor.core.drivers import oom", "own = oom._OWN", code]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_score_is_lowered_to_what_was_asked_and_no_lower_one_is_raised():
    said = alone("own.write_text('300'); print(oom.spare_agent(100), own.read_text().strip())")
    assert said == "True 100"
    said = alone("own.write_text('50'); print(oom.spare_agent(100), own.read_text().strip())")
    assert said == "True 50"


def test_what_is_not_permitted_is_said_and_changes_nothing(tmp_path, monkeypatch):
    missing = tmp_path / "no" / "oom_score_adj"
    monkeypatch.setattr(oom, "_OWN", missing)
    assert oom.spare_agent() is False
    assert not missing.parent.exists()


def test_a_child_gets_the_score_of_any_other_program(raised, tmp_path, monkeypatch):
    ours = tmp_path / "score"
    ours.write_text("-500\n")
    monkeypatch.setattr(oom, "_OWN", ours)
    pid, score = raised
    oom.unspare_child(pid)
    assert score.read_text() == "0\n"


def test_a_child_of_an_agent_that_is_not_spared_is_left_as_it_is(raised, tmp_path, monkeypatch):
    ours = tmp_path / "score"
    ours.write_text("0\n")
    monkeypatch.setattr(oom, "_OWN", ours)
    pid, score = raised
    oom.unspare_child(pid)
    assert score.read_text() == "300\n"


def test_a_child_that_has_ended_needs_nothing(tmp_path, monkeypatch):
    ours = tmp_path / "score"
    ours.write_text("-500\n")
    monkeypatch.setattr(oom, "_OWN", ours)
    with subprocess.Popen(["true"]) as process:
        process.wait()
    oom.unspare_child(process.pid)
