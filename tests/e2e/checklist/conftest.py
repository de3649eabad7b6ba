"""Scenes of the checklist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.checklist.scene import Note, Proxied, Scene, make_scene
from tests.e2e.conftest import MakeAgent
from tests.support.consul import ConsulServer
from tests.support.consul_cluster import Cluster
from tests.support.lying_proxy import LyingProxy


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Write down a figure that the fault report shows, as a property of the test."""

    def write(name: str, value: object) -> None:
        request.node.user_properties.append((name, value))

    return write


@pytest.fixture
def proxied() -> Iterator[Proxied]:
    """Puts a proxy that can lie before a Consul."""
    made: list[LyingProxy] = []

    def make(consul: ConsulServer) -> LyingProxy:
        made.append(LyingProxy(consul.http).__enter__())
        return made[-1]

    yield make
    for proxy in made:
        proxy.__exit__(None, None, None)


@pytest.fixture
def scene(make_agent: MakeAgent, own_consul: ConsulServer) -> Scene:
    """One running service, passing in a Consul of its own."""
    return make_scene(make_agent, own_consul).started()


@pytest.fixture
def own_acl_consul(consul_bin: str) -> Iterator[ConsulServer]:
    """A fresh Consul with access control on, which a test may break."""
    server = ConsulServer(consul_bin, acl=True)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
def cluster(consul_bin: str) -> Iterator[Cluster]:
    """Three servers on addresses of their own."""
    with Cluster(consul_bin) as made:
        yield made
