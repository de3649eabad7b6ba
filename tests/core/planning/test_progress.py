"""Whether a service gets on, told from its own counters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.planning.progress import Progress, Work, after, stands_still


def looks(*seen: tuple[float, Work | None]) -> Progress | None:
    progress = None
    for now, work in seen:
        progress = after(progress, work, now=now)
    return progress


def test_who_has_requests_and_does_nothing_stands_still():
    progress = looks((0, Work(2, 10)), (5, Work(2, 10)), (10, Work(1, 10)))
    assert stands_still(progress, 10, now=10) == 10
    assert stands_still(progress, 11, now=10) is None


def test_one_token_is_progress_and_so_is_having_nothing_to_do():
    moved = looks((0, Work(2, 10)), (5, Work(2, 11)), (14, Work(2, 11)))
    assert stands_still(moved, 10, now=14) is None
    assert stands_still(moved, 9, now=14) == 9
    idle = looks((0, Work(0, 10)), (50, Work(0, 10)), (100, Work(1, 10)))
    assert stands_still(idle, 10, now=100) is None


def test_counters_that_cannot_be_read_or_began_anew_prove_nothing():
    blind = looks((0, Work(2, 10)), (50, None), (55, Work(2, 10)))
    assert stands_still(blind, 10, now=55) is None
    assert not blind.moving
    anew = looks((0, Work(2, 10)), (50, Work(2, 3)))
    assert stands_still(anew, 10, now=50) is None
    assert stands_still(looks((0, None)), 1, now=99) is None


def test_moving_is_said_of_the_last_two_looks_only():
    assert looks((0, Work(1, 1)), (1, Work(1, 2))).moving
    assert not looks((0, Work(1, 1)), (1, Work(1, 2)), (2, Work(1, 2))).moving


@given(
    st.lists(
        st.one_of(st.none(), st.builds(Work, st.integers(0, 2), st.integers(0, 3))), max_size=20
    )
)
def test_it_never_stands_still_longer_than_the_same_counters_were_seen_with_requests(seen):
    progress, run = None, 0
    for now, work in enumerate(seen):
        same = (
            progress is not None
            and work is not None
            and work.done == progress.done
            and bool(work.in_flight and progress.in_flight)
        )
        run = run + 1 if same else 0
        progress = after(progress, work, now=now)
        still = stands_still(progress, 1, now=now)
        assert still is None or still <= run
