"""Finding services: with an agent and without, while Consul is away, and as it changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, service, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import child, free_port
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def rows_of(agent: RunningAgent, *args: str) -> dict[str, dict[str, Any]]:
    """The rows of `lictor discover`, by the last part of the id; none before Consul knows any."""
    said = agent.cli("discover", *args, "-o", "json")
    rows = [] if said.code in {4, 6} else said.json
    return {row["id"].rpartition(":")[2]: row for row in rows}


def test_it_says_since_when_each_is_as_it_is_and_why_one_is_left_out(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    group, good, bad, stopped = (unique(word) for word in ("voice", "good", "bad", "stopped"))
    port = free_port()
    services = {
        good: web(group=group, rank=2, tags=["gpu"]),
        bad: service(
            child("turn-bad", port=port, seconds=2),
            port,
            group=group,
            rank=1,
            health={"http": "/", "interval": "1s", "on_unhealthy": "ignore"},
        ),
        stopped: web(activation="manual", group=group),
    }
    agent = make_agent(services, consul=own_consul.http).start()
    agent.wait_ready(good)
    wait_until(
        lambda: "500" in str(rows_of(agent, group).get(bad, {}).get("sentence")), what="it fails"
    )
    rows = rows_of(agent, group)
    assert set(rows) == {good, bad}
    assert (rows[good]["left_out"], rows[good]["sentence"]) == (False, None)
    assert rows[good]["age_s"] >= 0
    assert rows[bad]["reason"] == "left_out.critical"
    everybody = rows_of(agent, group, "--all")
    assert everybody[stopped]["reason"] == "left_out.not_registered"
    assert everybody[stopped]["health"] is None
    assert set(rows_of(agent, group, "--tag", "gpu")) == {good}
    tagged = rows_of(agent, group, "--tag", "gpu", "--all")
    assert tagged[bad]["reason"] == "left_out.tag"
    assert set(rows_of(agent, group, "--near", "_agent")) == {good, bad}
    shown = agent.cli("discover", bad, "--all")
    assert shown.code == 3
    assert "DNS leaves it out" in shown.out
    everything = agent.cli("discover", "-o", "json").json
    assert {row["service"] for row in everything} >= {group, good, bad, "lictor", "consul"}


def test_a_member_that_stands_by_is_told_as_such(make_agent: MakeAgent, own_consul: ConsulServer):
    group, best, second = unique("voice"), unique("best"), unique("second")
    services = {best: web(group=group, rank=1), second: web(group=group, rank=2)}
    agent = make_agent(services, consul=own_consul.http).start()
    agent.wait_ready(best, second)
    wait_until(lambda: rows_of(agent, group).get(second, {}).get("reason") == "left_out.standby")
    assert rows_of(agent, group)[second]["left_out"] is False  # `service.consul` gives it
    resolved = agent.cli("resolve", group, "-o", "json").json
    assert {one["port"] for one in resolved["answers"]} == {
        services[best]["port"],
        services[second]["port"],
    }
    assert [one["port"] for one in resolved["also"]["answers"]] == [services[best]["port"]]
    asked = agent.cli("resolve", group, "--query", "-o", "json").json
    assert [row["reasons"][0]["code"] for row in asked["left_out"]] == ["left_out.standby"]
    assert asked["question"] == f"{group}.query.consul"
    assert agent.cli("unregister", best).code == 0
    wait_until(
        lambda: (
            rows_of(agent, group, "--all").get(best, {}).get("reason") == "left_out.unregistered"
        ),
        what="both of its entries are gone",
    )


def test_while_consul_is_away_the_last_answer_is_given_with_its_age(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("kept")
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    fresh = agent.cli("discover", name)
    assert (fresh.code, fresh.err) == (0, "")
    own_consul.kill()
    old = agent.cli("discover", name, "-o", "json")
    assert old.code == 0
    assert "this is what it said" in old.err
    (row,) = old.json
    assert row["cached"] is True
    assert row["answer_age_s"] > 0
    # Straight at Consul there is no memory, and DNS has none either.
    assert agent.cli("resolve", name).code == 6
    own_consul.restart()
    wait_until(lambda: agent.cli("discover", name).err == "", what="Consul's own answer again")


def test_resolve_tells_what_dns_answers_and_whom_it_is_silent_about(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("asked")
    agent = make_agent({name: web(tags=["cpu"])}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    found = agent.cli("resolve", name, "-o", "json").json
    assert found["a"] == ["127.0.0.1"]
    assert found["aaaa"] == []
    assert found["also"] is None
    assert found["sentence"] is None
    assert agent.cli("resolve", name, "--tag", "cpu").code == 0
    assert agent.cli("resolve", f"{own_consul.node}.node.consul").code == 0  # a node has no SRV
    wrong = agent.cli("resolve", name, "--tag", "gpu")
    assert wrong.code == 3
    assert "It does not carry the tag gpu." in wrong.err
    nobody = agent.cli("resolve", "nobody-of-this-name", "-o", "json")
    assert nobody.code == 4
    assert nobody.json["reason"] == "dns.nxdomain"
    maintenance = f"agent/service/maintenance/{agent.entry_id(name)}?enable=true&reason=driver"
    assert own_consul.raw("PUT", maintenance).status == 200
    wait_until(lambda: agent.cli("resolve", name).code == 3)
    assert "it is in maintenance" in agent.cli("resolve", name).err
    # Without an agent, the same from Consul alone.
    agent.kill9()
    alone = agent.cli("resolve", name, env={"CONSUL_HTTP_ADDR": own_consul.http})
    assert "it is in maintenance" in alone.err
    listed = agent.cli("discover", name, env={"CONSUL_HTTP_ADDR": own_consul.http})
    assert "DNS leaves it out" in listed.out
    assert "asking Consul directly" in listed.err


def test_many_instances_are_all_found_although_consul_cuts_what_it_says_over_udp(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("many")
    for number in range(150):
        body = {"ID": f"{name}-{number}", "Name": name, "Port": 1000 + number}
        assert own_consul.raw("PUT", "agent/service/register", body).status == 200
    agent = make_agent({}, consul=own_consul.http)
    wait_until(lambda: len(Catalog(own_consul).entries(name)) == 150)
    found = agent.cli("resolve", name, "-o", "json", env={"CONSUL_HTTP_ADDR": own_consul.http}).json
    assert len(found["answers"]) == 150
    assert found["protocol"] == "tcp"
    assert found["left_out"] == []


@contextmanager
def watching(agent: RunningAgent, *args: str) -> Iterator[Path]:
    """`lictor discover --watch`, and the file of what it prints."""
    out = agent.dir / "watched"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "lictor", "discover", "--watch", *args],
            env={**agent.env, "LICTOR_DATA_DIR": str(agent.data_dir)},
            cwd=agent.dir,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield out
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130, out.read_text()


def test_a_watch_tells_each_change_and_outlives_consul(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("seen")
    agent = make_agent({name: web(restart={"backoff": "2s"})}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    with watching(agent, name) as out:
        wait_until(lambda: "passing" in out.read_text(), what="the first answer")
        os.kill(agent.service_pid(name), signal.SIGKILL)
        wait_until(lambda: "critical" in out.read_text(), what="the crash")
        wait_until(lambda: out.read_text().splitlines()[-1].count("passing"), what="the return")
        own_consul.kill()
        wait_until(lambda: "this is what it said" in out.read_text(), what="the outage")
        own_consul.restart()
        own_consul.raw("PUT", f"agent/service/deregister/{agent.entry_id('lictor')}")
        assert agent.cli("stop", name, "--wait").code == 0
        wait_until(lambda: "is gone" in out.read_text(), what="the end")
    lines = out.read_text().splitlines()
    assert len([line for line in lines if "DNS leaves it out" in line]) >= 1
    with watching(agent, "-o", "json") as out:
        rows = wait_until(lambda: out.read_text().splitlines(), what="all services")
        assert {row["service"] for row in json.loads(rows[0])} >= {"consul", "lictor"}


def test_a_watch_follows_the_spelling_that_somebody_has(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    agent = make_agent({}, consul=own_consul.http).start()
    foreign = {"Name": "foreign_srv", "ID": "foreign-7", "Port": 4}
    assert own_consul.raw("PUT", "agent/service/register", foreign).status == 200
    wait_until(lambda: agent.cli("discover", "foreign_srv").out)
    with watching(agent, "foreign_srv") as out:
        wait_until(lambda: "foreign-7" in out.read_text(), what="the first answer")
    said = agent.cli("discover", "foreign_srv", "--watch", "--near", "_agent")
    assert said.code == 2
    assert "--near" in said.err


def test_the_next_agent_answers_from_disk_while_consul_is_away(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("kept")
    foreign = {"Name": "foreign", "ID": "foreign-1", "Port": 4, "Tags": ["theirs"]}
    assert own_consul.raw("PUT", "agent/service/register", foreign).status == 200
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    assert agent.cli("discover").code == 0  # an answer about everything is kept
    own_consul.kill()
    agent.kill9()
    agent.start()
    agent.wait_ready(name)
    wait_until(lambda: agent.consul_state() != "ok")
    said = agent.cli("discover", "foreign", "-o", "json")
    assert said.code == 0, said
    (row,) = said.json
    assert (row["id"], row["port"], row["tags"]) == ("foreign-1", 4, ["theirs"])
    assert row["cached"] is True
    assert 0 < row["answer_age_s"] < 120
    assert "this is what it said" in said.err
    ours = agent.cli("discover", name, "-o", "json").json
    assert [row["id"] for row in ours] == [agent.entry_id(name)]
    assert agent.cli("discover", "never-heard-of").code == 4
    own_consul.restart()
    wait_until(
        lambda: agent.cli("discover", name, "-o", "json").json[0]["cached"] is False,
        what="Consul is asked again",
    )
