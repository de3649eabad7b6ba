"""`/registry` over a real Consul, and what it says when there is none."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.agent import unique, wait_until
from tests.support.children import free_port
from tests.web.test_examples import EXAMPLES, differences

pytestmark = pytest.mark.consul


def test_the_cluster_is_shown_as_consul_sees_it(make_site, own_consul):
    name, port = unique("brain"), free_port()
    command = ["python3", "-m", "http.server", "-b", "{host}", "{port}"]
    health = {"http": "http://{host}:{port}/", "interval": "1s"}
    services = {name: {"command": command, "port": port, "health": health, "tags": ["llm"]}}
    site = make_site(services, consul=own_consul.http)
    ask = site.admin.get

    def passing() -> bool:
        rows = ask("/registry/services").json().get("services", [])
        return any(row["name"] == name and row["passing"] == 1 for row in rows)

    wait_until(passing)
    for example, path in (
        ("registry_services", "/registry/services"),
        ("registry_service", f"/registry/services/{name}"),
        ("registry_nodes", "/registry/nodes"),
        ("registry_resolve", f"/registry/resolve/{name}"),
    ):
        answer = ask(path)
        assert answer.status_code == 200, answer.text
        assert differences(EXAMPLES[example]["response"], answer.json()) == []
    assert [one["port"] for one in ask(f"/registry/resolve/{name}").json()["answers"]] == [port]
    assert ask("/registry/services/nobody").status_code == 404
    mine = [row for row in ask("/registry/nodes").json()["nodes"] if row["this"]]
    assert mine[0]["lictor"] == site.agent.node
    agents = [(one["node"], one["state"]) for one in mine[0]["agents"]]
    assert agents == [(site.agent.node, "running")]
    told = {one["node"]: one for one in site.agent.ask("nodes")["nodes"]}  # status --all-nodes
    assert mine[0]["agents"][0]["version"] == told[site.agent.node]["version"]


def test_resolve_answers_as_the_command_line_does(make_site, own_consul):
    good, bad = unique("good"), unique("bad")
    health = {"http": "http://{host}:{port}/", "interval": "1s"}
    command = ["python3", "-m", "http.server", "-b", "{host}", "{port}"]
    services = {
        good: {"command": command, "port": free_port(), "health": health},
        bad: {"command": ["sleep", "1000"], "port": free_port(), "health": health},
    }
    site = make_site(services, consul=own_consul.http)
    site.agent.wait_ready(good)
    wait_until(lambda: site.admin.get(f"/registry/resolve/{good}").json().get("answers"))
    wait_until(lambda: site.admin.get(f"/registry/resolve/{bad}").json().get("left_out"))
    for name in (good, bad):
        web = site.admin.get(f"/registry/resolve/{name}").json()
        result = site.agent.cli("resolve", name, "-o", "json")
        shell = result.json
        for part in ("question", "rcode", "answers", "a", "aaaa", "reason", "also"):
            assert web[part] == shell[part], (name, part)
        assert [one["reasons"][0]["code"] for one in web["left_out"]] == [
            one["reasons"][0]["code"] for one in shell["left_out"]
        ]


def test_a_group_shows_who_answers_and_whether_its_names_exist(make_site, own_consul):
    command = ["python3", "-m", "http.server", "-b", "{host}", "{port}"]
    health = {"http": "http://{host}:{port}/", "interval": "1s"}  # a hold-down of five seconds
    base = {"command": command, "group": "voice", "health": health, "restart": {"backoff": "1s"}}
    services = {
        "xtts": {**base, "rank": 10, "port": free_port()},
        "piper": {**base, "rank": 30, "port": free_port()},
        "cold": {**base, "rank": 40, "port": free_port(), "activation": "manual"},
    }
    site = make_site(services, consul=own_consul.http)

    def group() -> dict:
        groups = site.admin.get("/registry/groups").json().get("groups")
        return groups[0] if groups else {}

    def roles() -> dict[str, str]:
        return {one["service"]: one["role"] for one in group().get("members", [])}

    expected = {"xtts": "best", "piper": "standby", "cold": "absent"}
    wait_until(lambda: roles() == expected, what="xtts is best")
    answer = site.admin.get("/registry/groups").json()
    assert differences(EXAMPLES["registry_groups"]["response"], answer) == []
    assert [one["name"] for one in group()["dns"]] == ["voice.query.consul", "voice.service.consul"]

    def given() -> list[int]:
        told = site.admin.get("/registry/resolve/voice", params={"kind": "query"}).json()
        return [one["port"] for one in told.get("answers", [])]

    # Who is ready first answers first, and for a moment both do.
    wait_until(lambda: given() == [services["xtts"]["port"]], what="xtts answers alone")
    os.kill(site.agent.service_pid("xtts"), signal.SIGKILL)
    wait_until(lambda: roles()["piper"] == "best", what="piper takes over")

    def returning() -> bool:
        seen = {one["service"]: one for one in group()["members"]}
        return seen["xtts"]["reason"] == "group.on_trial" and seen["xtts"]["takes_over_s"] > 0

    wait_until(returning, what="xtts is on trial")
    wait_until(lambda: roles()["xtts"] == "best", what="xtts is back")


def test_a_service_that_fails_is_left_out_of_dns_with_its_reason(make_site, own_consul):
    name = unique("sick")
    health = {"http": f"http://127.0.0.1:{free_port()}/", "interval": "1s", "startup": "1m"}
    services = {name: {"command": ["sleep", "1000"], "port": free_port(), "health": health}}
    site = make_site(services, consul=own_consul.http)
    wait_until(lambda: site.admin.get(f"/registry/services/{name}").status_code == 200)
    found = wait_until(lambda: site.admin.get(f"/registry/resolve/{name}").json().get("left_out"))
    assert found[0]["health"] == "critical"
    assert found[0]["reason"]
    client = site.as_("uwe", "user")
    assert client.get(f"/registry/resolve/{name}").json()["left_out"][0]["reason"] is None


def test_without_consul_the_registry_says_so_and_nothing_else_depends_on_it(site):
    for what in ("services", "nodes", "groups", "resolve/brain"):
        path = f"/registry/{what}"
        answer = site.admin.get(path)
        assert answer.status_code == 503
        assert answer.json()["code"] == "consul.unreachable"
    assert site.admin.get("/supervisor/status").status_code == 200


@pytest.mark.parametrize("name", ["a%20b", "x" * 64, "%00", "a..b", "-", "%F0%9F%98%80"])
def test_a_name_that_is_none_is_no_fault(make_site, consul, name):
    site = make_site({}, consul=consul.http)
    wait_until(lambda: site.agent.consul_state() == "ok")
    for what in ("services", "resolve", "explain"):
        answer = site.admin.get(f"/registry/{what}/{name}")
        # A name that nobody can have is not there: NXDOMAIN, 404, or refused by Consul (502).
        assert answer.status_code in {200, 400, 404, 422, 502}, answer.text
        assert what == "resolve" or answer.status_code != 200, answer.text
