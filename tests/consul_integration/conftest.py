"""Clients that are closed again, names that nobody else uses, and patience."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.watch import Pace
from tests.support.consul import ConsulServer

_numbers = itertools.count(1)


@pytest.fixture
def unique() -> str:
    """A name for this test alone: a DNS label."""
    return f"t{next(_numbers)}"


@pytest.fixture
def pace() -> Pace:
    """Short waits and the shortest back-off, so that tests do not sleep."""
    return Pace(wait=5.0, first_delay=0.05, max_delay=0.2, denied=0.2)


@pytest.fixture
async def client(consul: ConsulServer) -> AsyncIterator[ConsulClient]:
    async with ConsulClient(consul.http) as made:
        yield made


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., ConsulClient]]:
    """Makes clients for servers of any kind, and closes them."""
    made: list[ConsulClient] = []

    def make(*args, **kwargs) -> ConsulClient:
        made.append(ConsulClient(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        await each.close()
