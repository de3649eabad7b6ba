"""`ports.DesiredSource`: documents, edits and doubts, in Consul KV and in memory."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from lictor.consul_integration.desired import KvDesired
from lictor.core.model.desired import DesiredChange, DesiredState, HoldOrder
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamSpec
from lictor.core.testing import FakeDesired
from tests.support.patience import next_of

PIPER = ServiceKey("piper")
DEFINED = {PIPER: {"voice": ParamSpec("a")}, ServiceKey("redis"): {}}
STOP = DesiredChange(state="stopped", by="anna")


class RealKv:
    def __init__(self, consul, source, prefix) -> None:
        self._consul, self.source, self._base = consul, source, f"{prefix}/desired"

    def put(self, name, text, node="host1") -> None:
        self._consul.put_kv(f"{self._base}/{node}/{name}", text)

    def delete(self, name) -> None:
        self._consul.raw("DELETE", f"kv/{self._base}/host1/{name}")

    def text(self, name, node="host1"):
        return self._consul.get_kv(f"{self._base}/{node}/{name}")

    def lose_the_sentinel(self) -> None:
        self.delete("_lictor")


class FakeKv:
    def __init__(self) -> None:
        self.source = FakeDesired(DEFINED.get)

    def put(self, name, text, node="") -> None:
        self.source.put(name, text, node)

    def delete(self, name) -> None:
        self.source.put(name, None)

    def text(self, name, node=""):
        return self.source.text(name, node)

    def lose_the_sentinel(self) -> None:
        self.source.hide()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.consul)])
def kv(request, unique, pace):
    if request.param == "fake":
        return FakeKv()
    client = request.getfixturevalue("client")
    source = KvDesired(client, "host1", prefix=unique, params_of=DEFINED.get, pace=pace)
    return RealKv(request.getfixturevalue("consul"), source, unique)


async def good(changes, accept=lambda _: True):
    """The next good read that `accept` accepts."""
    while True:
        view = await next_of(changes)
        if isinstance(view, Known) and accept(view.value):
            return view.value


async def test_before_the_first_read_nothing_is_known(kv):
    assert (kv.source.current(), kv.source.memory()) == (None, None)


async def test_a_first_read_is_good_and_empty(kv):
    async with aclosing(kv.source.watch()) as changes:
        snapshot = await good(changes)
    assert (snapshot.node, snapshot.all_nodes, snapshot.strays) == ({}, {}, {})
    assert kv.source.current().node == {}
    assert json.dumps(dict(kv.source.memory()))


async def test_documents_written_by_hand_arrive(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        kv.put("piper", '{"state": "stopped", "params": {"voice": "b"}, "by": "anna"}')
        kv.put("redis", '{"state": "maintenance"}', "_all")
        snapshot = await good(changes, lambda s: s.node and s.all_nodes)
    override = snapshot.node[PIPER].override
    assert (override.state, override.by) == (DesiredState.STOPPED, "anna")
    assert dict(override.params) == {"voice": "b"}
    everywhere = snapshot.all_nodes[ServiceKey("redis")].override
    assert everywhere.state is DesiredState.MAINTENANCE


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"state": "dancing"}', '{"params": {"command": "rm"}}']
)
async def test_a_wrong_document_is_refused_and_brings_the_last_good_one(kv, text):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        kv.put("piper", '{"state": "stopped"}')
        await good(changes, lambda s: s.node)
        kv.put("piper", text)
        snapshot = await good(changes, lambda s: s.node[PIPER].refused)
    entry = snapshot.node[PIPER]
    assert entry.refused.code.startswith("kv.")
    assert entry.text == text
    assert entry.override.state is DesiredState.STOPPED


async def test_a_document_of_a_service_this_host_does_not_define_is_refused(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        kv.put("ghost", "{}", "_all")  # other hosts may have it
        kv.put("ghost", "{}")
        snapshot = await good(changes, lambda s: s.node)
    assert snapshot.node[ServiceKey("ghost")].refused.code == "kv.unknown_service"
    assert snapshot.all_nodes == {}


async def test_a_deleted_document_is_gone(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        kv.put("piper", '{"state": "stopped"}')
        await good(changes, lambda s: s.node)
        kv.delete("piper")
        assert (await good(changes, lambda s: not s.node)).node == {}


async def test_a_change_makes_edits_and_removes_a_document(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        await kv.source.change(PIPER, STOP)
        assert json.loads(kv.text("piper")) == {"state": "stopped", "by": "anna"}
        await kv.source.change(PIPER, DesiredChange(params={"voice": "b"}, by="bert"))
        assert json.loads(kv.text("piper")) == {
            "state": "stopped",
            "params": {"voice": "b"},
            "by": "bert",
        }
        await kv.source.change(PIPER, DesiredChange(unset_params=("voice",), clear_state=True))
        assert kv.text("piper") is None
        await kv.source.change(PIPER, STOP)
        await kv.source.change(PIPER, DesiredChange(remove=True))
        assert kv.text("piper") is None


async def test_a_change_takes_the_end_away_or_begins_the_document_anew(kv):
    ends = DesiredChange(params={"voice": "b"}, until="2030-01-01T00:00:00+00:00", by="anna")
    await kv.source.change(PIPER, ends)
    await kv.source.change(PIPER, DesiredChange(state="stopped", clear_until=True, by="bert"))
    assert json.loads(kv.text("piper")) == {
        "state": "stopped",
        "params": {"voice": "b"},
        "by": "bert",
    }
    await kv.source.change(PIPER, ends)
    await kv.source.change(PIPER, DesiredChange(state="running", anew=True, by="bert"))
    assert json.loads(kv.text("piper")) == {"state": "running", "by": "bert"}


async def test_a_change_for_another_node_or_for_all_is_written_there(kv):
    await kv.source.change(PIPER, STOP, node="host2")
    await kv.source.change(PIPER, STOP, node="_all")
    assert kv.text("piper") is None
    assert kv.text("piper", "host2") == kv.text("piper", "_all") is not None


async def test_a_change_that_changes_nothing_is_no_news(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        await kv.source.change(PIPER, STOP)
        await good(changes, lambda s: s.node)
        waiting = asyncio.create_task(anext(changes))
        await kv.source.change(PIPER, STOP)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_without_the_sentinel_a_read_proves_nothing_until_somebody_confirms(kv):
    async with aclosing(kv.source.watch()) as changes:
        await good(changes)
        kv.lose_the_sentinel()
        doubt = await next_of(changes)
        assert isinstance(doubt, Unknown)
        assert doubt.reason.code == "desired.sentinel_missing"
        await kv.source.confirm()
        await good(changes)


async def test_an_order_to_hold_is_seen_until_it_is_taken_up(kv):
    order = HoldOrder(PIPER, DesiredState.MAINTENANCE, "anna", "listen", 4e9, insist=True)
    async with aclosing(kv.source.watch()) as changes:
        assert (await good(changes)).hold_orders == ()
        await kv.source.order_hold(order, node="host2")
        await kv.source.order_hold(order, node="host1")
        seen = await good(changes, lambda snapshot: snapshot.hold_orders)
        (found,) = seen.hold_orders
        assert replace(found, index=0) == order
        assert seen.node == {}  # it is no document
        await kv.source.order_hold(HoldOrder(PIPER, None, "bert"), node="host1")
        await kv.source.taken_up(found)  # another order is there by now: it stays
        later = await good(changes, lambda s: s.hold_orders and s.hold_orders[0].state is None)
        await kv.source.taken_up(later.hold_orders[0])
        await good(changes, lambda snapshot: not snapshot.hold_orders)


async def test_an_edit_over_a_text_that_is_refused_keeps_what_is_in_force(kv):
    async with aclosing(kv.source.watch()) as changes:
        kv.put("piper", '{"state": "stopped", "params": {"voice": "b"}}')
        await good(changes, lambda snapshot: PIPER in snapshot.node)
        kv.put("piper", "not JSON")
        await good(changes, lambda snapshot: snapshot.node[PIPER].refused is not None)
        await kv.source.change(PIPER, DesiredChange(state="running"))
        found = await good(changes, lambda snapshot: snapshot.node[PIPER].refused is None)
    override = found.node[PIPER].override
    assert (override.state, override.params) == (DesiredState.RUNNING, {"voice": "b"})
