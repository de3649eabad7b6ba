"""What Lictor is for: config in; supervised, registered, checked, discoverable services out."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from typing import Any
from urllib.request import urlopen

import dns.message
import dns.query
import dns.rdatatype
import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, plain, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, free_port
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

STATUS_FIELDS = {
    *("name", "instance", "node", "driver", "desired", "phase", "health", "sentence", "reason"),
    *("reason_params", "pid", "container_id", "address", "port", "uptime_s", "restarts"),
    *("cpu_percent", "memory_mb", "last_error", "registered"),
}
DISCOVER_FIELDS = {"service", "id", "node", "address", "port", "tags", "meta", "health", "output"}


def test_a_config_becomes_a_supervised_registered_checked_and_found_service(
    make_agent: MakeAgent, consul: ConsulServer
):
    name, port = unique("web"), free_port()
    definition = web(port=port, tags=["tts", "cpu"], meta={"team": "voice"})
    agent = make_agent({name: definition}, consul=consul.http).start()
    catalog, entry_id = Catalog(consul), agent.entry_id(name)
    agent.wait_ready(name)
    catalog.wait_passing(name, entry_id)

    entry = catalog.entries(name)[entry_id]["Service"]
    assert (entry["Address"], entry["Port"]) == ("127.0.0.1", port)
    assert sorted(entry["Tags"]) == ["cpu", "tts"]
    assert entry["Meta"]["lictor-owner"] == agent.id
    assert entry["Meta"]["lictor-node"] == agent.node
    assert entry["Meta"]["lictor-driver"] == "process"
    assert entry["Meta"]["team"] == "voice"
    assert set(catalog.checks(name, entry_id)) == {"http", "lictor"}
    understood = consul.understood()[f"{entry_id}:http"]
    assert understood["HTTP"] == f"http://127.0.0.1:{port}/"
    assert understood["Interval"] == 1_000_000_000
    assert understood["DeregisterCriticalServiceAfter"] >= 600 * 1_000_000_000

    rows = agent.cli("status", "-o", "json")
    assert rows.code == 0
    row = rows.json[0]
    assert row.keys() >= STATUS_FIELDS
    assert (row["name"], row["phase"], row["health"]) == (name, "ready", "passing")
    assert (row["node"], row["port"], row["restarts"]) == (agent.node, port, 0)
    assert row["registered"] is True
    assert row["memory_mb"] > 0
    assert agent.processes() == [row["pid"]]
    assert agent.cli("plan", "-o", "json").json == []

    found = agent.cli("discover", name, "-o", "json")
    assert found.code == 0
    assert [one.keys() >= DISCOVER_FIELDS for one in found.json] == [True]
    assert (found.json[0]["id"], found.json[0]["health"]) == (entry_id, "passing")
    resolved = agent.cli("resolve", name, "-o", "json")
    assert resolved.code == 0
    assert [(one["address"], one["port"]) for one in resolved.json["answers"]] == [
        ("127.0.0.1", port)
    ]


def test_lictor_itself_is_registered_with_an_http_check_that_passes(
    make_agent: MakeAgent, consul: ConsulServer
):
    agent = make_agent({}, consul=consul.http).start()
    catalog, own = Catalog(consul), agent.entry_id("lictor")
    catalog.wait_passing("lictor", own)
    url = consul.understood()[f"{own}:http"]["HTTP"]
    entry = catalog.entries("lictor")[own]["Service"]
    assert url == f"http://127.0.0.1:{entry['Port']}/health"
    with urlopen(url, timeout=5) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("transport", [dns.query.udp, dns.query.tcp], ids=["udp", "tcp"])
def test_whoever_asks_dns_for_srv_can_connect_to_what_it_answers(
    transport: Any, dns_agent: tuple[RunningAgent, str], consul: ConsulServer
):
    _, name = dns_agent
    question = dns.message.make_query(f"{name}.service.consul.", "SRV")

    def ask() -> Any:
        answer = transport(question, "127.0.0.1", port=consul.dns_port, timeout=5)
        return answer if answer.answer else None

    answer = wait_until(ask, what="DNS answers")
    (record,) = answer.answer[0]
    (address,) = [
        item.address
        for rrset in answer.additional
        if rrset.rdtype == dns.rdatatype.A and rrset.name == record.target
        for item in rrset
    ]
    line = http.client.HTTPConnection(address, record.port, timeout=5)
    line.request("GET", "/")
    assert line.getresponse().status == 200
    line.close()


@pytest.fixture(scope="module")
def dns_agent(consul: ConsulServer):
    name = unique("dns")
    with RunningAgent({name: web()}, consul=consul.http) as agent:
        agent.wait_ready(name)
        Catalog(consul).wait_passing(name, agent.entry_id(name))
        yield agent, name


def test_a_killed_service_is_critical_at_once_and_comes_back_by_itself(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("crash")
    definition = web(restart={"backoff": "10s"})  # long enough to look at it meanwhile
    definition["health"]["interval"] = "60s"  # only the supervisor can know it so soon
    agent = make_agent({name: definition}, consul=consul.http).start()
    catalog, entry_id = Catalog(consul), agent.entry_id(name)
    agent.wait_ready(name)
    catalog.wait_passing(name, entry_id)
    pid = agent.service_pid(name)

    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _, said = wait_until(
        lambda: (found := catalog.checks(name, entry_id)["lictor"])[0] == "critical" and found,
        within=15,
        what="critical in the catalog",
    )
    assert time.monotonic() - killed < 15
    assert "KILL" in said
    row = agent.row(name)
    assert "KILL" in row["sentence"]
    table = agent.cli("status", name)
    assert table.code == 3
    assert "KILL" in table.out

    agent.wait_ready(name)
    catalog.wait_passing(name, entry_id)  # the check's own next turn is a minute away
    assert time.monotonic() - killed < 50
    row = agent.row(name)
    assert row["restarts"] == 1
    assert "1" in row["sentence"]
    assert row["pid"] != pid
    assert not alive(pid)


def test_entries_of_others_are_never_touched(make_agent: MakeAgent, consul: ConsulServer):
    shared, taken, quiet = unique("shared"), unique("taken"), unique("quiet")
    node = unique("node")
    foreign = [
        {"ID": f"{shared}-of-somebody", "Name": shared, "Port": 1, "Meta": {"who": "else"}},
        # Our very id, and ids that look like ours, with another owner or none.
        {"ID": f"lictor:{node}:{taken}", "Name": taken, "Port": 2, "Meta": {"lictor-owner": "x"}},
        {"ID": f"lictor:{node}:{quiet}", "Name": quiet, "Port": 3},
        {"ID": f"lictor:{node}:{shared}:a", "Name": shared, "Port": 4},
    ]
    for entry in foreign:
        assert consul.raw("PUT", "agent/service/register", entry).status == 200

    def theirs() -> list[Any]:
        services = consul.raw("GET", "agent/services").json
        return [services.get(entry["ID"]) for entry in foreign]

    try:
        before = theirs()
        assert None not in before
        agent = make_agent({shared: web(), taken: web()}, consul=consul.http, node=node).start()
        agent.wait_ready(shared, taken)
        Catalog(consul).wait_passing(shared, agent.entry_id(shared))
        wait_until(lambda: f"lictor:{node}:{taken}" in agent.cli("status").err, what="a warning")
        assert agent.cli("restart", taken, "--wait").code == 0
        assert theirs() == before
        assert agent.cli("stop", shared, taken, "--wait").code == 0
        Catalog(consul).wait_gone(shared, agent.entry_id(shared))
        assert theirs() == before
        assert agent.down().code == 0
        assert theirs() == before
    finally:
        for entry in foreign:
            consul.raw("PUT", f"agent/service/deregister/{entry['ID']}")


@pytest.mark.slow
def test_nothing_is_written_to_consul_while_nothing_changes(
    make_agent: MakeAgent, consul: ConsulServer
):
    names = [unique("still"), unique("still")]
    bare = unique("still")
    services = {**{name: web(tags=["a"]) for name in names}, bare: plain()}
    agent = make_agent(services, consul=consul.http).start()
    catalog = Catalog(consul)
    consul.put_kv(f"lictor/desired/{agent.node}/{bare}", {"state": "running", "by": "anna"})
    agent.wait_ready(*names, bare)
    every = [*names, bare, "lictor"]
    for name in every:
        catalog.wait_passing(name, agent.entry_id(name))

    def indexes() -> dict[str, int]:
        found: dict[str, int] = {}
        for name in every:
            entry = catalog.entries(name)[agent.entry_id(name)]
            found[name] = entry["Service"]["ModifyIndex"]
            found |= {
                check["CheckID"]: check["ModifyIndex"]
                for check in entry["Checks"]
                if check["ServiceID"]
            }
        for folder in (f"actual/{agent.node}", f"desired/{agent.node}", f"nodes/{agent.node}"):
            keys = consul.raw("GET", f"kv/lictor/{folder}?recurse").json or []
            found |= {item["Key"]: item["ModifyIndex"] for item in keys}
        return found

    def settled() -> bool:
        # The node's document is written again once, when the agent's own page has its address.
        if not json.loads(consul.get_kv(f"lictor/nodes/{agent.node}") or "{}").get("ui"):
            return False
        before = indexes()
        time.sleep(3)
        return indexes() == before

    wait_until(settled, within=30, what="Consul's indexes come to rest")
    before = indexes()
    assert f"lictor/actual/{agent.node}/{bare}" in before
    time.sleep(25)  # two full comparisons, and checks that keep passing
    assert indexes() == before
