"""What is said of services of other nodes when an order for them is refused or takes too long."""

from __future__ import annotations

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.runtime.orders.remote import _not_yet, told_there

HELD = {"code": "held.stopped", "params": {"by": "anna", "why": "disk"}}


def test_what_a_node_published_is_told_as_its_reasons():
    held = because("held.stopped", by="anna", why="disk")
    assert told_there({"sentence": "anna holds it stopped (disk).", "reasons": [HELD]}) == [held]


@pytest.mark.parametrize(
    "reasons",
    [
        None,
        [],
        "held.stopped",
        [HELD, {"code": "of.tomorrow", "params": {}}],
        [{"code": ["held.stopped"], "params": {}}],
        [{"code": "held.stopped", "params": []}],
        [HELD, 3],
    ],
)
def test_reasons_that_are_not_ours_are_told_in_the_words_of_the_node(reasons):
    (said,) = told_there({"sentence": "As it said.", "reasons": reasons})
    assert said == because("order.said_there", sentence="As it said.")


def test_a_node_that_said_nothing_is_not_quoted():
    assert told_there({}) == []


def test_everything_that_is_not_done_yet_is_listed_with_its_node():
    missing = [("b", ServiceKey("piper")), ("c", ServiceKey("vllm")), ("c", ServiceKey("x", "1"))]
    assert _not_yet(missing, 5.0).message == (
        f"After 5 s not yet: piper on b, vllm on c, {missing[2][1]} on c."
    )
    assert _not_yet(missing[:1], 0.5).message == "After 0.5 s not yet: piper on b."
