"""A process driver of its own for each test, and the certainty that nothing of it is left.

Every test that asks for `driver` runs once with each way to hold processes together that this host
offers: by group, session and mark alone, and with cgroups of either version.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lictor.core.drivers.cgroup import Cells
from lictor.core.drivers.cgroup_find import Ground, discover
from lictor.core.drivers.process import ProcessDriver
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from tests.support.children import marked

GROUNDS = {"marks": discover(membership=0)}
GROUNDS |= {
    f"v{version}": found
    for version in (1, 2)
    if (found := discover(membership=version)).version == version
}

MakeSpec = Callable[..., ServiceSpec]


@pytest.fixture(params=GROUNDS)
def ground(request) -> Ground:
    """How processes are held together; see the module."""
    return GROUNDS[request.param]


@pytest.fixture
def agent_id() -> Iterator[str]:
    """A fresh agent id; whatever still carries it at the end is ended."""
    name = uuid.uuid4().hex
    yield name
    deadline = time.monotonic() + 10
    while (pids := marked(name)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for found in GROUNDS.values():
        Cells(name, found).tidy()


@pytest.fixture
async def driver(tmp_path: Path, agent_id: str, ground: Ground):
    """A driver that forgets its processes at the end."""
    made = ProcessDriver(tmp_path / "logs", agent_id, ground=ground)
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
