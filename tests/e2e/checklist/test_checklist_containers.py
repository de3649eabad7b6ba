"""The checklist, lines 32 and 33: what Consul is told while a Docker engine comes and goes."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.checklist.scene import ROUND, make_scene, seconds_until
from tests.e2e.containers import boxed_web, container_of, on
from tests.support.agent import unique, wait_until
from tests.support.children import free_port


@pytest.fixture
def boxed_scene(make_agent, own_consul, own_engine):
    """Two services in containers, passing in a Consul of their own, on an engine of their own."""
    services = {unique("boxed"): boxed_web() for _ in range(2)}
    made = make_scene(make_agent, own_consul, services=services, env=on(own_engine))
    yield made.started()
    if made.agent.running:
        made.agent.kill9()


@pytest.mark.checklist(
    32,
    "two services in containers",
    "the Docker engine is killed, one container is removed behind our back, and it comes back",
    "unknown meanwhile and never taken out; what differs is found within a round, events and all",
)
@pytest.mark.parametrize("own_engine", [("--live-restore",)], indirect=True)
def test_an_engine_that_restarts_is_compared_and_listened_to_again(boxed_scene, own_engine, note):
    scene, agent = boxed_scene, boxed_scene.agent
    kept, lost = scene.names
    before = {name: container_of(agent, name) for name in scene.names}
    own_engine.kill()
    note("noticed", seconds_until(lambda: scene.phases() == {"unknown"}))
    for name in scene.names:
        assert scene.at_agent(scene.id(name)) is not None
    # Without an agent's eye on it: the engine comes back, and one container is gone at once.
    agent.signal(signal.SIGSTOP)
    own_engine.start()
    own_engine.api.remove_container(before[lost], force=True)
    agent.signal(signal.SIGCONT)
    took = seconds_until(
        lambda: (
            agent.row(lost)["phase"] == "ready"
            and agent.row(lost)["container_id"] not in {None, before[lost]}
        )
    )
    note("found", took)
    assert took < 2 * ROUND
    agent.wait_ready(kept)
    assert container_of(agent, kept) == before[kept]
    scene.wait_all_passing()
    # The new engine's events are heard: sooner than any regular look.
    own_engine.api.kill(before[kept], "KILL")
    note("by event", seconds_until(lambda: agent.row(kept)["restarts"] == 1))
    scene.settle()


@pytest.mark.checklist(
    33,
    "two services in containers",
    "a container is made anew under the same name, with another id and another port",
    "the same entry, changed in place; never two, and the other one untouched",
)
def test_a_container_that_is_made_anew_keeps_its_entry(boxed_scene, own_engine):
    scene, agent = boxed_scene, boxed_scene.agent
    name, other = scene.names
    before, untouched = container_of(agent, name), container_of(agent, other)
    port = free_port()
    same = boxed_web(port=agent.row(other)["port"])
    agent.configure({name: boxed_web(port=port), other: same})
    assert agent.cli("reload").code == 0
    wait_until(lambda: agent.row(name)["port"] == port and agent.row(name)["phase"] == "ready")
    scene.settle()
    assert container_of(agent, name) != before
    assert container_of(agent, other) == untouched
    entries = scene.catalog.entries(name)
    assert list(entries) == [scene.id(name)]
    assert entries[scene.id(name)]["Service"]["Port"] == port
    names = [one["Names"][0] for one in own_engine.containers()]
    assert len(names) == len(set(names)) == 2
