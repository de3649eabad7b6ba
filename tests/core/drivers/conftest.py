"""A process driver of its own for each test, and the certainty that nothing of it is left."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from tests.support.children import marked

MakeSpec = Callable[..., ServiceSpec]


@pytest.fixture
def agent_id() -> Iterator[str]:
    """A fresh agent id; whatever still carries it at the end is ended."""
    name = uuid.uuid4().hex
    yield name
    for pid in marked(name):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def driver(tmp_path: Path, agent_id: str):
    """A driver that forgets its processes at the end."""
    made = ProcessDriver(tmp_path / "logs", agent_id)
    yield made
    made.close()


@pytest.fixture
def spec(tmp_path: Path) -> MakeSpec:
    """Make a spec of a command."""

    def make(command: tuple[str, ...], **fields: object) -> ServiceSpec:
        defaults: dict[str, object] = {
            "key": ServiceKey("piper"),
            "cwd": str(tmp_path),
            "env": {"PATH": os.environ["PATH"]},
        }
        return ServiceSpec(command=command, **{**defaults, **fields})

    return make
