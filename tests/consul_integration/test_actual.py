"""Publishing the actual state against a real Consul."""

import asyncio
import json

import pytest

from lictor.consul_integration.actual import KvActual
from lictor.core.errors import ConsulUnreachable
from lictor.core.model.names import ServiceKey

pytestmark = pytest.mark.consul

PIPER = ServiceKey("piper")
ONE = ServiceKey("piper", "a")


@pytest.fixture
def actual(client, unique):
    return KvActual(client, "host1", prefix=unique)


def index(consul, unique, key="piper") -> int:
    return consul.raw("GET", f"kv/{unique}/actual/host1/{key}").json[0]["ModifyIndex"]


async def test_records_are_written_once_and_again_only_when_they_differ(actual, consul, unique):
    await actual.publish({PIPER: {"phase": "ready", "pid": 7}, ONE: {"phase": "stopped"}})
    text = consul.get_kv(f"{unique}/actual/host1/piper")
    assert json.loads(text) == {"phase": "ready", "pid": 7}
    assert consul.get_kv(f"{unique}/actual/host1/piper@a") == '{"phase": "stopped"}'
    before = index(consul, unique)
    await actual.publish({PIPER: {"pid": 7, "phase": "ready"}})
    assert index(consul, unique) == before
    await actual.publish({PIPER: {"phase": "unhealthy", "pid": 7}})
    assert index(consul, unique) > before


async def test_none_deletes_and_deleting_again_is_fine(actual, consul, unique):
    await actual.publish({PIPER: {"phase": "ready"}})
    await actual.publish({PIPER: None, ONE: None})
    await actual.publish({PIPER: None})
    assert consul.get_kv(f"{unique}/actual/host1/piper") is None


@pytest.mark.checklist(
    34,
    "an agent with very many services",
    "all of them change at once",
    "split over several transactions, all of them written",
)
async def test_more_records_than_a_transaction_takes_are_all_written(actual, consul, unique):
    many = {ServiceKey(f"s{number}"): {"n": number} for number in range(150)}
    await actual.publish(many)
    found = consul.raw("GET", f"kv/{unique}/actual/host1/?keys").json
    assert len(found) == 150
    assert await actual.published() == frozenset(many)


async def test_records_too_large_for_one_transaction_are_split(actual, consul, unique):
    await actual.publish({ServiceKey(f"big{n}"): {"text": "ж" * 40_000} for n in range(10)})
    assert len(consul.raw("GET", f"kv/{unique}/actual/host1/?keys").json) == 10


async def test_the_next_agent_writes_only_what_changed_and_sees_what_is_left_over(
    actual, client, consul, unique
):
    await actual.publish({PIPER: {"phase": "ready"}, ONE: {"phase": "ready"}})
    consul.put_kv(f"{unique}/actual/host1/no%20service", "{}")
    before = index(consul, unique)
    later = KvActual(client, "host1", prefix=unique)
    assert await later.published() == {PIPER, ONE}
    await later.publish({PIPER: {"phase": "ready"}})
    assert index(consul, unique) == before


async def test_after_a_loss_forget_makes_everything_be_written_again(own_consul, connect):
    actual = KvActual(connect(own_consul.http), "host1")
    record = {PIPER: {"phase": "ready"}}
    await actual.publish(record)
    own_consul.kill()
    with pytest.raises(ConsulUnreachable):
        await actual.publish({PIPER: {"phase": "stopped"}})
    await asyncio.to_thread(own_consul.restart, wipe=True)
    await actual.publish(record)  # the failure made it forget
    assert own_consul.get_kv("lictor/actual/host1/piper") == '{"phase": "ready"}'
    await asyncio.to_thread(own_consul.restart, wipe=True)
    actual.forget()
    await actual.publish(record)
    assert own_consul.get_kv("lictor/actual/host1/piper") == '{"phase": "ready"}'
