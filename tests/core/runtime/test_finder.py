"""Answers about services, also while Consul is away."""

from __future__ import annotations

import asyncio

import pytest

from lictor.core.errors import ConsulUnreachable
from lictor.core.ports import Instance
from lictor.core.runtime.finder import Finder
from tests.core.virtual import LoopClock, virtual


def one(service: str = "piper", health: str = "passing", node: str = "host1") -> Instance:
    return Instance(service, f"id-{service}", node, "127.0.0.1", 1, (), {}, health, "")


class Consul:
    """What discovery says now; None: it is away."""

    def __init__(self, *instances: Instance) -> None:
        self.instances: list[Instance] | None = list(instances)
        self.asked: list[str | None] = []

    async def discover(self, name=None, *, tag=None, dc=None, near=None):
        self.asked.append(name)
        if self.instances is None:
            raise ConsulUnreachable("nobody there")
        return [each for each in self.instances if name in {None, each.service}]


@virtual
async def test_an_answer_is_remembered_with_its_age():
    consul, finder = Consul(one()), Finder(LoopClock())
    fresh = await finder.find(consul, "piper", dc=None, near=None)
    assert (fresh.away, fresh.age) == (None, 0.0)
    consul.instances = None
    await asyncio.sleep(12)
    old = await finder.find(consul, "piper", dc=None, near=None)
    assert list(old.instances) == [one()]
    assert old.age == pytest.approx(12)
    assert old.away is not None
    assert old.away.code == "consul.unreachable"


@virtual
async def test_what_was_never_asked_for_is_taken_from_the_answer_about_everything():
    consul, finder = Consul(one(), one("hello")), Finder(LoopClock())
    task = asyncio.create_task(finder.keep_remembering(consul))
    await asyncio.sleep(200)
    task.cancel()
    assert len(consul.asked) == 5  # twice at first, then once a minute
    consul.instances = None
    found = await finder.find(consul, "hello", dc=None, near=None)
    assert [each.service for each in found.instances] == ["hello"]
    assert list((await finder.find(consul, "nobody", dc=None, near=None)).instances) == []
    assert len((await finder.find(consul, None, dc=None, near=None)).instances) == 2


@virtual
async def test_without_any_memory_the_failure_is_told():
    consul, finder = Consul(one()), Finder(LoopClock())
    await finder.find(consul, "piper", dc=None, near=None)
    consul.instances = None
    for name, dc in (("hello", None), (None, None), ("piper", "east")):
        with pytest.raises(ConsulUnreachable):
            await finder.find(consul, name, dc=dc, near=None)


@virtual
async def test_since_when_is_known_only_of_a_change_that_was_seen():
    clock = LoopClock()
    consul, finder = Consul(one()), Finder(clock)
    await finder.find(consul, "piper", dc=None, near=None)
    assert finder.since(one()) is None
    await asyncio.sleep(10)
    consul.instances = [one(health="critical")]
    await finder.find(consul, "piper", dc=None, near=None)
    changed = clock.wall()
    await asyncio.sleep(10)
    await finder.find(consul, None, dc=None, near=None)
    assert finder.since(one(health="critical")) == changed
    assert finder.since(one()) is None


@virtual
async def test_the_memory_of_single_names_is_bounded():
    consul, finder = Consul(one()), Finder(LoopClock())
    for number in range(200):
        await finder.find(consul, f"n{number}", dc=None, near=None)
    consul.instances = None
    await finder.find(consul, "n199", dc=None, near=None)
    with pytest.raises(ConsulUnreachable):
        await finder.find(consul, "n0", dc=None, near=None)
