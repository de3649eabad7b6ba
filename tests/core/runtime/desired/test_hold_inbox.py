"""Orders from other nodes are carried out once each, whatever Consul does in between."""

from __future__ import annotations

from lictor.core.errors import ConsulUnreachable
from lictor.core.model.desired import DesiredState, HoldOrder
from lictor.core.runtime.desired.hold_inbox import HoldInbox
from lictor.core.testing import FakeDesired, MemoryStore
from tests.core.build import key
from tests.core.virtual import virtual

ORDER = HoldOrder(key("piper"), DesiredState.STOPPED, "anna", "x")


async def waiting(kv: FakeDesired) -> tuple[HoldOrder, ...]:
    async for view in kv.watch():
        return view.value.hold_orders
    raise AssertionError


@virtual
async def test_an_order_is_carried_out_once_and_taken_away():
    kv, done = FakeDesired(), []
    inbox = HoldInbox(MemoryStore(), done.append)
    await kv.order_hold(ORDER, node="host2")
    await kv.order_hold(ORDER, node=kv.node)
    orders = await waiting(kv)
    await inbox.take(kv, orders)
    await inbox.take(kv, orders)
    assert [order.key for order in done] == [key("piper")]
    assert await waiting(kv) == ()
    await kv.order_hold(ORDER, node=kv.node)  # ordered again, it is another order
    await inbox.take(kv, await waiting(kv))
    assert len(done) == 2


@virtual
async def test_an_order_that_could_not_be_taken_away_is_not_carried_out_by_the_next_agent():
    kv, store, done = FakeDesired(), MemoryStore(), []
    await kv.order_hold(ORDER, node=kv.node)
    orders = await waiting(kv)
    kv.fail(ConsulUnreachable("gone"))
    await HoldInbox(store, done.append).take(kv, orders)
    kv.fail(None)
    assert await waiting(kv) == orders
    await HoldInbox(MemoryStore(store), done.append).take(kv, orders)
    assert len(done) == 1
    assert await waiting(kv) == ()
