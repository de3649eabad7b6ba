"""Events of containers that nobody holds: kept for a while, told once, and never many."""

from __future__ import annotations

from lictor.core.drivers.docker.early import EarlyEvents


def test_what_was_told_early_is_given_once_and_in_order():
    early = EarlyEvents()
    early.keep("a", "oom", None)
    early.keep("b", "die", 0)
    early.keep("a", "die", 137)
    assert list(early.of("a")) == [("oom", None), ("die", 137)]
    assert list(early.of("a")) == []
    assert list(early.of("b")) == [("die", 0)]


def test_only_the_latest_containers_are_remembered_and_little_of_each():
    early = EarlyEvents()
    for number in range(1000):
        early.keep(str(number), "die", number)
        for _ in range(100):
            early.keep(str(number), "oom", None)
    kept = [str(number) for number in range(1000) if list(early.of(str(number)))]
    assert kept == [str(number) for number in range(1000 - len(kept), 1000)]
    assert 10 < len(kept) < 100
