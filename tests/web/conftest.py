"""One real agent with a few services for all tests of the API that break nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.agent import RunningAgent
from tests.support.children import free_port
from tests.support.web import Site

SERVICES = {
    # `brain` answers HTTP; the names are those of the older API's examples.
    "brain": {
        "command": [sys.executable, "-u", "-m", "http.server", "-b", "{host}", "{port}"],
        "health": {"http": "http://{host}:{port}/", "interval": "1s"},
        "description": "Answers",
        "owner": "anna",
        "stop": {"pause": "0s", "timeout": "2s"},
    },
    "tts": {
        "command": ["sleep", "1000"],
        "activation": "manual",
        "owner": "boris",
        "stop": {"pause": "0s"},
    },
    "memory": {
        "command": ["sh", "-c", "echo MEMORY_MASK_PII=$MEMORY_MASK_PII; exec sleep 1000"],
        "activation": "manual",
        "env": {"MEMORY_MASK_PII": "true", "API_KEY": "a secret of memory"},
        "stop": {"pause": "0s"},
    },
    "vllm": {
        "command": ["sh", "-c", 'echo serving "$0"; exec sleep 1000', "{param.model}"],
        "activation": "manual",
        "params": {"model": {"default": "Qwen/small", "pattern": r"[\w.-]+/[\w.-]+"}},
        "stop": {"pause": "0s"},
    },
}


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """An agent that all tests share: leave `brain` running and the others stopped."""
    services = {name: dict(service) for name, service in SERVICES.items()}
    services["brain"]["port"] = free_port()
    with RunningAgent(services) as agent:
        agent.wait_ready("brain")
        with Site(agent) as found:
            yield found


@contextmanager
def _maker() -> Iterator[Callable[..., Site]]:
    made: list[RunningAgent] = []
    open_ones: list[Site] = []

    def make(services: dict[str, Any], **options: Any) -> Site:
        made.append(RunningAgent(services, **options))
        open_ones.append(Site(made[-1].start()))
        return open_ones[-1]

    try:
        yield make
    finally:
        for one in open_ones:
            one.__exit__()
        for agent in made:
            agent.close()


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Agents of one test's own; they and their services are ended after it."""
    with _maker() as make:
        yield make


@pytest.fixture(scope="module")
def make_module_site() -> Iterator[Callable[..., Site]]:
    """The same for all tests of a module."""
    with _maker() as make:
        yield make
