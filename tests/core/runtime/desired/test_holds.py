"""Holds are kept over the life of agents, and end when their time is over."""

from __future__ import annotations

from lictor.core.model.desired import DesiredState, Hold
from lictor.core.runtime.desired.holds import Holds
from lictor.core.testing import MemoryStore
from tests.core.build import WALL, key

HOLD = Hold(DesiredState.MAINTENANCE, "anna", "new fans", WALL, WALL + 60)


def held(store: MemoryStore) -> tuple[Holds, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    holds = Holds(store, lambda subject, reason: told.append((subject, reason.code)))
    holds.load()
    return holds, told


def test_the_next_agent_knows_every_field_of_a_hold():
    store = MemoryStore()
    first, _ = held(store)
    first.place(key("piper@a"), HOLD)
    first.place(key("stt"), Hold(DesiredState.STOPPED, "bert", "x", WALL))
    second, _ = held(MemoryStore(store))
    assert second.held == first.held
    assert second.held[key("piper@a")] == HOLD


def test_a_released_hold_is_gone_for_the_next_agent_too():
    store = MemoryStore()
    first, _ = held(store)
    first.place(key("piper"), HOLD)
    assert first.release(key("piper")) == HOLD
    assert first.release(key("piper")) is None
    assert held(store)[0].held == {}


def test_a_hold_ends_once_and_says_so():
    store = MemoryStore()
    holds, told = held(store)
    holds.place(key("piper"), HOLD)
    holds.expire(WALL + 59.9)
    assert (list(holds.held), told) == ([key("piper")], [])
    holds.expire(WALL + 60)
    holds.expire(WALL + 61)
    assert (holds.held, told) == ({}, [("piper", "hold.expired")])
    assert store.load("holds") == {}


def test_rows_of_another_version_are_ignored_one_by_one():
    store = MemoryStore()
    holds, _ = held(store)
    holds.place(key("good"), HOLD)
    good = store.load("holds")["good"]
    broken = (
        {**good, "state": "paused"},
        {**good, "until": "soon"},
        {name: value for name, value in good.items() if name != "by"},
        {},
    )
    for number, row in enumerate(broken):
        store.save("holds", f"bad{number}", row)
    store.save("holds", "no name!", good)
    store.save("holds", "newer", {**good, "colour": "blue"})
    assert set(held(store)[0].held) == {key("good"), key("newer")}
