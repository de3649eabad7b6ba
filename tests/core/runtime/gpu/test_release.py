"""When a card counts as given back: processes gone *and* memory free, or somebody else's."""

from __future__ import annotations

import pytest

from lictor.core.model.gpu import Gpu, GpuProcess, Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.runtime.gpu.release import Releases

GIB = 1024**3
XTTS = ServiceKey("xtts")


def cards(*processes: tuple[int, float | None], hidden: float = 0, **fields) -> Inventory:
    """One card of 24 GiB with these processes (pid, GiB)."""
    used = int((sum(size or 0 for _, size in processes) + hidden) * GIB)
    rows = tuple(
        GpuProcess(pid, None if size is None else int(size * GIB)) for pid, size in processes
    )
    total = 24 * GIB
    card = Gpu("G", 0, total=total, used=used, free=total - used, processes=rows, **fields)
    return Inventory((card,))


def ended(at: float = 100.0, used: int | None = 9 * GIB) -> Releases:
    """`xtts` had 9 GiB in process 7 and has ended."""
    found = Releases()
    found.begin(XTTS, {"G": used}, {7: "G"}, cards((7, 9)))
    found.ended(XTTS, at)
    return found


def told(releases: Releases, seen: Inventory, now: float, left=()) -> list[str]:
    return [why.code for _, why in releases.look(seen, {XTTS: left} if left else {}, now)]


def test_nobody_is_pending_at_first_and_nothing_is_told():
    assert not Releases().pending
    assert told(Releases(), cards(), 1.0) == []


def test_both_are_needed_no_process_and_the_memory():
    releases = ended()
    assert told(releases, cards((7, 9)), 100.2) == []
    assert told(releases, cards(hidden=9), 100.4) == []
    assert releases.pending
    assert releases.lingering()["G"][0].memory == 9 * GIB
    assert told(releases, cards(), 100.6) == ["gpu.released"]
    assert not releases.pending
    assert releases.lingering() == {}


def test_three_quarters_are_enough():
    assert told(ended(), cards(hidden=2), 100.2) == ["gpu.released"]
    assert told(ended(), cards(hidden=3), 100.2) == []


def test_memory_that_somebody_else_took_meanwhile_did_come_back():
    assert told(ended(), cards((99, 9)), 100.2) == ["gpu.released"]


def test_what_does_not_come_is_given_up_named_and_noticed_when_it_comes_after_all():
    releases = ended()
    assert told(releases, cards(hidden=9), 104.9) == []
    assert told(releases, cards(hidden=9), 105.1) == ["gpu.not_returned"]
    (row,) = releases.lingering()["G"]
    assert (row.memory, row.coming) == (9 * GIB, False)
    assert not releases.pending
    assert told(releases, cards(hidden=9), 200.0) == [], "it is told once"
    assert told(releases, cards(), 300.0) == ["gpu.released"]


def test_a_dead_process_that_is_still_listed_holds_the_memory_of_its_service():
    releases = ended()
    assert told(releases, cards((7, 9)), 106.0) == ["gpu.not_returned"]
    assert releases.lingering()["G"][0].memory == 9 * GIB


def test_a_living_process_of_its_own_gets_the_time_to_be_ended():
    releases = ended()
    assert told(releases, cards((8, 9)), 106.0, left=["G"]) == []
    assert told(releases, cards((8, 9)), 113.0, left=["G"]) == ["gpu.not_returned"]
    assert told(releases, cards(), 114.0) == ["gpu.released"]


def test_while_it_is_being_stopped_what_it_has_now_counts():
    releases = Releases()
    releases.begin(XTTS, {"G": GIB}, {7: "G"}, cards((7, 1)))
    releases.still({XTTS: {"G": 9 * GIB}}, {XTTS: {8: "G"}}, cards((8, 9)))
    assert told(releases, cards((8, 9)), 1.0) == []
    releases.ended(XTTS, 2.0)
    assert told(releases, cards(hidden=8), 2.2) == []
    assert told(releases, cards(), 2.4) == ["gpu.released"]


@pytest.mark.parametrize("seen", [Inventory(), cards(lost=True)])
def test_of_a_card_that_is_gone_nothing_is_expected(seen):
    releases = ended()
    assert told(releases, seen, 100.1) == []
    assert not releases.pending


def test_where_the_driver_tells_no_memory_the_end_of_the_processes_is_all_there_is():
    releases = ended(used=None)
    assert told(releases, cards((7, None)), 100.1) == []
    assert told(releases, cards(), 100.3) == ["gpu.released"]
