"""What was left over in a real Consul: shown with its reason, and taken out only as it was chosen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.agent import unique, wait_until
from tests.support.consul import ConsulServer
from tests.support.web import Site
from tests.web.test_examples import EXAMPLES, differences

pytestmark = pytest.mark.consul

LONG_AGO = "2020-01-01T00:00:00.000+00:00"


def entry(
    consul: ConsulServer, node: str, entry_id: str, *, meta: dict[str, str], status: str
) -> None:
    """Put an entry into the catalog alone, as one whose Consul agent is dead stands there."""
    body: dict[str, Any] = {
        "Node": node,
        "Address": "198.51.100.7",
        "SkipNodeUpdate": False,
        "Service": {"ID": entry_id, "Service": "piper", "Port": 5000, "Meta": meta},
        "Check": {"CheckID": f"{entry_id}:http", "ServiceID": entry_id, "Status": status},
    }
    answer = consul.raw("PUT", "catalog/register", body)
    assert answer.json is True, answer


def in_catalog(consul: ConsulServer, node: str, entry_id: str) -> bool:
    found = consul.raw("GET", f"catalog/node/{node}").json
    return bool(found) and entry_id in found["Services"]


@pytest.fixture(scope="module")
def site(make_module_site, consul: ConsulServer) -> Site:
    """One agent for all tests here; each has remains of its own beside it."""
    made: Site = make_module_site({}, consul=consul.http)
    wait_until(lambda: made.agent.consul_state() == "ok")
    return made


class Ruin:
    """The remains of an agent that is gone (`dead`) and of one that nobody knows, in one Consul."""

    def __init__(self, site: Site, consul: ConsulServer) -> None:
        self.site, self.consul = site, consul
        self.node, self.far = unique("host"), unique("consul")
        self.dead = {"lictor-owner": f"agent of {self.node}", "lictor-node": self.node}
        facts = {"agent": self.dead["lictor-owner"], "node": self.node, "at": LONG_AGO}
        consul.put_kv(f"lictor/nodes/{self.node}", facts)
        self.piper = self._put(f"lictor:{self.node}:piper", self.dead)
        self.xtts = self._put(f"lictor:{self.node}:xtts", self.dead, "passing")
        unknown = {"lictor-owner": "unheard-of", "lictor-node": unique("host")}
        self.unknown = self._put(f"lictor:{unknown['lictor-node']}:piper", unknown)
        ours = {"lictor-owner": site.agent.id, "lictor-node": site.agent.node}
        self.ours = self._put(site.agent.entry_id(unique("old")), ours)
        self.alike = self._put(site.agent.entry_id(unique("alike")), {"made-by": "a script"})
        self.all = {self.piper, self.xtts, self.unknown, self.ours, self.alike}

    def _put(self, entry_id: str, meta: dict[str, str], status: str = "critical") -> str:
        entry(self.consul, self.far, entry_id, meta=meta, status=status)
        return entry_id

    def rows(self) -> dict[str, dict[str, Any]]:
        answer = self.site.admin.get("/registry/clean-up")
        assert answer.status_code == 200, answer.text
        return {one["id"]: one for one in answer.json()["leftovers"] if one["id"] in self.all}

    def clean(self, *ids: str) -> dict[str, tuple[str, str]]:
        """Order it; what became of each."""
        body = {"entries": [{"node": self.far, "id": one} for one in ids]}
        answer = self.site.admin.post("/registry/clean-up", json=body)
        assert answer.status_code == 200, answer.text
        assert differences(EXAMPLES["registry_clean_up"]["response"], answer.json()) == []
        return {one["id"]: (one["result"], one["reason"]) for one in answer.json()["entries"]}

    def there(self, entry_id: str) -> bool:
        return in_catalog(self.consul, self.far, entry_id)


@pytest.fixture
def ruin(site: Site, consul: ConsulServer) -> Ruin:
    return Ruin(site, consul)


def test_each_leftover_has_its_reason_and_only_what_is_proved_may_go(ruin: Ruin):
    found = {name: (one["reason"], one["removable"]) for name, one in ruin.rows().items()}
    assert found == {
        ruin.piper: ("leftover.agent_gone", True),
        ruin.xtts: ("leftover.still_works", False),
        ruin.unknown: ("leftover.nobody_known", False),
        ruin.ours: ("leftover.own_elsewhere", True),
        ruin.alike: ("leftover.look_alike", False),
    }
    answer = ruin.site.admin.get("/registry/clean-up").json()
    assert differences(EXAMPLES["registry_leftovers"]["response"], answer) == []


def test_what_is_chosen_is_taken_out_and_nothing_else(ruin: Ruin):
    results = ruin.clean(*ruin.all)
    done = {name for name, (word, _) in results.items() if word == "done"}
    assert done == {ruin.piper, ruin.ours}
    assert {results[name][0] for name in ruin.all - done} == {"refused"}
    assert {name for name in ruin.all if ruin.there(name)} == ruin.all - done
    assert ruin.clean(*done) == dict.fromkeys(done, ("already", "leftover.none"))


def test_it_stands_in_the_journal_and_in_the_audit_log(ruin: Ruin):
    ruin.clean(ruin.piper)
    events = ruin.site.admin.get("/admin/events", params={"kind": "consul"}).json()["events"]
    told = [one for one in events if ruin.piper in one["sentence"]]
    assert [(one["reason"], one["who"]) for one in told] == [("leftover.taken_out", "admin")]
    asked = {"action": "clean-up", "target": ruin.piper}
    lines = ruin.site.admin.get("/admin/audit", params=asked).json()["entries"]
    assert [(one["who"], one["outcome"]) for one in lines] == [("admin", "ok")]


def test_a_service_that_came_back_in_between_keeps_its_entry(ruin: Ruin):
    assert ruin.rows()[ruin.piper]["removable"]
    entry(ruin.consul, ruin.far, ruin.piper, meta=ruin.dead, status="passing")
    assert ruin.clean(ruin.piper) == {ruin.piper: ("refused", "leftover.still_works")}
    assert ruin.there(ruin.piper)


def test_the_entries_of_an_agent_that_has_just_died_are_not_offered(
    make_site, site: Site, consul: ConsulServer
):
    name = unique("sleeper")
    other = make_site({name: {"command": ["sleep", "1000"], "port": 9}}, consul=consul.http)
    kept = other.agent.entry_id(name)
    wait_until(lambda: kept in consul.raw("GET", "agent/services").json)

    def offered() -> bool:
        rows = site.admin.get("/registry/clean-up").json()["leftovers"]
        return any(one["id"] == kept and one["removable"] for one in rows)

    assert not offered()  # it fails, but its agent lives
    other.agent.kill9()
    assert not offered()
    chosen = {"entries": [{"node": consul.node, "id": kept}]}
    (told,) = site.admin.post("/registry/clean-up", json=chosen).json()["entries"]
    assert told["result"] in {"already", "refused"}
    assert kept in consul.raw("GET", "agent/services").json


def test_what_our_token_may_not_remove_stays_and_the_answer_says_why(make_site, acl_consul):
    rules = """
        node_prefix "" { policy = "read" }
        agent_prefix "" { policy = "read" }
        session_prefix "" { policy = "write" }
        key_prefix "lictor/" { policy = "write" }
        service_prefix "" { policy = "read" }
        service "lictor" { policy = "write" }
    """
    token = acl_consul.token_for(rules)
    site = make_site({}, consul=acl_consul.http, env={"CONSUL_HTTP_TOKEN": token})
    wait_until(lambda: site.agent.consul_state() == "ok")
    ruin = Ruin(site, acl_consul)
    body = {"entries": [{"node": ruin.far, "id": ruin.piper}]}
    (told,) = site.admin.post("/registry/clean-up", json=body).json()["entries"]
    assert (told["result"], told["reason"]) == ("failed", "leftover.failed")
    assert "denied" in told["sentence"]
    assert ruin.there(ruin.piper)
    events = site.admin.get("/admin/events", params={"kind": "consul"}).json()["events"]
    assert [one["outcome"] for one in events if one["reason"] == "leftover.failed"] == ["failed"]


@pytest.mark.parametrize("role", ["user", "guest", "web"])
def test_only_an_admin_sees_and_cleans_up(ruin: Ruin, role: str):
    client = ruin.site.as_(unique(role), role)
    chosen = {"entries": [{"node": ruin.far, "id": ruin.piper}]}
    expected = 404 if role == "web" else 403
    assert client.get("/registry/clean-up").status_code == expected
    assert client.post("/registry/clean-up", json=chosen).status_code == expected
    assert ruin.there(ruin.piper)


@pytest.mark.parametrize(
    "body", [{}, {"entries": []}, {"entries": ["x"]}, {"entries": [{"id": "x"}]}, {"all": True}]
)
def test_there_is_no_way_to_clean_up_what_was_not_named(site: Site, body):
    assert site.admin.post("/registry/clean-up", json=body).status_code == 422


def test_without_consul_nothing_is_said_to_be_left_over(make_site):
    site = make_site({})
    body = {"entries": [{"node": "consul2", "id": "lictor:host2:piper"}]}
    assert site.admin.get("/registry/clean-up").status_code == 503
    assert site.admin.post("/registry/clean-up", json=body).status_code == 503
