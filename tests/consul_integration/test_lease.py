"""The lease of a node's name, against a real Consul."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from lictor.consul_integration.actual import KvActual
from lictor.consul_integration.address import ConsulAddress
from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.desired import KvDesired
from lictor.consul_integration.lease import LOCK_DELAY, TTL, Lease
from lictor.consul_integration.nodes import KvNodes
from lictor.consul_integration.peek import holder
from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.errors import ConsulError, Forbidden, NodeTaken
from lictor.core.model.desired import DesiredChange
from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import Deregister
from tests.support.consul import ConsulServer, free_ports
from tests.support.patience import until

pytestmark = pytest.mark.consul

Make = Callable[..., Lease]

PIPER = ServiceKey("piper")


def facts(agent: str, **others: Any) -> Mapping[str, Any]:
    return {"agent": agent, "boot": "b1", "lock": "1:2", "host": "h", "pid": 7, **others}


@pytest.fixture
async def make(consul: ConsulServer, unique: str) -> AsyncIterator[Make]:
    """Makes leases of one node's name, each with a client of its own."""
    clients: list[ConsulClient] = []

    def one(agent: str, server: ConsulServer = consul, token: str = "", **others: Any) -> Lease:
        clients.append(ConsulClient(server.http, token=token or None))
        lease = Lease(clients[-1], unique)
        lease.introduce(lambda: facts(agent, **others), lambda _: None)
        return lease

    yield one
    for client in clients:
        await client.close()


def stored(consul: ConsulServer, node: str) -> dict[str, Any]:
    return dict(consul.raw("GET", f"kv/lictor/nodes/{node}").json[0])


def session_of(consul: ConsulServer, node: str) -> str:
    return str(stored(consul, node).get("Session") or "")


async def test_the_first_has_it_and_the_second_is_told_who(make: Make, consul, unique):
    first, second = make("one"), make("two", lock="3:4")
    await first.claim()
    assert first.state.code == "lease.held"
    with pytest.raises(NodeTaken, match="agent one on host h"):
        await second.claim()
    assert second.state.code == "node.taken"
    await first.claim()
    about = consul.raw("GET", f"session/info/{session_of(consul, unique)}").json[0]
    assert (about["TTL"], about["Behavior"], about["NodeChecks"]) == ("15s", "release", [])
    assert about["LockDelay"] == LOCK_DELAY * 1e9


async def test_whoever_is_known_not_to_have_it_writes_nothing(make: Make, consul, client, unique):
    first, second = make("one"), make("two")
    await first.claim()
    with pytest.raises(NodeTaken):
        await second.claim()
    registry = ConsulRegistry(client, unique, lease=second)
    actual = KvActual(client, unique, lease=second)
    desired = KvDesired(client, unique, params_of=lambda _: {}, lease=second)
    for write in (
        registry.ready(),
        registry.apply(Deregister("x")),
        actual.publish({PIPER: {"phase": "ready"}}),
        desired.change(PIPER, DesiredChange(state="stopped")),
    ):
        with pytest.raises(NodeTaken):
            await write
    assert consul.get_kv(f"lictor/actual/{unique}/piper") is None
    assert consul.get_kv(f"lictor/desired/{unique}/piper") is None
    await desired.change(PIPER, DesiredChange(state="stopped"), node=f"{unique}-other")


async def test_the_next_agent_on_the_same_data_dir_goes_on_at_once(make: Make, consul, unique):
    await make("one").claim()
    session = session_of(consul, unique)
    heir = make("one", pid=8)
    await heir.claim()
    assert session_of(consul, unique) == session
    assert json.loads(consul.get_kv(f"lictor/nodes/{unique}"))["pid"] == 8


@pytest.mark.parametrize("other", [{"lock": "9:9"}, {"boot": "b2"}])
async def test_a_copy_of_a_data_dir_is_another_agent(make: Make, other):
    await make("one").claim()
    copy = make("one", **other)
    with pytest.raises(NodeTaken):
        await copy.claim()


async def test_a_lease_that_is_given_back_is_free_at_once_and_says_that_it_ended(
    make: Make, consul, unique
):
    first, second = make("one"), make("two")
    await first.claim()
    await first.release()
    assert session_of(consul, unique) == ""
    assert json.loads(consul.get_kv(f"lictor/nodes/{unique}"))["ended"]
    await second.claim()
    assert second.state.code == "lease.held"
    assert "ended" not in json.loads(consul.get_kv(f"lictor/nodes/{unique}"))


async def test_a_lost_session_is_replaced_while_nobody_else_came(make: Make, consul, unique):
    lease = make("one")
    await lease.claim()
    lost = session_of(consul, unique)
    keeping = asyncio.create_task(lease.keep())
    try:
        assert consul.raw("PUT", f"session/destroy/{lost}").status == 200
        await until(lambda: session_of(consul, unique) not in {"", lost})
        consul.raw("DELETE", f"kv/lictor/nodes/{unique}")
        await until(lambda: consul.raw("GET", f"kv/lictor/nodes/{unique}").status == 200)
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    await until(lambda: lease.state.code == "lease.held")


