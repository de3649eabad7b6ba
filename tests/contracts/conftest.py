"""The real thing and its fake, side by side, for tests that both must pass."""

from __future__ import annotations

import itertools
import os
import signal
import uuid

import pytest

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.watch import Pace
from tests.support.children import marked

_numbers = itertools.count(1)


@pytest.fixture
def unique() -> str:
    """A name for this test alone: a DNS label that no other module's tests use."""
    return f"contract{next(_numbers)}"


@pytest.fixture
async def client(request):
    """A client of the real Consul; asked for by name, so that fakes need no Consul."""
    async with ConsulClient(request.getfixturevalue("consul").http) as made:
        yield made


@pytest.fixture
def pace() -> Pace:
    return Pace(wait=5.0, first_delay=0.05, max_delay=0.2)


@pytest.fixture
def agent_id():
    """A fresh agent id; whatever still carries it at the end is ended."""
    name = uuid.uuid4().hex
    yield name
    for pid in marked(name):
        os.kill(pid, signal.SIGKILL)
