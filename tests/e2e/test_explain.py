"""`lictor explain` and the three states of `status --verbose`, on a whole agent and a real Consul."""

from __future__ import annotations

import shutil
import time

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, service, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import child, free_port
from tests.support.consul import ConsulServer
from tests.support.consul_cluster import Cluster

pytestmark = pytest.mark.consul


def explained(agent: RunningAgent, name: str) -> dict:
    return agent.ask("explain", {"names": [name]})[0]


def seen(told: dict) -> dict[str, str]:
    return {step["step"]: step["verdict"] for step in told["steps"]}


def wait_for(agent: RunningAgent, name: str, reason: str) -> dict:
    """The explanation as soon as it has this reason."""
    told: dict = {}

    def there() -> bool:
        told.clear()
        told.update(explained(agent, name))
        return told["reason"] == reason

    wait_until(there, what=f"{name}: {reason}, last {told}")
    return told


def test_a_service_that_can_be_found_is_ok_from_end_to_end(make_agent: MakeAgent, consul):
    name = unique("found")
    agent = make_agent({name: web()}, consul=consul.http).start()
    told = wait_for(agent, name, "explain.found")
    assert seen(told) == dict.fromkeys(
        ("desired", "process", "agent", "catalog", "check", "dns"), "ok"
    )
    done = agent.cli("explain", name)
    assert done.code == 0, done
    assert f"{name}.service.consul" in done.out
    # A note (desired state was not read yet) is gone a moment later.
    told = wait_until(lambda: not (now := explained(agent, name))["notes"] and now)
    assert agent.cli("explain", name, "-o", "json").json == told
    assert agent.cli("explain", unique("none")).code == 4
    (row,) = agent.cli("status", name, "--verbose", "-o", "json").json
    assert (row["desired"], row["registered"], row["in_catalog"]) == ("running", True, True)


def test_each_gap_names_its_own_reason_and_step(make_agent: MakeAgent, consul):
    crash, off, quiet, gone = (unique(word) for word in ("crash", "off", "quiet", "gone"))
    agent = make_agent(
        {
            # Asked for its health: without, it counts as ready if its end is seen late.
            crash: service(
                child("exit_now", count=7),
                free_port(),
                restart={"backoff": "5m", "max_backoff": "5m"},
            ),
            off: web(activation="manual"),
            quiet: web(register=False),
            gone: web(),
        },
        consul=consul.http,
    ).start()
    agent.wait_ready(quiet, gone)
    assert agent.cli("unregister", gone).code == 0
    for name, reason, step in (
        (off, "stopped.activation", "next.start"),
        (quiet, "explain.not_registered", "next.config"),
        (gone, "explain.unregistered", "next.register"),
    ):
        told = wait_for(agent, name, reason)
        assert told["next"]["reason"] == step
        assert agent.cli("explain", name).code == 3
    agent.wait_phase(crash, "backoff")
    told = explained(agent, crash)
    assert (told["reason"], told["next"]["reason"]) == ("start.exit_code", "next.logs")
    assert seen(told)["desired"] == "ok"
    (row,) = agent.cli("status", gone, "--verbose", "-o", "json").json
    assert (row["desired"], row["registered"], row["in_catalog"]) == ("running", False, False)


def test_a_hold_here_and_a_maintenance_in_consul_are_told_apart(
    make_agent: MakeAgent, consul: ConsulServer
):
    held, maint = unique("held"), unique("maint")
    agent = make_agent({held: web(), maint: web()}, consul=consul.http).start()
    agent.wait_ready(held, maint)
    Catalog(consul).wait_passing(maint, agent.entry_id(maint))
    assert agent.cli("hold", held, "--reason", "new disks").code == 0
    told = wait_for(agent, held, "held.stopped")
    assert "new disks" in told["sentence"]
    assert told["next"]["reason"] == "next.release"
    assert agent.cli("release", held).code == 0
    wait_for(agent, held, "explain.found")
    service_id = agent.entry_id(maint)
    path = f"agent/service/maintenance/{service_id}?enable=true&reason=cabling"
    assert consul.raw("PUT", path).status == 200
    told = wait_for(agent, maint, "explain.in_maintenance")
    assert "cabling" in told["sentence"]
    assert told["next"]["reason_params"] == {"id": service_id}


