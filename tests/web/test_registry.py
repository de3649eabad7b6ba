"""`/registry` over a real Consul, and what it says when there is none."""

from __future__ import annotations

import pytest

from tests.support.agent import unique, wait_until
from tests.web.conftest import free_port
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


def test_a_service_that_fails_is_left_out_of_dns_with_its_reason(make_site, own_consul):
    name = unique("sick")
    health = {"http": f"http://127.0.0.1:{free_port()}/", "interval": "1s", "startup": "1m"}
    services = {name: {"command": ["sleep", "1000"], "port": free_port(), "health": health}}
    site = make_site(services, consul=own_consul.http)
    wait_until(lambda: site.admin.get(f"/registry/services/{name}").status_code == 200)
    found = wait_until(lambda: site.admin.get(f"/registry/resolve/{name}").json()["left_out"])
    assert found[0]["health"] == "critical"
    assert found[0]["reason"]
    client = site.as_("uwe", "user")
    assert client.get(f"/registry/resolve/{name}").json()["left_out"][0]["reason"] is None


def test_without_consul_the_registry_says_so_and_nothing_else_depends_on_it(site):
    for path in ("/registry/services", "/registry/nodes", "/registry/resolve/brain"):
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
