"""Fixtures that every part of the tests may need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from lictor.core.drivers.spawn import default_signals
from tests.support.consul import ConsulServer, find_consul
from tests.support.dockerd import DockerEngine

# Nothing fails because the machine is busy: hypothesis gives each example 200 ms unless it finds `CI`.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Begin as the agent does: with no signal ignored because of how the tests were started."""
    default_signals()


def _binary() -> str:
    found = find_consul()
    if found is None:
        reason = "no Consul binary: set CONSUL_BIN, or put `consul` on PATH or in .cache/bin"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def consul_bin() -> str:
    """The path of the Consul program."""
    return _binary()


@pytest.fixture(scope="session")
def consul(consul_bin: str) -> Iterator[ConsulServer]:
    """One Consul for all tests: use names and prefixes of your own, and break nothing."""
    server = ConsulServer(consul_bin)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def own_consul(consul_bin: str) -> Iterator[ConsulServer]:
    """A fresh Consul for one test, which may kill, freeze or wipe it."""
    server = ConsulServer(consul_bin)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def acl_consul(consul_bin: str) -> Iterator[ConsulServer]:
    """One Consul with ACLs on (default deny) for all tests that need it."""
    server = ConsulServer(consul_bin, acl=True)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerEngine]:
    """One Docker engine for all tests: use names of your own, and break nothing."""
    made = DockerEngine()
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def own_engine(request: pytest.FixtureRequest) -> Iterator[DockerEngine]:
    """A fresh engine for one test, which may freeze or kill it; parameters are dockerd's options."""
    made = DockerEngine(*getattr(request, "param", ()))
    try:
        yield made.start()
    finally:
        made.close()
