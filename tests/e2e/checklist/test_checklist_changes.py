"""Checklist: what people change, all at once, at the same time as others, or by another name."""

from __future__ import annotations

import base64
import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.checklist.scene import Note, Proxied, Scene, make_scene, seconds_until
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import service, web
from tests.support.agent import unique, wait_until
from tests.support.children import alive, child, free_port
from tests.support.consul import ConsulServer
from tests.support.hog import Hog

pytestmark = pytest.mark.consul


@contextmanager
def looking(look: Callable[[], object]) -> Iterator[list[object]]:
    """What `look` says, again and again, while the block runs."""
    seen: list[object] = []
    end = threading.Event()

    def run() -> None:
        while not end.wait(0.02):
            seen.append(look())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join(20)


# --- another name -------------------------------------------------------------------------------


@pytest.mark.checklist(
    31,
    "a registered service that takes seconds to load",
    "it gets another name and port in the config, reload",
    "the new name passes in the catalog before the old one goes; never nobody",
)
def test_a_renamed_service_is_there_under_its_new_name_before_the_old_one_goes(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    def loading() -> dict[str, Any]:
        port = free_port()
        return service(child("slow-start", port=port, seconds=3), port)

    old, new = unique("old"), unique("new")
    scene = make_scene(make_agent, own_consul, services={old: loading()}).started()
    pid, began = scene.agent.service_pid(old), time.monotonic()

    def passing() -> tuple[bool, bool]:
        return (
            scene.catalog.passing(old, scene.id(old)),
            scene.catalog.passing(new, scene.id(new)),
        )

    with looking(passing) as seen:
        scene.agent.configure({new: loading()})
        assert scene.agent.cli("reload").code == 0
        scene.catalog.wait_passing(new, scene.id(new))
        scene.catalog.wait_gone(old, scene.id(old))
        time.sleep(0.3)
    note("seconds until the old name is gone", round(time.monotonic() - began, 1))
    assert len(seen) > 20
    # Two questions, one after the other: at the switch the first may be too early for the second.
    assert [pair for pair in seen if pair == (False, False)] == []
    assert (True, True) in seen
    wait_until(lambda: not alive(pid))
    assert {row["name"] for row in scene.agent.status()} == {new}
    assert scene.restarts() == 0
    assert "config.renamed" in scene.journal()


@pytest.mark.checklist(
    31,
    "a registered service on a fixed port",
    "it gets another name and keeps its port, reload",
    "the old one ends first, and the new one starts at once: no failed start, no back-off",
)
def test_a_renamed_service_that_keeps_its_port_starts_as_soon_as_the_port_is_free(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note
):
    port, old, new = free_port(), unique("old"), unique("new")
    slow = service(child("slow-term", port=port, seconds=2), port)
    scene = make_scene(make_agent, own_consul, services={old: slow}).started()
    began = time.monotonic()
    scene.agent.configure({new: copy.deepcopy(slow)})
    assert scene.agent.cli("reload").code == 0
    scene.catalog.wait_passing(new, scene.id(new))
    note("seconds from reload until the new name passes", round(time.monotonic() - began, 1))
    scene.catalog.wait_gone(old, scene.id(old))
    assert scene.restarts() == 0
    told = scene.journal()
    assert "start.port_taken" not in told
    assert "renamed.waits" in told
    scene.agent.configure({})  # a service that is merely taken out has no heir, and ends
    assert scene.agent.cli("reload").code == 0
    wait_until(lambda: scene.agent.processes() == [])
    scene.catalog.wait_gone(new, scene.id(new))


# --- very many ----------------------------------------------------------------------------------


@pytest.mark.checklist(
    34,
    "an agent with a hundred services, and a document for each of them",
    "Consul is restarted empty: all of it is to be written again",
    "in a few transactions, the sentinel last: whoever sees it sees every document",
)
def test_very_many_keys_are_written_in_transactions_and_readers_see_all_or_nothing(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy, count = proxied(own_consul), 100
    names = [unique("many") for _ in range(count)]
    services = {
        name: {"driver": "observed", "port": 20_000 + number, "health": "none"}
        for number, name in enumerate(names)
    }
    scene = make_scene(make_agent, own_consul, proxy=proxy, services=services)
    scene.agent.start()
    folder = f"lictor/desired/{scene.agent.node}"
    wait_until(lambda: own_consul.get_kv(f"{folder}/_lictor"))
    for name in names:
        scene.desired(name, {"state": "running", "by": "anna"})
    actual = f"kv/lictor/actual/{scene.agent.node}/"

    def told() -> list[bytes]:
        """What is published of each service."""
        found = own_consul.raw("GET", f"{actual}?recurse").json or []
        return [base64.b64decode(item["Value"]) for item in found]

    wait_until(
        lambda: sum(b'"by": "anna"' in text for text in told()) == count,
        what="every document is in force",
    )
    own_consul.restart(wipe=True)
    began, half = time.monotonic(), 0
    while True:
        found = own_consul.raw("GET", f"kv/{folder}/?keys").json or []
        documents = sum(not key.endswith("/_lictor") for key in found)
        half += 0 < documents < count
        if f"{folder}/_lictor" in found:
            break
        assert time.monotonic() - began < 40, found
        time.sleep(0.005)
    assert documents == count  # in the very answer that first has the sentinel
    wait_until(lambda: len(told()) == count, what="the actual state is published again")
    note("seconds until the documents are back", round(time.monotonic() - began, 2))
    note("transactions", len([a for a in proxy.since(began) if a.path.startswith("/v1/txn")]))
    puts = [a.path for a in proxy.writes_since(began) if "/v1/kv/lictor/" in a.path]
    assert len(puts) < 10, puts  # sentinels and the lease; never a request for each document


# --- two writers --------------------------------------------------------------------------------


@pytest.mark.checklist(
    35,
    "a service of which somebody else writes the document all the time",
    "`lictor stop`, whose compare-and-set loses each time",
    "the command fails and shows both versions; theirs stands",
)
def test_a_command_that_loses_against_another_writer_shows_both_versions(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, proxy=proxy).started()
    path, turns = f"/v1/kv/lictor/desired/{scene.agent.node}/{scene.name}", iter(range(10_000))

    def overtake(method: str, asked: str) -> str:
        if method == "PUT" and asked.startswith(path):
            scene.desired(scene.name, {"state": "running", "by": f"bert{next(turns)}"})
        return ""

    proxy.fault = overtake
    answer = scene.agent.cli("stop", scene.name)
    proxy.be_honest()
    assert answer.code == 1, answer
    assert '"state": "stopped"' in answer.err
    assert '"by": "bert' in answer.err
    assert "bert" in (own_consul.get_kv(path.removeprefix("/v1/kv/")) or "")
    assert scene.agent.row(scene.name)["phase"] == "ready"
    assert scene.agent.cli("stop", scene.name, "--wait").code == 0  # and now it can be done


@pytest.mark.checklist(
    35,
    "an order given while Consul is away",
    "somebody changes the same document before it can be written",
    "theirs stands, the order is dropped; the journal has both versions",
)
def test_an_order_that_was_overtaken_meanwhile_is_told_with_both_versions(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, proxy=proxy).started()
    proxy.lie("cut")
    wait_until(lambda: scene.agent.consul_state() != "ok")
    assert scene.agent.cli("stop", scene.name, "--wait").code == 0
    scene.desired(scene.name, {"state": "running", "by": "bert"})
    proxy.be_honest()
    scene.agent.wait_ready(scene.name)
    told = wait_until(lambda: overtaken(scene), what="the journal tells it")
    assert '"by": "bert"' in told["theirs"]
    assert '"state": "stopped"' in told["ours"]
    document = json.loads(
        own_consul.get_kv(f"lictor/desired/{scene.agent.node}/{scene.name}") or ""
    )
    assert document == {"state": "running", "by": "bert"}


def overtaken(scene: Scene) -> dict[str, Any] | None:
    rows = scene.agent.cli("events", "-n", "200", "-o", "json").json
    found = [row["reason_params"] for row in rows if row["reason"] == "pending.overtaken"]
    return found[0] if found else None


# --- a Consul that limits its rate --------------------------------------------------------------


@pytest.mark.checklist(
    27,
    "two services, a proxy before Consul",
    "every other request is refused with 429 (a limit of requests)",
    "registrations, orders in KV and desired state go on; nothing stopped, nothing taken out",
)
def test_a_consul_that_limits_its_rate_stops_no_progress(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy, later = proxied(own_consul), unique("later")
    services = {unique("first"): web(), later: web(activation="manual")}
    scene = make_scene(make_agent, own_consul, proxy=proxy, services=services)
    turns = iter(range(1_000_000))
    proxy.fault = lambda _method, _path: "429" if next(turns) % 2 else ""
    began = time.monotonic()
    scene.agent.start()
    scene.agent.wait_ready(scene.name)
    note("seconds until registered", seconds_until(lambda: scene.at_agent() is not None))
    scene.catalog.wait_passing(scene.name, scene.id())
    wait_until(lambda: own_consul.get_kv(f"lictor/desired/{scene.agent.node}/_lictor"))
    pid = scene.agent.service_pid(scene.name)
    scene.desired(later, {"state": "running"})
    note("seconds from an order to its deed", seconds_until(lambda: ready(scene, later)))
    scene.catalog.wait_passing(later, scene.id(later))
    assert scene.agent.cli("stop", later, "--wait").code == 0
    scene.catalog.wait_gone(later, scene.id(later))
    rate = len(proxy.asked) / (time.monotonic() - began)
    note("requests per second", round(rate, 1))
    assert rate < 40
    assert scene.agent.service_pid(scene.name) == pid
    gone = [a.path for a in proxy.asked if "service/deregister" in a.path]
    assert all(path.endswith(scene.id(later)) for path in gone), gone
    proxy.be_honest()
    scene.agent.consul_state()
    wait_until(lambda: scene.agent.consul_state() == "ok")


def ready(scene: Scene, name: str) -> bool:
    return bool(scene.agent.row(name)["phase"] == "ready")


@pytest.mark.checklist(
    27,
    "a Consul that takes 24 connections from one address",
    "another program holds all that are left",
    "services run on and are restarted; all true within 10 s when there is room again",
)
def test_a_consul_without_a_free_connection_stops_nothing(
    make_agent: MakeAgent, consul_bin: str, note: Note
):
    limits = {"limits": {"http_max_conns_per_client": 24}}
    server = ConsulServer(consul_bin, extra=limits)
    try:
        scene = make_scene(make_agent, server.start(), 2).started()
        pids = scene.pids()
        with Hog(server) as hog:
            time.sleep(20)  # kept connections are closed meanwhile, and new ones are refused
            note("connections of somebody else", len(hog.lines))
            assert len(hog.lines) > 5
            assert scene.pids() == pids
            assert scene.restarts() == 0
        took = seconds_until(lambda: scene.agent.consul_state() == "ok")
        note("seconds until in sync", took)
        scene.wait_all_passing()
        assert scene.pids() == pids
    finally:
        server.close()
