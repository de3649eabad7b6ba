"""Checklist: what is missing from a read of KV is no order, and much of it needs a person's word."""

from __future__ import annotations

import pytest

from tests.e2e.checklist.scene import Note, Scene, make_scene
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import web
from tests.support.agent import unique, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def by_hand(make_agent: MakeAgent, consul: ConsulServer, count: int) -> Scene:
    """Services that run only because documents in KV say so."""
    services = {unique("manual"): web(activation="manual") for _ in range(count)}
    scene = make_scene(make_agent, consul, services=services)
    scene.agent.start()
    wait_until(lambda: consul.get_kv(f"lictor/desired/{scene.agent.node}/_lictor"))
    for name in scene.names:
        scene.desired(name, {"state": "running"})
    scene.settle()
    return scene


def delete(scene: Scene, *names: str) -> None:
    """Delete documents in one moment, as a script with a transaction does."""
    paths = [f"lictor/desired/{scene.agent.node}/{name}" for name in names]
    operations = [{"KV": {"Verb": "delete", "Key": path}} for path in paths]
    assert scene.consul.raw("PUT", "txn", operations).status == 200


@pytest.mark.checklist(
    12,
    "four services that run because KV says so",
    "`consul kv delete -recurse` of the node's folder, its sentinel too",
    "desired state unknown and said so; nothing stopped until one `lictor confirm`",
)
def test_a_deleted_prefix_stops_nothing_until_it_is_confirmed_once(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    scene = by_hand(make_agent, own_consul, 4)
    pids = scene.pids()
    path = f"kv/lictor/desired/{scene.agent.node}?recurse"
    assert own_consul.raw("DELETE", path).status == 200
    wait_until(lambda: "desired.sentinel_missing" in scene.warnings())
    assert scene.pids() == pids
    scene.wait_all_passing()
    assert scene.agent.cli("confirm").code == 0
    wait_until(lambda: scene.phases() == {"stopped"}, what="all stopped, by one confirmation")
    for name in scene.names:
        scene.catalog.wait_gone(name, scene.id(name))


@pytest.mark.checklist(
    12,
    "five services that run because KV says so, sentinels in place",
    "four of the documents are deleted at once",
    "held, shown in status and plan, released by `lictor confirm`",
)
def test_a_deletion_that_would_stop_most_services_is_held(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    scene = by_hand(make_agent, own_consul, 5)
    pids = scene.pids()
    delete(scene, *scene.names[:4])
    wait_until(lambda: "desired.held" in scene.warnings(), what="the hold is shown")
    assert scene.pids() == pids
    said = scene.agent.cli("status")
    assert "lictor confirm" in said.err
    plan = scene.agent.cli("plan", "-o", "json").json
    assert {row["service"] for row in plan if row["action"] == "held"} == set(scene.names[:4])
    table = scene.agent.cli("plan")
    assert "held" in table.out
    # It holds over a restart of the agent, which begins with what was last in force.
    assert scene.agent.down("--keep").code == 0
    scene.agent.start()
    wait_until(lambda: "desired.held" in scene.warnings(), what="the hold is shown again")
    assert scene.pids() == pids
    assert scene.agent.cli("confirm").code == 0
    for name in scene.names[:4]:
        scene.agent.wait_phase(name, "stopped")
    note("left running", scene.agent.row(scene.names[4])["phase"])
    assert scene.agent.row(scene.names[4])["phase"] == "ready"
    wait_until(lambda: "desired.held" not in scene.warnings())


@pytest.mark.checklist(
    12,
    "five services that run because KV says so, sentinels in place",
    "two documents are deleted; later three more are deleted and written again",
    "the two are believed; what came back ends the hold by itself",
)
def test_a_small_deletion_is_believed_and_what_comes_back_ends_a_hold(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    scene = by_hand(make_agent, own_consul, 5)
    delete(scene, *scene.names[:2])
    for name in scene.names[:2]:
        scene.agent.wait_phase(name, "stopped")
    delete(scene, *scene.names[2:])
    wait_until(lambda: "desired.held" in scene.warnings())
    pids = scene.pids()
    for name in scene.names[2:]:
        scene.desired(name, {"state": "running"})
    wait_until(lambda: "desired.held" not in scene.warnings())
    assert scene.pids() == pids
