"""Checklist: what is registered is true, and nothing is written that need not be."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.checklist.scene import (
    ROUND,
    Note,
    Proxied,
    Sampler,
    Scene,
    make_scene,
    seconds_until,
)
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, service, web
from tests.support.agent import unique, wait_until
from tests.support.children import child, free_port
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

#: So often an entry may come up within a minute.
UPS = 10


def by_hand(scene: Scene, name: str = "", **changes: Any) -> dict[str, Any]:
    """Register an entry again as somebody with `curl` would, with changes."""
    entry = scene.at_agent(scene.id(name)) or {}
    body = {
        "ID": entry["ID"],
        "Name": entry["Service"],
        "Tags": entry["Tags"],
        "Port": entry["Port"],
        "Address": entry["Address"],
        "Meta": entry["Meta"],
    }
    answer = scene.consul.raw("PUT", "agent/service/register", {**body, **changes})
    assert answer.status == 200, answer
    return body


@pytest.mark.checklist(
    1, "five services, all passing", "nothing for two rounds", "no write, no index of Consul moves"
)
@pytest.mark.checklist(
    2,
    "five services, all passing",
    "tags shuffled, Meta reordered by hand",
    "no write: it means the same",
)
def test_nothing_is_written_while_nothing_differs(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy = proxied(own_consul)
    tagged = {unique("tagged"): web(tags=["b", "a", "c"], meta={"one": "1", "two": "2"})}
    services = {**tagged, **{unique("quiet"): web() for _ in range(4)}}
    scene = make_scene(make_agent, own_consul, proxy=proxy, services=services).started()
    time.sleep(8)  # the actual state and the facts of the node are published, too
    entry = scene.at_agent()
    assert entry is not None
    by_hand(scene, Tags=["c", "b", "a"], Meta=dict(reversed(list(entry["Meta"].items()))))
    time.sleep(1)
    began, index = time.monotonic(), scene.index()
    kv = own_consul.raw("GET", "kv/lictor/?recurse").index
    time.sleep(2 * ROUND + 2)
    note("writes in two rounds", len(proxy.writes_since(began)))
    note("requests in two rounds", len(proxy.since(began)))
    assert proxy.writes_since(began) == []
    assert any(asked.path.startswith("/v1/agent/services") for asked in proxy.since(began))
    assert scene.index() == index
    assert own_consul.raw("GET", "kv/lictor/?recurse").index == kv


@pytest.mark.checklist(
    3,
    "two services, all passing",
    "one tag changed in the config, reload",
    "one registration, never a critical sample, the other untouched",
)
@pytest.mark.checklist(
    4,
    "two services, all passing",
    "interval and URL of the HTTP check changed, reload",
    "the new check in effect, no orphan, no critical sample",
)
def test_a_change_of_one_service_is_one_registration_and_no_critical_moment(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy = proxied(own_consul)
    first, second = unique("changes"), unique("stays")
    services = {first: web(tags=["old"]), second: web()}
    scene = make_scene(make_agent, own_consul, proxy=proxy, services=services).started()
    pid = scene.agent.service_pid(first)
    began = time.monotonic()
    with Sampler(scene).looking() as samples:
        services[first]["tags"] = ["new"]
        scene.agent.configure(services)
        assert scene.agent.cli("reload").code == 0
        took = seconds_until(lambda: (scene.at_agent() or {}).get("Tags") == ["new"])
        note("seconds from reload to catalog", took)
        registered = [a for a in proxy.writes_since(began) if "/service/" in a.path]
        assert len(registered) == 1
        services[first]["health"] |= {"http": "/other", "interval": "2s"}
        scene.agent.configure(services)
        assert scene.agent.cli("reload").code == 0
        check = f"{scene.id()}:http"
        wait_until(lambda: own_consul.understood()[check]["HTTP"].endswith("/other"))
        time.sleep(2)
    assert samples.never_but_passing, samples.seen
    assert own_consul.understood()[check]["Interval"] == 2_000_000_000
    checks = scene.catalog.checks(first, scene.id())
    assert set(checks) == {"http", "lictor"}
    assert scene.agent.service_pid(first) == pid
    touched = [a for a in proxy.writes_since(began) if scene.id(second) in a.path]
    assert touched == []


@pytest.mark.checklist(
    5,
    "a service in Consul's own maintenance mode",
    "a full comparison and a change of its Meta",
    "still in maintenance until it is ended by hand",
)
def test_maintenance_that_somebody_set_in_consul_stays_until_they_end_it(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    services = {unique("cared"): web()}
    scene = make_scene(make_agent, own_consul, services=services).started()
    path = f"agent/service/maintenance/{scene.id()}"
    assert own_consul.raw("PUT", f"{path}?enable=true&reason=disk").status == 200
    mark = f"_service_maintenance:{scene.id()}"
    services[scene.name]["meta"] = {"colour": "blue"}
    scene.agent.configure(services)
    assert scene.agent.cli("reload").code == 0
    wait_until(lambda: (scene.at_agent() or {"Meta": {}})["Meta"].get("colour") == "blue")
    time.sleep(ROUND + 1)
    assert mark in own_consul.raw("GET", "agent/checks").json
    assert own_consul.raw("PUT", f"{path}?enable=false").status == 200
    scene.catalog.wait_passing(scene.name, scene.id())


@pytest.mark.checklist(
    6,
    "a registered service with tags",
    "somebody else edits its tags at the agent",
    "put back within a round (Lictor allows no tag override), never critical",
)
def test_tags_that_somebody_edited_are_put_back(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    scene = make_scene(make_agent, own_consul, services={unique("tags"): web(tags=["ours"])})
    scene.started()
    with Sampler(scene).looking() as samples:
        by_hand(scene, Tags=["theirs"])
        took = seconds_until(lambda: (scene.at_agent() or {}).get("Tags") == ["ours"], within=15)
        time.sleep(0.5)
    note("seconds until put back", took)
    assert samples.never_but_passing, samples.seen


@pytest.mark.checklist(
    7,
    "foreign entries: an id that begins like ours, our service's name, our Meta with another owner",
    "rounds, a stop of our service, the end of the agent",
    "never changed, never removed",
)
def test_foreign_entries_are_never_touched_however_much_they_look_like_ours(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    scene = make_scene(make_agent, own_consul).started()
    ours = scene.at_agent()
    assert ours is not None
    foreign = {
        f"{scene.id()}-sidecar": {},
        f"{scene.id()}:x": {"Meta": {**ours["Meta"], "lictor-owner": "somebody-else"}},
        unique("same-name"): {"Meta": {"lictor-node": scene.agent.node}},
        f"lictor:{scene.agent.node}:ghost": {"Meta": {"lictor-owner": "an earlier installation"}},
    }
    for entry_id, more in foreign.items():
        body = {"ID": entry_id, "Name": scene.name, "Port": 9, "Tags": ["mine"], **more}
        assert own_consul.raw("PUT", "agent/service/register", body).status == 200
    time.sleep(ROUND + 6)
    before = {name: scene.at_agent(name) for name in foreign}
    assert None not in before.values()
    assert scene.agent.cli("stop", scene.name, "--wait").code == 0
    scene.catalog.wait_gone(scene.name, scene.id())
    assert scene.agent.down().code == 0
    assert {name: scene.at_agent(name) for name in foreign} == before


@pytest.mark.checklist(
    8,
    "a registered service",
    "deregistered by hand at the agent",
    "back within 5 s, counted as a flap and told in the journal",
)
def test_an_entry_that_was_deregistered_by_hand_comes_back_and_is_counted(scene: Scene, note: Note):
    assert scene.agent.row(scene.name)["flaps"] == 0
    answer = scene.consul.raw("PUT", f"agent/service/deregister/{scene.id()}")
    assert answer.status == 200
    took = seconds_until(lambda: scene.at_agent() is not None, within=5)
    note("seconds until it is back", took)
    scene.catalog.wait_passing(scene.name, scene.id())
    wait_until(lambda: scene.agent.row(scene.name)["flaps"] == 1)
    assert "registry.taken_out" in scene.journal()


@pytest.mark.checklist(
    9,
    "a registered service",
    "deregistered in the catalog alone",
    "shown as drift, healed by a forced registration, never by waiting a minute",
)
def test_an_entry_that_the_catalog_alone_lost_is_noticed_and_pushed_again(scene: Scene, note: Note):
    body = {"Node": scene.consul.node, "ServiceID": scene.id()}
    for _ in range(4):  # a Consul that has just begun, or its pass of every minute, may be first
        began = time.monotonic()
        assert scene.consul.raw("PUT", "catalog/deregister", body).status == 200
        scene.catalog.wait_passing(scene.name, scene.id())
        took = round(time.monotonic() - began, 2)
        if took > 4:
            break
    note("seconds until it is in the catalog again", took)
    assert took < 25  # Consul's own anti-entropy needs about 60
    assert set(scene.catalog.checks(scene.name, scene.id())) == {"http", "lictor"}
    assert "registry.not_in_catalog" in scene.journal()
    assert scene.agent.row(scene.name)["flaps"] == 0  # it never left the agent


@pytest.mark.checklist(
    25,
    "a running service",
    "somebody deregisters it as soon as it is back, ten times within a minute",
    "at most ten registrations of one entry a minute; the damping is shown",
)
def test_what_comes_and_goes_all_the_time_is_registered_only_so_often(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, proxy=proxy).started()
    began = time.monotonic()

    def take_out() -> None:
        """As soon as it is whole: the agent, too, must have seen it come back."""
        full = {"names": [scene.name], "verbose": True}
        wait_until(lambda: scene.agent.ask("status", full)[0]["in_catalog"], what="it is back")
        scene.wait_all_passing()
        own_consul.raw("PUT", f"agent/service/deregister/{scene.id()}")

    for times in range(1, UPS):
        take_out()
        wait_until(lambda n=times: scene.agent.row(scene.name)["flaps"] == n, what="it is counted")
    take_out()
    wait_until(lambda: "registry.damped" in scene.warnings(), what="the damping is shown")
    note("seconds of the fight", round(time.monotonic() - began, 1))
    time.sleep(3)
    ups = [a for a in proxy.since(began, methods=["PUT"]) if a.path.endswith("service/register")]
    assert len(ups) == UPS - 1  # the first was before the fight
    assert scene.at_agent() is None
    assert scene.agent.row(scene.name)["flaps"] == UPS - 1  # those that were made good
    assert scene.agent.row(scene.name)["phase"] == "ready"
    assert scene.journal().count("registry.taken_out") == 4  # at 1, 2, 4, 8


@pytest.mark.checklist(
    30,
    "two services",
    "entries that Consul cannot take (Meta too long), documents that do not fit",
    "that one is named with the exact reason, nothing half-registered, the other served",
)
def test_what_is_invalid_is_named_and_keeps_nobody_else_from_being_registered(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    bad, good = unique("bad"), unique("good")
    services = {bad: web(meta={"long": "x" * 600}), good: web()}
    scene = make_scene(make_agent, own_consul, services=services)
    answer = scene.agent.cli("config", "check", "-c", str(scene.agent.config))
    if answer.code != 0:  # refused before anything runs, with its place
        assert "long" in answer.out + answer.err
        services[bad] = web()
        scene.agent.configure(services)
    scene.agent.start()
    scene.catalog.wait_passing(good, scene.id(good))
    for document in ('{"port": -1}', '{"state": "running", "meta": {}}', "x" * 20_000, "{"):
        scene.desired(bad, document)
        wait_until(
            lambda: (
                scene.agent.cli("status", bad, "-o", "json")
                .json[0]["reasons"][-1]["code"]
                .startswith("kv.")
            )
        )
    assert scene.agent.row(bad)["phase"] == "ready"
    assert scene.agent.row(good)["phase"] == "ready"
    assert Catalog(own_consul).passing(good, scene.id(good))
    scene.desired("a.name.with.dots", {"state": "stopped"})
    wait_until(lambda: "a.name.with.dots" in scene.warnings())


@pytest.mark.checklist(
    29,
    "one service name on two Consul nodes, an agent each",
    "the entry of one is withdrawn",
    "two instances with ids of their own; the other one stays",
)
def test_two_nodes_have_an_instance_each_and_one_may_go(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("both")
    scenes = [make_scene(make_agent, own_consul, services={name: web()}) for _ in range(2)]
    for scene in scenes:
        scene.started()
    ids = {scene.id() for scene in scenes}
    assert set(Catalog(own_consul).entries(name)) == ids
    assert scenes[0].agent.down().code == 0
    wait_until(lambda: set(Catalog(own_consul).entries(name)) == {scenes[1].id()})
    assert Catalog(own_consul).passing(name, scenes[1].id())


@pytest.mark.checklist(
    22,
    "five running services",
    "the agent ends with --keep and another begins",
    "no deregistration, no restart, no critical sample",
)
def test_another_agent_takes_over_and_nobody_notices(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, 5, proxy=proxy).started()
    pids, began = scene.pids(), time.monotonic()
    with Sampler(scene).looking() as samples:
        assert scene.agent.down("--keep").code == 0
        time.sleep(0.5)
        scene.started()
        time.sleep(1)
    note("samples", samples.samples)
    assert samples.never_but_passing, samples.seen
    assert scene.pids() == pids
    assert scene.restarts() == 0
    gone = [a for a in proxy.writes_since(began) if "deregister" in a.path]
    assert [a.path for a in gone if not a.path.endswith(scene.id("lictor"))] == []


@pytest.mark.checklist(
    7,
    "services that an earlier run of this installation registered",
    "the agent was killed; the config no longer has one of them",
    "the stale entry is swept within a round, by its owner and nothing else",
)
def test_stale_entries_of_an_earlier_run_are_swept(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    port = free_port()
    services = {unique("stays"): web(), unique("goes"): service(child("good", port=port), port)}
    scene = make_scene(make_agent, own_consul, services=services).started()
    goes = scene.names[1]
    scene.agent.kill9()
    # As if it had vanished with the host: neither its process nor what is known of it is left.
    scene.agent.configure({scene.names[0]: services[scene.names[0]]})
    assert scene.id(goes) in scene.catalog.entries(goes)
    scene.agent.start()
    took = seconds_until(lambda: scene.catalog.entries(goes) == {}, within=15)
    note("seconds until it is swept", took)
    scene.catalog.wait_passing(scene.name, scene.id())
