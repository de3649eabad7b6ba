"""Orders from one node for another: what they renew there, and what they leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import plain, service
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import child
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

#: A service that comes up no more, and is not tried again by itself while a test looks.
STUCK = {"restart": {"backoff": "1h", "max_backoff": "1h"}}


@dataclass
class Pair:
    """Two nodes with the same services: `well` runs, `stuck` waits for its next start."""

    here: RunningAgent
    there: RunningAgent
    well: str
    stuck: str
    consul: ConsulServer

    def document(self, node: str, name: str) -> dict[str, object]:
        return dict(json.loads(self.consul.get_kv(f"lictor/desired/{node}/{name}") or "{}"))


@pytest.fixture
def pair(make_agent: MakeAgent, consul: ConsulServer) -> Iterator[Pair]:
    well, stuck = unique("well"), unique("stuck")
    ends = service(child("exit-now"), **STUCK)
    here = make_agent({well: plain(), stuck: plain()}, consul=consul.http).start()
    there = make_agent({well: plain(), stuck: ends}, consul=consul.http).start()
    here.wait_ready(well, stuck)
    there.wait_ready(well)
    there.wait_phase(stuck, "backoff")
    found = Pair(here, there, well, stuck, consul)
    wait_until(lambda: _published(found, stuck).get("phase") == "backoff")
    wait_until(lambda: _published(found, well).get("phase") == "ready")
    yield found
    for node in (here.node, there.node, "_all"):
        for name in (well, stuck):
            consul.raw("DELETE", f"kv/lictor/desired/{node}/{name}")


def _published(pair: Pair, name: str) -> dict[str, object]:
    text = pair.consul.get_kv(f"lictor/actual/{pair.there.node}/{name}")
    return dict(json.loads(text or "{}"))


def test_a_start_of_another_node_renews_what_is_stuck_and_restarts_nothing_else(pair: Pair):
    pid, tried = pair.there.service_pid(pair.well), pair.there.row(pair.stuck)["restarts"]
    assert pair.here.cli("start", "--node", pair.there.node).code == 0
    wait_until(lambda: pair.there.row(pair.stuck)["restarts"] > tried, what="it is tried again")
    assert "restart" not in pair.document(pair.there.node, pair.well)
    assert pair.there.service_pid(pair.well) == pid


def test_a_start_for_all_nodes_renews_what_is_stuck_where_it_is_stuck(pair: Pair):
    pid, tried = pair.here.service_pid(pair.stuck), pair.there.row(pair.stuck)["restarts"]
    assert pair.here.cli("start", pair.stuck, "--node", "_all").code == 0
    wait_until(lambda: pair.there.row(pair.stuck)["restarts"] > tried, what="it is tried again")
    assert "restart" not in pair.document("_all", pair.stuck)
    assert pair.document("_all", pair.stuck)["state"] == "running"
    wait_until(lambda: pair.here.row(pair.stuck)["desired"] == "running")
    assert pair.here.service_pid(pair.stuck) == pid


def test_a_restart_of_another_node_happens_also_after_one_that_was_dated_in_the_future(pair: Pair):
    ahead = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    first = pair.there.service_pid(pair.well)
    pair.consul.put_kv(f"lictor/desired/_all/{pair.well}", {"restart": ahead})
    wait_until(lambda: pair.there.row(pair.well)["pid"] not in {first, None})
    pair.there.wait_ready(pair.well)
    wait_until(lambda: _published(pair, pair.well).get("restart_order"))
    second = pair.there.service_pid(pair.well)
    done = pair.here.cli("restart", pair.well, "--node", pair.there.node, "--wait")
    assert done.code == 0, done
    assert pair.there.service_pid(pair.well) != second


def test_orders_for_a_node_whose_agent_was_ended_wait_for_it(pair: Pair):
    node = pair.there.node
    assert pair.there.down().code == 0
    started = pair.here.cli("start", pair.stuck, "--node", node, "-o", "json")
    assert (started.code, started.json[0]["result"]) == (0, "pending"), started
    held = pair.here.cli("hold", pair.well, "--node", node, "--reason", "new disk", "-o", "json")
    assert (held.code, held.json[0]["result"]) == (0, "pending"), held
    pair.there.start()
    wait_until(lambda: pair.there.row(pair.well)["sentence"].endswith("(new disk)."))
    assert pair.there.row(pair.stuck)["desired"] == "running"
    assert pair.there.cli("release", pair.well).code == 0


def test_the_progress_of_another_nodes_service_is_told_in_the_readers_language(pair: Pair):
    russian = {"LC_ALL": "ru_RU.UTF-8"}
    waited = pair.here.cli("start", pair.well, "--node", pair.there.node, "--wait", env=russian)
    assert waited.code == 0, waited
    assert "Готов." in waited.err
    assert "Ready" not in waited.err


def test_waiting_does_not_believe_what_was_written_before_the_order(pair: Pair):
    assert pair.there.cli("stop", pair.well, "--wait").code == 0
    stopped = _published(pair, pair.well)["phase"]
    order = ("start", pair.well, "--node", "_all", "--wait", "-o", "json")
    rows = {row["node"]: row["result"] for row in pair.here.cli(*order).json}
    assert rows[pair.there.node] == "overtaken", stopped  # its own word is stronger
    assert rows[pair.here.node] == "done"


def test_a_release_from_afar_means_the_name_that_is_held(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("twin")
    here = make_agent({unique("own"): plain()}, consul=consul.http).start()
    there = make_agent({name: {**plain(), "instances": {"a": {}, "b": {}}}}, consul=consul.http)
    there.start()
    there.wait_ready(f"{name}@a", f"{name}@b")

    def held_as() -> list[str | None]:
        texts = [consul.get_kv(f"lictor/actual/{there.node}/{name}@{part}") for part in "ab"]
        return [json.loads(text or "{}").get("held_as") for text in texts]

    def release(*names: str) -> list[str]:
        released = here.cli("release", *names, "--node", there.node, "-o", "json")
        assert released.code == 0, released
        return [row["result"] for row in released.json]

    why = ("--state", "running", "--reason", "new disk")
    assert there.cli("hold", name, *why).code == 0
    wait_until(lambda: held_as() == [name, name])
    part = here.cli("release", f"{name}@a", "--node", there.node)
    assert part.code == 2, part
    assert f"lictor release {name} --node {there.node}" in part.err
    assert there.cli("hold", f"{name}@a", *why).code == 0
    wait_until(lambda: held_as() == [f"{name}@a", name])
    assert release(f"{name}@a") == ["done"]  # although the hold of the whole counts for it now
    wait_until(lambda: held_as() == [name, name])
    assert release(name) == ["done"]
    wait_until(lambda: held_as() == [None, None])