async def test_an_agent_that_finds_the_name_taken_later_says_so_and_takes_it_when_it_is_free(
    make: Make, consul, unique
):
    first, second = make("one"), make("two")
    await first.claim()
    consul.raw("PUT", f"session/destroy/{session_of(consul, unique)}")
    await second.claim()  # faster than the first, whose lock-delay is over by then
    keeping = asyncio.create_task(first.keep())
    try:
        await until(lambda: first.state.code == "node.taken")
        await second.release()
        await until(lambda: first.state.code == "lease.held")
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def test_a_dead_holder_loses_it_within_twice_its_time_and_the_lock_delay(
    make: Make, consul, unique
):
    await make("one").claim()  # and never again: as if it was killed
    second = make("two")
    loop = asyncio.get_running_loop()
    began = loop.time()
    keeping = asyncio.create_task(second.keep())
    try:
        await until(lambda: second.state.code == "lease.held", seconds=2 * TTL + LOCK_DELAY + 20)
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert loop.time() - began < 2 * TTL + LOCK_DELAY + 5


async def test_renewing_moves_nothing_in_kv(make: Make, consul, unique):
    lease = make("one")
    await lease.claim()
    index = stored(consul, unique)["ModifyIndex"]
    for _ in range(3):
        await asyncio.sleep(1.1)
        await lease.claim()
    assert stored(consul, unique)["ModifyIndex"] == index


async def test_a_token_without_the_rights_is_said_and_nothing_stands_still(
    make: Make, acl_consul: ConsulServer, unique
):
    rules = 'key_prefix "lictor/" { policy = "read" }'
    lease = make("one", acl_consul, acl_consul.token_for(rules))
    await lease.claim()
    assert lease.state.code == "lease.refused"
    lease.require()


async def test_without_consul_there_is_no_lease_and_nobody_is_refused(make: Make, own_consul):
    lease = make("one", own_consul)
    own_consul.kill()
    with pytest.raises(ConsulError):
        await lease.claim()
    assert lease.state.code == "lease.none"
    lease.require()
    own_consul.restart()
    await lease.claim()
    assert lease.state.code == "lease.held"


async def test_one_look_tells_who_has_a_name_and_never_fails(make: Make, consul, unique):
    where, key = ConsulAddress.parse(consul.http), f"lictor/nodes/{unique}"
    assert holder(where, key) is None
    lease = make("one")
    await lease.claim()
    found = await asyncio.to_thread(holder, where, key)
    assert found is not None
    assert (found["agent"], found["pid"]) == ("one", 7)
    await lease.release()
    assert holder(where, key) is None
    consul.put_kv(f"{key}-x", "no json")
    assert holder(where, f"{key}-x") is None
    assert holder(ConsulAddress.parse(f"127.0.0.1:{free_ports(1)[0]}"), key) is None
    assert holder(ConsulAddress.parse("unix:///nowhere.sock"), key) is None


async def test_all_nodes_are_read_and_hidden_ones_are_an_error(
    make: Make, consul, acl_consul, unique
):
    lease = make("one")
    await lease.claim()
    consul.put_kv(f"lictor/actual/{unique}/piper", '{"phase": "ready"}')
    consul.put_kv(f"lictor/actual/{unique}-old/piper@a", '{"phase": "ready"}')
    consul.put_kv(f"lictor/actual/{unique}/vosk", "garbage")
    async with ConsulClient(consul.http) as client:
        seen = {one.node: one for one in await KvNodes(client, lease).read()}
    assert seen[unique].held
    assert seen[unique].facts["agent"] == "one"
    assert seen[unique].services == {PIPER: {"phase": "ready"}}
    assert not seen[f"{unique}-old"].held
    assert list(seen[f"{unique}-old"].services) == [ServiceKey("piper", "a")]
    blind = acl_consul.token_for('service_prefix "" { policy = "read" }')
    async with ConsulClient(acl_consul.http, token=blind) as client:
        with pytest.raises(Forbidden):
            await KvNodes(client, Lease(client, unique)).read()


async def test_a_document_that_is_gone_is_told_once_and_written_again(make: Make, consul, unique):
    lost: list[int] = []
    lease = make("one")
    lease.introduce(lambda: facts("one"), lambda _: None, lambda: lost.append(1))
    await lease.claim()
    await asyncio.sleep(1.1)  # a lease that was just renewed is not looked at
    await lease.claim()
    assert lost == []
    assert consul.raw("DELETE", f"kv/lictor/nodes/{unique}").status == 200
    await asyncio.sleep(1.1)
    await lease.claim()
    assert lost == [1]
    assert stored(consul, unique)["Session"]
    await asyncio.sleep(1.1)
    await lease.claim()
    assert lost == [1]
