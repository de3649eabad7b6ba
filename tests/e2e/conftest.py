"""Fixtures and words that the tests from outside share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.agent import RunningAgent

MakeAgent = Callable[..., RunningAgent]


@pytest.fixture
def make_agent() -> Iterator[MakeAgent]:
    """Makes agents (not started) and ends all of them, and their services, after the test."""
    made: list[RunningAgent] = []

    def make(services: dict[str, Any], **options: Any) -> RunningAgent:
        made.append(RunningAgent(services, **options))
        return made[-1]

    try:
        yield make
    finally:
        for agent in reversed(made):
            agent.close()
