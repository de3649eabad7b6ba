"""Desired state from Consul KV, as an operator writes it with `consul kv put`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.world import Catalog, diarist, web
from tests.support.agent import RunningAgent, argv_of, unique, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

PARAMS = {"model": {"default": "small", "choices": ["small", "large"]}, "beams": {"default": 4}}


class Operator:
    """One person at one agent: puts documents, looks at what comes of it."""

    def __init__(self, agent: RunningAgent, consul: ConsulServer) -> None:
        self.agent = agent
        self.consul = consul
        self.catalog = Catalog(consul)

    def put(self, service: str, document: Any, *, where: str | None = None) -> None:
        self.consul.put_kv(f"lictor/desired/{where or self.agent.node}/{service}", document)

    def delete(self, service: str, *, where: str | None = None) -> None:
        path = f"kv/lictor/desired/{where or self.agent.node}/{service}"
        assert self.consul.raw("DELETE", path).status == 200

    def document(self, service: str) -> dict[str, Any]:
        text = self.consul.get_kv(f"lictor/desired/{self.agent.node}/{service}")
        assert text is not None, f"no document for {service}"
        return dict(json.loads(text))

    def actual(self, service: str) -> dict[str, Any]:
        text = self.consul.get_kv(f"lictor/actual/{self.agent.node}/{service}")
        return json.loads(text) if text else {}


@pytest.fixture(scope="module")
def services() -> dict[str, str]:
    words = ("plain", "param", "garbage", "again", "every", "until", "care", "two")
    return {word: unique(word) for word in words}


@pytest.fixture(scope="module")
def operator(consul: ConsulServer, services: dict[str, str]) -> Iterator[Operator]:
    diary = "unused"
    definitions: dict[str, Any] = {name: web() for name in services.values()}
    for word in ("param", "garbage"):
        definition = diarist(word, Path(diary))
        definition["command"][2 + definition["command"].index(diary) :] = [
            *("--model", "{param.model}", "--beams", "{param.beams}"),
        ]
        definitions[services[word]] = {**definition, "params": PARAMS}
    definitions[services["two"]] |= {"instances": {"a": {}, "b": {}}}
    del definitions[services["two"]]["port"]
    command = definitions[services["two"]]["command"]
    command[command.index("--port") + 1] = "{port}"
    with RunningAgent(definitions, consul=consul.http) as agent:
        wait_until(lambda: all(row["phase"] == "ready" for row in agent.status()), what="all ready")
        wait_until(lambda: agent.consul_state() == "ok")
        wait_until(lambda: consul.get_kv(f"lictor/desired/{agent.node}/_lictor"))
        yield Operator(agent, consul)


def test_stopped_in_kv_stops_it_soon_and_a_delete_returns_to_the_config(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["plain"]
    entry_id = agent.entry_id(name)
    operator.catalog.wait_passing(name, entry_id)
    put = time.monotonic()
    operator.put(name, {"state": "stopped", "by": "anna", "reason": "moving house"})
    row = agent.wait_phase(name, "stopping", "stopped")
    assert time.monotonic() - put < 5  # a second, on a machine that is not busy
    row = agent.wait_phase(name, "stopped")
    assert "anna" in row["sentence"]
    assert "moving house" in row["sentence"]
    assert (row["desired"], row["pid"], row["memory_mb"]) == ("stopped", None, 0)
    operator.catalog.wait_gone(name, entry_id)
    wait_until(lambda: operator.actual(name).get("phase") == "stopped", what="published")
    assert agent.cli("status", name).code == 3

    operator.delete(name)
    agent.wait_ready(name)
    operator.catalog.wait_passing(name, entry_id)
    wait_until(lambda: operator.actual(name).get("phase") == "ready", what="published")


def test_params_change_the_command_line_and_restart_the_service(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["param"]
    pid = agent.service_pid(name)
    assert argv_of(pid)[-4:] == ["--model", "small", "--beams", "4"]
    operator.put(name, {"params": {"model": "large"}})
    wait_until(lambda: agent.row(name)["pid"] not in {None, pid}, what="a new process")
    agent.wait_ready(name)
    assert argv_of(agent.service_pid(name))[-4:] == ["--model", "large", "--beams", "4"]
    operator.delete(name)
    wait_until(
        lambda: (row := agent.row(name))["phase"] == "ready" and "small" in argv_of(row["pid"]),
        what="back to the default",
    )


BAD_DOCUMENTS = [
    ('{"state": "stoped"}', "stoped"),
    ('{"state": "stopped"', "JSON"),
    ('{"state": "stopped", "command": ["rm", "-rf", "/"]}', "command"),
    ('{"state": "stopped", "env": {"LD_PRELOAD": "/tmp/x.so"}}', "env"),
    ('{"state": "stopped", "params": {"model": "huge"}}', "huge"),
    ('{"state": "stopped", "params": {"beams": "many"}}', "many"),
    ('{"state": "stopped", "params": {"model": "--evil"}}', "--evil"),
    ('["stopped"]', "object"),
]


def test_a_document_that_does_not_fit_is_refused_whole_and_the_last_good_one_stays(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["garbage"]
    operator.put(name, {"params": {"model": "large"}})
    wait_until(
        lambda: (row := agent.row(name))["phase"] == "ready" and "large" in argv_of(row["pid"]),
        what="the good document in force",
    )
    pid, quiet = agent.service_pid(name), agent.row(name)["sentence"]
    for text, word in BAD_DOCUMENTS:
        operator.put(name, text)
        wait_until(lambda w=word: w in agent.row(name)["sentence"], what=f"refused for {word}")
        row = agent.row(name)
        assert (row["pid"], row["phase"], row["desired"]) == (pid, "ready", "running")
        wait_until(
            lambda w=word: w in str(operator.actual(name).get("refused")), what=f"published {word}"
        )
    table = agent.cli("status", name)
    assert "object" in table.out
    assert table.code == 0
    assert argv_of(pid)[-4:] == ["--model", "large", "--beams", "4"]

    operator.put(name, {"params": {"model": "large"}, "by": "boris"})
    wait_until(lambda: agent.row(name)["sentence"] == quiet, what="nothing is refused any more")
    wait_until(lambda: operator.actual(name).get("refused") is None, what="nor published")
    assert agent.service_pid(name) == pid
    operator.delete(name)
    # The next test writes the same key, and is not about what this one leaves.
    wait_until(
        lambda: (row := agent.row(name))["phase"] == "ready" and "small" in argv_of(row["pid"]),
        what="back to the default",
    )


def test_a_verb_counts_over_a_document_that_does_not_fit(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["garbage"]
    for slip in ({"params": {"nobody": 1}}, {"state": "stopped", "until": "tomorrow"}):
        operator.put(name, slip)
        wait_until(lambda: operator.actual(name).get("refused"), what="it is refused")
        stopped = agent.cli("stop", name, "--wait", "-o", "json")
        assert (stopped.code, stopped.json[0]["result"]) == (0, "done"), stopped
        assert operator.document(name).keys() == {"state", "by"}
        assert agent.cli("start", name, "--wait").code == 0
    operator.delete(name)


def test_an_order_is_not_blamed_for_the_slip_in_a_document_for_all_nodes(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["garbage"]
    operator.put(name, '{"params":', where="_all")
    wait_until(lambda: operator.actual(name).get("refused"), what="it is refused")
    told = agent.cli("set", name, "model=large", "-o", "json")
    assert (told.code, told.json["result"]) == (0, "done"), told
    wait_until(lambda: "large" in argv_of(agent.row(name)["pid"]), what="in force")
    operator.delete(name, where="_all")
    operator.delete(name)
    agent.wait_ready(name)


def test_a_restart_order_acts_once(operator: Operator, services: dict[str, str]):
    agent, name = operator.agent, services["again"]
    pid = agent.service_pid(name)
    order = datetime.now(UTC).isoformat()
    operator.put(name, {"restart": order})
    wait_until(lambda: agent.row(name)["pid"] not in {None, pid}, what="a new process")
    agent.wait_ready(name)
    second = agent.service_pid(name)
    operator.put(name, {"restart": order, "by": "the same order, written again"})
    old = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    operator.put(name, {"restart": old, "by": "an order older than the last start"})
    time.sleep(1.5)
    row = agent.row(name)
    assert (row["pid"], row["phase"]) == (second, "ready")
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    operator.put(name, {"restart": ahead, "by": "another host's clock"})
    wait_until(lambda: agent.row(name)["pid"] not in {None, second}, what="a third process")
    agent.wait_ready(name)
    third = agent.service_pid(name)
    time.sleep(1.5)
    assert agent.service_pid(name) == third
    operator.delete(name)


def test_a_key_for_a_service_that_this_host_does_not_define_is_shown_as_a_warning(
    operator: Operator,
):
    agent, typo, elsewhere = operator.agent, unique("typo"), unique("elsewhere")
    operator.put(elsewhere, {"state": "stopped"}, where="_all")  # other hosts may have it
    operator.put(typo, {"state": "stopped"})
    wait_until(lambda: typo in str(agent.ask("overview")["warnings"]), what="a warning")
    said = agent.cli("status")
    assert said.code == 0
    assert typo in said.err
    assert elsewhere not in said.err
    operator.delete(elsewhere, where="_all")
    operator.delete(typo)
    wait_until(lambda: typo not in str(agent.ask("overview")["warnings"]), what="no warning")


def test_a_document_for_all_nodes_counts_until_the_node_has_its_own(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["every"]
    try:
        operator.put(name, {"state": "stopped"}, where="_all")
        row = agent.wait_phase(name, "stopped")
        assert "_all" in row["sentence"]
        operator.put(name, {"state": "running"})
        agent.wait_ready(name)
        operator.delete(name)
        agent.wait_phase(name, "stopped")
    finally:
        operator.delete(name, where="_all")
    agent.wait_ready(name)


def test_a_document_with_until_ends_by_itself(operator: Operator, services: dict[str, str]):
    agent, name = operator.agent, services["until"]
    until = datetime.now(UTC) + timedelta(hours=1)
    operator.put(name, {"state": "stopped", "until": until.isoformat()})
    agent.wait_phase(name, "stopped")  # only now may the end come near: it could overtake us
    until = datetime.now(UTC) + timedelta(seconds=2)
    operator.put(name, {"state": "stopped", "until": until.isoformat()})
    agent.wait_ready(name)
    assert datetime.now(UTC) >= until
    operator.delete(name)


def test_maintenance_leaves_the_process_and_makes_the_check_critical(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["care"]
    entry_id, pid = agent.entry_id(name), agent.service_pid(name)
    operator.put(name, {"state": "maintenance", "by": "anna", "reason": "new disk"})
    status, said = wait_until(
        lambda: (
            (found := operator.catalog.checks(name, entry_id)["lictor"])[0] != "passing" and found
        ),
        what="not passing",
    )
    assert status == "critical"
    assert "new disk" in said
    row = agent.row(name)
    assert (row["pid"], row["desired"]) == (pid, "maintenance")
    assert "new disk" in row["sentence"]
    operator.put(name, {"state": "maintenance"})
    wait_until(lambda: agent.row(name)["sentence"].endswith("set by Consul KV (-)."))
    operator.delete(name)
    operator.catalog.wait_passing(name, entry_id)
    assert agent.service_pid(name) == pid


def test_one_instance_can_be_told_apart_and_the_bare_name_means_all(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["two"]
    pids = {key: agent.service_pid(f"{name}@{key}") for key in "ab"}
    operator.put(f"{name}@a", {"state": "stopped"})
    agent.wait_phase(f"{name}@a", "stopped")
    assert agent.service_pid(f"{name}@b") == pids["b"]
    ids = [agent.entry_id(f"{name}:{key}") for key in "ab"]
    wait_until(lambda: list(operator.catalog.entries(name)) == [ids[1]], what="only b is there")
    operator.put(name, {"state": "stopped"})
    agent.wait_phase(f"{name}@b", "stopped")
    operator.put(f"{name}@a", {"state": "running"})
    agent.wait_ready(f"{name}@a")
    assert agent.row(f"{name}@b")["phase"] == "stopped"
    operator.delete(f"{name}@a")
    operator.delete(name)
    agent.wait_ready(f"{name}@a", f"{name}@b")
    wait_until(lambda: sorted(operator.catalog.entries(name)) == ids, what="both are there")


def test_deleting_a_folder_with_its_sentinel_stops_nothing_until_it_is_confirmed(
    operator: Operator, services: dict[str, str]
):
    agent, name = operator.agent, services["plain"]
    operator.put(name, {"state": "stopped", "by": "anna"})
    agent.wait_phase(name, "stopped")
    path = f"kv/lictor/desired/{agent.node}?recurse"
    assert operator.consul.raw("DELETE", path).status == 200
    wait_until(
        lambda: "_lictor" in str(agent.ask("overview")["warnings"]), what="the doubt is shown"
    )
    time.sleep(0.5)
    assert agent.row(name)["phase"] == "stopped"  # the last known document stays in force
    agent.ask("confirm")
    agent.wait_ready(name)
    wait_until(lambda: operator.consul.get_kv(f"lictor/desired/{agent.node}/_lictor"))