def test_a_check_that_only_consul_fails_is_an_address_that_consul_cannot_reach(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    # Consul's own question is answered by nobody, ours by the service: another network, in small.
    name, port = unique("far"), free_port()
    definition = web(port=port)
    definition["health"]["failures"] = 60  # it is not restarted before we have looked
    agent = make_agent({name: definition}, consul=own_consul.http).start()
    agent.wait_ready(name)
    Catalog(own_consul).wait_passing(name, agent.entry_id(name))
    told = explained(agent, name)
    assert told["reason"] in {"explain.found", "explain.not_in_dns"}
    check = f"{agent.entry_id(name)}:http"
    taken = own_consul.raw("GET", "agent/checks").json[check]
    body = {
        "ID": check,
        "Name": taken["Name"],
        "ServiceID": agent.entry_id(name),
        "HTTP": f"http://127.0.0.1:{free_port()}/",
        "Interval": "1s",
        "Timeout": "1s",
    }
    assert own_consul.raw("PUT", "agent/check/register", body).status == 200
    told = wait_for(agent, name, "explain.unreachable")
    assert told["next"]["reason"] == "next.address"


def test_without_consul_the_first_two_links_are_told_and_the_others_are_unknown(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("alone")
    agent = make_agent({name: web()}, consul=own_consul.http).start()
    wait_for(agent, name, "explain.found")
    own_consul.freeze()
    began = time.monotonic()
    told = explained(agent, name)
    assert time.monotonic() - began < 25  # each question has a deadline, and they are asked at once
    assert told["reason"] == "consul.timeout"
    assert told["verdict"] == "unknown"
    assert (seen(told)["desired"], seen(told)["process"]) == ("ok", "ok")
    own_consul.thaw()
    wait_for(agent, name, "explain.found")
    own_consul.kill()
    told = wait_for(agent, name, "consul.unreachable")
    assert set(seen(told).values()) == {"ok", "unknown"}
    assert agent.cli("explain", name).code == 3


@pytest.mark.parametrize(("language", "word"), [("ru", "Причина"), ("zh", "原因")])
def test_it_is_explained_in_the_language_of_who_asks(
    make_agent: MakeAgent, consul, language: str, word: str
):
    name = unique("words")
    agent = make_agent({name: web(register=False)}, consul=consul.http).start()
    agent.wait_ready(name)
    shown = agent.cli("explain", name, env={"LICTOR_LANG": language}).out
    assert word in shown
    assert "register: false" in shown


def test_a_wiped_consul_agent_whose_name_is_reserved_is_named_and_the_step_helps(
    make_agent: MakeAgent, consul_bin: str
):
    name = unique("wiped")
    with Cluster(consul_bin, size=1) as cluster:
        client = cluster.client("host1")
        agent = make_agent({name: web()}, consul=client.http).start()
        wait_for(agent, name, "explain.found")
        client.kill()
        shutil.rmtree(client.dir / "data")
        client._spawn()  # `start` would wait for a node that the servers do not take
        told = wait_for(agent, name, "explain.node_reserved")
        assert told["next"]["reason"] == "next.free_node"
        code = agent.cli("doctor", "-o", "json")
        assert code.code == 1
        assert "explain.node_reserved" in [row["reason"] for row in code.json]

        # What the next step says, done by hand.
        assert "v1/catalog/deregister" in told["next"]["sentence"]
        server = cluster.servers[0]
        assert server.raw("PUT", "catalog/deregister", {"Node": "host1"}).status == 200
        wait_until(
            lambda: explained(agent, name)["reason"] == "explain.found", within=90, what="healed"
        )
