"""Checklist: the agent dies at the worst moment, its memory is damaged, its Consul is crowded."""

from __future__ import annotations

import http.client
import json
import time

import psutil
import pytest

from tests.e2e.checklist.scene import Note, Proxied, make_scene, seconds_until
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import service, web
from tests.support.agent import unique, wait_until
from tests.support.children import alive, child, free_port
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


@pytest.mark.checklist(
    20,
    "registrations hang",
    "the agent is killed after the process was started, before it is registered",
    "the next agent adopts the same pid and registers it; no second process",
)
def test_a_process_that_nobody_registered_is_adopted_and_registered(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, proxy=proxy)
    proxy.lie("hang", method="PUT", path="service/register")
    scene.agent.start()
    scene.agent.wait_ready(scene.name)
    wait_until(lambda: any("service/register" in a.path for a in proxy.asked))
    pid = scene.agent.service_pid(scene.name)
    assert scene.at_agent() is None
    scene.agent.kill9()
    proxy.be_honest()
    scene.started()
    assert scene.agent.service_pid(scene.name) == pid
    assert scene.agent.processes() == [pid]
    assert scene.restarts() == 0


@pytest.mark.checklist(
    21,
    "a service that takes seconds to end",
    "the agent is killed while it stops the service",
    "the next agent finishes the stop; it is not registered again",
)
def test_a_stop_that_the_agent_did_not_live_to_see_is_finished(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    port = free_port()
    # Long enough that the agent dies in the middle of it, and it is not killed for its slowness.
    stop = {"timeout": "20s", "pause": "0s"}
    slow = service(child("slow-term", port=port, seconds=8), stop=stop)
    scene = make_scene(make_agent, own_consul, services={unique("slow"): slow}).started()
    pid = scene.agent.service_pid(scene.name)
    assert scene.agent.cli("stop", scene.name).code == 0
    scene.agent.wait_phase(scene.name, "stopping")
    scene.agent.kill9()
    scene.agent.start()
    scene.agent.wait_phase(scene.name, "stopped")
    wait_until(lambda: not alive(pid))
    scene.catalog.wait_gone(scene.name, scene.id())
    time.sleep(2)
    assert scene.catalog.entries(scene.name) == {}
    assert scene.agent.processes() == []


@pytest.mark.checklist(
    37,
    "500 foreign services in the catalog",
    "hundreds of writes per second to keys that are not ours",
    "at most ten requests per second from us, hardly any CPU",
)
def test_a_crowded_and_busy_consul_is_not_asked_more(
    make_agent: MakeAgent, own_consul: ConsulServer, proxied: Proxied, note: Note
):
    proxy = proxied(own_consul)
    scene = make_scene(make_agent, own_consul, proxy=proxy).started()
    line = http.client.HTTPConnection("127.0.0.1", own_consul.http_port, timeout=20)

    def put(path: str, body: object) -> None:
        line.request("PUT", f"/v1/{path}", json.dumps(body))
        line.getresponse().read()

    for number in range(500):
        put("agent/service/register", {"ID": f"crowd-{number}", "Name": f"crowd-{number % 50}"})
    time.sleep(2)
    process = psutil.Process(scene.agent.pid)
    began, used = time.monotonic(), sum(process.cpu_times()[:2])
    writes = 0
    while time.monotonic() < began + 10:
        put(f"kv/elsewhere/{writes % 100}", writes)
        writes += 1
    took = time.monotonic() - began
    line.close()
    rate = len(proxy.since(began)) / took
    cpu = (sum(process.cpu_times()[:2]) - used) / took
    note("unrelated writes per second", round(writes / took))
    note("our requests per second", round(rate, 2))
    note("our CPU, share of a core", round(cpu, 3))
    assert writes / took > 50
    assert rate <= 10
    assert cpu < 0.25  # aimed at 0.05
    assert scene.agent.row(scene.name)["phase"] == "ready"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "gone"])
@pytest.mark.checklist(
    39,
    "a running service, the agent killed",
    "its memory on disk is garbage, cut in half, empty or gone",
    "it starts, finds its processes and its entries again, and says what happened",
)
def test_an_agent_whose_memory_is_damaged_finds_everything_again(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note, damage: str
):
    scene = make_scene(make_agent, own_consul, 2).started()
    pids = scene.pids()
    scene.agent.kill9()
    memory = scene.agent.data_dir / "state.db"
    whole = memory.read_bytes()
    for beside in scene.agent.data_dir.glob("state.db-*"):
        beside.unlink()
    if damage == "gone":
        memory.unlink()
    else:
        content = {"garbage": b"\xff" * 8192, "truncated": whole[: len(whole) // 2], "empty": b""}
        memory.write_bytes(content[damage])
    scene.agent.start()
    note("seconds until all pass", seconds_until(lambda: scene.phases() == {"ready"}))
    assert scene.pids() == pids
    scene.settle()
    assert sorted(scene.agent.processes()) == sorted(pid for pid in pids.values() if pid)
    if damage == "garbage":  # the others look like a memory that is merely short
        assert "state.db.damaged" in scene.agent.cli("status").err


@pytest.mark.checklist(
    38,
    "a running service, Consul frozen",
    "`lictor down` and `lictor down --keep`",
    "both end in bounded time without Consul",
)
@pytest.mark.parametrize("keep", [False, True])
def test_the_end_is_bounded_without_consul(
    make_agent: MakeAgent, own_consul: ConsulServer, note: Note, keep: bool
):
    scene = make_scene(make_agent, own_consul, services={unique("last"): web()}).started()
    own_consul.freeze()
    try:
        began = time.monotonic()
        assert scene.agent.down(*(["--keep"] if keep else [])).code == 0
        note("seconds", round(time.monotonic() - began, 1))
        assert time.monotonic() - began < 25
        assert len(scene.agent.processes()) == int(keep)
    finally:
        own_consul.thaw()
