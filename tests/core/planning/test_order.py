"""Who waits for whom."""

from __future__ import annotations

import pytest

from lictor.core.planning.order import dependents, find_cycle, instances_of, waves
from tests.core.build import desired, key, want


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({"a": ["a"]}, ("a", "a")),
        ({"a": ["b"], "b": ["a"]}, ("a", "b", "a")),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ("a", "b", "c", "a")),
        ({"ok": [], "a": ["ok", "b"], "b": ["a"]}, ("a", "b", "a")),
    ],
)
def test_a_cycle_is_found_and_named_without_those_that_only_lead_to_it(edges, cycle):
    assert find_cycle(edges) == cycle


@pytest.mark.parametrize(
    "edges",
    [
        {},
        {"a": []},
        {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []},
        {"a": ["not-defined-here"]},
    ],
)
def test_a_diamond_is_no_cycle(edges):
    assert find_cycle(edges) is None


def test_depending_on_a_service_means_all_of_its_instances():
    keys = [key("tts@a"), key("tts@b"), key("tts-extra"), key("db")]
    assert instances_of("tts", keys) == (key("tts@a"), key("tts@b"))


def test_dependents_are_the_direct_ones():
    wanted = desired(want("db"), want("api", needs=["db"]), want("web", needs=["api"]))
    assert dependents("db", wanted) == (key("api"),)


def test_each_wave_needs_only_the_waves_before_it():
    wanted = desired(
        want("web", needs=["api"]),
        want("api", needs=["db", "tts"]),
        want("db"),
        want("tts@a"),
        want("tts@b", needs=["db"]),
    )
    assert waves(wanted) == [
        (key("db"), key("tts@a")),
        (key("tts@b"),),
        (key("api"),),
        (key("web"),),
    ]


def test_a_cycle_that_got_through_is_shown_as_one_wave_instead_of_hanging():
    wanted = desired(want("a", needs=["b"]), want("b", needs=["a"]), want("c"))
    assert waves(wanted) == [(key("c"),), (key("a"), key("b"))]
