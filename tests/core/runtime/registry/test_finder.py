"""Answers about services, also while Consul is away."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import ClassVar

import pytest

from lictor.core.errors import ConsulUnreachable
from lictor.core.model.reason import because
from lictor.core.ports import Instance
from lictor.core.runtime.registry.finder import Finder
from lictor.core.runtime.registry.found_rows import MOST
from lictor.core.testing import MemoryStore
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


class Mute:
    """A Consul that takes the question and never answers it."""

    async def discover(self, name=None, *, tag=None, dc=None, near=None):
        await asyncio.sleep(10)
        raise ConsulUnreachable("not within 10 s")


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
async def test_a_consul_that_came_late_is_remembered_soon_and_not_after_a_minute():
    consul, finder = Consul(one()), Finder(LoopClock())
    there, consul.instances = consul.instances, None
    task = asyncio.create_task(finder.keep_remembering(consul))
    await asyncio.sleep(20)  # the tries of the beginning were in vain
    consul.instances = there
    finder.look_again()
    await asyncio.sleep(2)
    consul.instances = None
    found = await finder.find(consul, "piper", dc=None, near=None)
    task.cancel()
    assert list(found.instances) == [one()]
    assert found.away is not None


@virtual
async def test_a_consul_that_is_known_to_be_away_is_waited_for_only_where_nothing_is_remembered():
    finder, loop = Finder(LoopClock()), asyncio.get_running_loop()
    await finder.find(Consul(one()), "piper", dc=None, near=None)
    doubt = because("consul.unreachable", message="it does not answer")
    began = loop.time()
    found = await finder.find(Mute(), "piper", dc=None, near=None, doubt=doubt)
    assert (list(found.instances), found.away) == ([one()], doubt)
    assert loop.time() - began == pytest.approx(1)
    for name, known in (("hello", doubt), ("piper", None)):
        began = loop.time()
        with contextlib.suppress(ConsulUnreachable):
            await finder.find(Mute(), name, dc=None, near=None, doubt=known)
        assert loop.time() - began == pytest.approx(10)
    back = await finder.find(
        Consul(one("piper", "critical")), "piper", dc=None, near=None, doubt=doubt
    )
    assert (back.away, back.instances[0].health) == (None, "critical")


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


def again(store: MemoryStore, clock: LoopClock) -> Finder:
    """The finder of the next agent on the same disk."""
    later = Finder(clock, MemoryStore(store))
    later.load()
    return later


AWAY = because("consul.unreachable", message="nobody there")


@virtual
async def test_the_next_agent_answers_from_disk_with_the_true_age():
    store, clock = MemoryStore(), LoopClock()
    there = [one(), one("hello", health="critical")]
    await Finder(clock, store).find(Consul(*there), None, dc=None, near=None)
    await asyncio.sleep(40)
    later = again(store, clock)
    found = later.recall(None, dc=None, away=AWAY)
    assert list(found.instances) == there
    assert found.age == pytest.approx(40)
    assert [each.id for each in later.recall("hello", dc=None, away=AWAY).instances] == ["id-hello"]
    assert later.recall(None, dc="east", away=AWAY) is None
    assert later.since(one()) is None  # what happened while no agent ran was seen by nobody
    fresh = await later.find(Consul(one()), None, dc=None, near=None)
    assert (fresh.away, len(fresh.instances)) == (None, 1)


@virtual
async def test_an_answer_that_says_nothing_new_is_not_written_again():
    class Counting(MemoryStore):
        saved: ClassVar[list[str]] = []

        def save(self, table, key, row):
            self.saved.append(key)
            super().save(table, key, row)

    store = Counting()
    finder = Finder(LoopClock(), store)
    for _ in range(3):
        await finder.find(Consul(one()), None, dc=None, near=None)
    assert store.saved.count("everything") == 1
    assert store.saved.count("age") == 3


@virtual
async def test_what_is_kept_on_disk_is_bounded_and_never_half_an_answer():
    store, clock = MemoryStore(), LoopClock()
    finder = Finder(clock, store)
    await finder.find(Consul(one()), None, dc=None, near=None)
    many = [replace(one(), id=f"i{number}") for number in range(MOST + 1)]
    await finder.find(Consul(*many), None, dc=None, near=None)
    assert again(store, clock).recall(None, dc=None, away=AWAY) is None
    large = [replace(one(), id=f"i{n}", meta={"m": "x" * 500}) for n in range(MOST)]
    await finder.find(Consul(*large), None, dc=None, near=None)
    assert again(store, clock).recall(None, dc=None, away=AWAY) is None
    wordy = [replace(one(), output="y" * 4000)]
    await finder.find(Consul(*wordy), None, dc=None, near=None)
    (kept,) = again(store, clock).recall(None, dc=None, away=AWAY).instances
    assert len(kept.output) == 200


@pytest.mark.parametrize(
    "rows",
    [
        {"everything": {"instances": [{"id": "x"}]}, "age": {"at": 1.0}},
        {"everything": {"instances": "x"}, "age": {"at": 1.0}},
        {"everything": {"instances": [5]}, "age": {"at": 1.0}},
        {"everything": {"instances": []}},
        {"everything": {"instances": []}, "age": {"at": "yesterday"}},
        {"age": {"at": 1.0}},
    ],
)
@virtual
async def test_rows_that_make_no_sense_are_no_answer(rows):
    store = MemoryStore()
    for key, row in rows.items():
        store.save("discovery", key, row)
    assert again(store, LoopClock()).recall(None, dc=None, away=AWAY) is None


@virtual
async def test_a_clock_that_was_put_back_makes_no_answer_of_the_future():
    store, clock = MemoryStore(), LoopClock()
    await Finder(clock, store).find(Consul(one()), None, dc=None, near=None)
    store.save("discovery", "age", {"at": clock.wall() + 3600})
    assert again(store, clock).recall(None, dc=None, away=AWAY).age == 0.0
