"""A deletion is believed while it stops few: the bounds of "few", to the service."""

from __future__ import annotations

import pytest

from lictor.core.model.desired import DesiredState, Override
from lictor.core.planning.absence import hold_back
from lictor.core.planning.overrides import Host, InForce, merge
from tests.core.build import WALL, key, spec


def held(gone: int, of: int) -> int | None:
    """How many stops are held back when the documents of `gone` of these services are deleted."""
    names = [f"s{number}" for number in range(of)]
    specs = [spec(name, activation="manual") for name in names]
    before = InForce({key(name): Override(state=DesiredState.RUNNING) for name in names})
    after = InForce({key(name): before.node[key(name)] for name in names[gone:]})
    found = hold_back(before, after, lambda now: merge(specs, now, wall=WALL, host=Host()))
    return None if found is None else len(found.services)


@pytest.mark.parametrize(
    ("gone", "of", "stops"), [(2, 2, None), (3, 3, 3), (3, 5, 3), (3, 6, None), (4, 7, 4)]
)
def test_more_than_two_and_more_than_half_are_held_and_nothing_less(gone, of, stops):
    assert held(gone, of) == stops
