"""What is written down of a change of state: after what it leads to, and in its order."""

from __future__ import annotations

import asyncio

import pytest

from lictor.core.model.reason import because
from lictor.core.runtime.supervision.telling import Change, Telling
from lictor.core.testing import MemoryStore
from tests.core.build import key, now_in

PIPER = key("piper")


def change(after: str, before: str, at: float = 1.0) -> Change:
    return Change(PIPER, now_in(after), now_in(before), at)


@pytest.fixture
def store():
    return MemoryStore()


def phases(store) -> list[object]:
    return [line.data["phase"] for line in store.events if line.kind == "phase"]


async def test_the_tasks_that_a_change_made_begin_before_it_is_written_down(store):
    telling, begun = Telling(store), []

    async def work() -> None:
        begun.append(phases(store))

    telling.add(change("stopping", "ready"))
    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.gather(*tasks)
    assert begun == [[], [], []]
    await asyncio.sleep(0.01)
    assert phases(store) == ["stopping"]


async def test_changes_are_told_in_their_order_and_with_their_time(store):
    telling = Telling(store)
    telling.add(change("stopping", "ready", 5.0))
    telling.add(change("stopped", "stopping", 6.0))
    await asyncio.sleep(0.01)
    assert phases(store) == ["stopping", "stopped"]
    assert [line.at for line in store.events] == [5.0, 6.0]
    assert store.load("services")["piper"]["phase"] == "stopped"


async def test_what_waits_can_be_told_at_once_and_only_once(store):
    telling = Telling(store)
    telling.add(change("stopping", "ready"))
    telling.now()
    store.record(at=2.0, kind="verb", subject="", reason=because("ready"), who="anna", data={})
    await asyncio.sleep(0.01)
    assert [line.kind for line in store.events] == ["phase", "verb"]


async def test_what_people_need_not_hear_of_is_only_kept(store):
    telling = Telling(store)
    telling.add(change("ready", "ready"))
    await asyncio.sleep(0.01)
    assert phases(store) == []
    assert store.load("services")["piper"]["phase"] == "ready"
