"""Who waits for whom."""

from __future__ import annotations

from lictor.core.planning.order import dependents, instances_of
from tests.core.build import desired, key, want


def test_depending_on_a_service_means_all_of_its_instances():
    keys = [key("tts@a"), key("tts@b"), key("tts-extra"), key("db")]
    assert instances_of("tts", keys) == (key("tts@a"), key("tts@b"))


def test_dependents_are_the_direct_ones():
    wanted = desired(want("db"), want("api", needs=["db"]), want("web", needs=["api"]))
    assert dependents("db", wanted) == (key("api"),)
