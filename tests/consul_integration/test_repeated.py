"""What is read again and again is made anew only when Consul says something else."""

import itertools
import json

import pytest

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.registry import ConsulRegistry
from lictor.consul_integration.repeated import Repeated
from lictor.core.errors import Garbage, NotFound
from tests.support.liar import answer, liar

PATH = "/v1/agent/services"
HERE, THERE = {"a": {"n": 1}}, {"a": {"n": 1}, "b": {"n": 2}}


class Maker:
    """Makes a number of each member, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, name: str, member) -> str:
        self.made += 1
        return f"{name}{member['n']}"


async def told(*answers):
    """What each of several reads gave, from a server that says these one after another."""
    left, maker, gave = list(answers), Maker(), []
    async with liar(lambda _: left.pop(0), keep=True) as server:
        async with ConsulClient(server.url) as client:
            repeated = Repeated(client.transport, PATH, maker)
            for _ in answers:
                try:
                    gave.append(await repeated.read())
                except (Garbage, NotFound) as error:
                    gave.append(error)
        assert [one.split()[1] for one in server.requests] == [PATH] * len(answers)
    return gave, maker.made


async def test_the_same_answer_is_made_sense_of_once():
    gave, made = await told(*[answer(json.dumps(THERE))] * 3)
    assert gave == [{"a": "a1", "b": "b2"}] * 3
    assert gave[0] is gave[1] is gave[2]
    assert made == 2


async def test_each_change_shows_at_once_and_an_earlier_reading_stays_as_it_was():
    here, there = answer(json.dumps(HERE)), answer(json.dumps(THERE))
    gave, _ = await told(here, there, there, here, answer("{}"))
    one, both = {"a": "a1"}, {"a": "a1", "b": "b2"}
    assert gave == [one, both, both, one, {}]


async def test_what_cannot_be_understood_is_refused_each_time_and_forgotten():
    bad = ["{", "[]", "null", "7", '{"a": null}', '{"a": []}', '{"a": {}}', ""]
    for text in bad:
        good, lie = answer(json.dumps(HERE)), answer(text)
        gave, _ = await told(lie, lie, good, lie, good)
        assert [type(one) for one in gave] == [Garbage, Garbage, dict, Garbage, dict], text


async def test_a_consul_without_the_endpoint_is_no_empty_answer():
    gone = answer("{}", status="404 Not Found")
    gave, _ = await told(gone, answer("{}"), gone)
    assert [type(one) for one in gave] == [NotFound, dict, NotFound]


@pytest.mark.consul
async def test_the_real_consul_says_the_same_as_the_same_text(client, unique):
    registry = ConsulRegistry(client, "host1")
    ids = [f"lictor:host1:{unique}-{number}" for number in range(30)]
    for service_id in ids:
        await client.register_service(service_id, unique, address="127.0.0.1", port=7)
    try:
        first = await registry.read()
        assert set(ids) <= first.services.keys()
        # (others of the shared server may come and go in between, hence several tries)
        again = [await registry.read() for _ in range(20)]
        assert any(one.services is other.services for one, other in itertools.pairwise(again))
    finally:
        for service_id in ids:
            await client.deregister_service(service_id)
    assert not set(ids) & (await registry.read()).services.keys()
