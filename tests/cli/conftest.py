"""Fixtures: a fake agent on a socket of its own, and the program itself in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.fake_agent import OVERVIEW, FakeAgent

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., FakeAgent]


@pytest.fixture
def home() -> Iterator[Path]:
    """A short directory (socket paths have 107 bytes) that is HOME and the data_dir."""
    with tempfile.TemporaryDirectory(prefix="lc") as path:
        yield Path(path)


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LICTOR_DATA_DIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONWARNINGS": "error",
    }


@pytest.fixture
def run(env: dict[str, str]) -> Run:
    """Run `lictor ...` and return what it said."""

    def _run(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        extra = kwargs.pop("env", {})
        assert isinstance(extra, dict)
        merged = {k: v for k, v in (env | extra).items() if v is not None}
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [sys.executable, "-m", "lictor", *args],
            env=merged,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            **kwargs,
        )

    return _run


@pytest.fixture
def agent(home: Path) -> Iterator[Start]:
    """Start the fake agent with these answers, by op."""
    with ExitStack() as stack:

        def start(**answers: object) -> FakeAgent:
            all_answers = {"overview": OVERVIEW} | answers
            return stack.enter_context(FakeAgent(home / "lictor.sock", all_answers))

        yield start
