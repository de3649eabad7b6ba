"""The real pynvml in the real helper process, over a driver that is a text file (tests/support/nvml)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from lictor.core.model.gpu import Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.probes.gpu_helper import GpuHelper, inventory_from
from tests.support.children import alive, eventually
from tests.support.nvml import GIB, Cards, environment


@pytest.fixture
def cards(tmp_path, monkeypatch) -> Cards:
    found = Cards(tmp_path / "driver")
    for name, value in environment(found).items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
async def helper(cards):
    one = GpuHelper(limits=(20.0, 2.0))
    yield one
    await one.close()


async def seen(helper: GpuHelper) -> Inventory:
    found = await helper.look()
    assert isinstance(found, Known), found
    return found.value


async def test_a_card_is_told_with_all_its_figures(cards, helper):
    cards.add(reserved=GIB // 2, util=7)
    cards.hold(os.getpid(), 3 * GIB, busy=40)
    found = await seen(helper)
    assert (found.driver, found.cuda, found.problem) == ("550.54.15", "12.4", "")
    (card,) = found.cards
    assert (card.uuid, card.index, card.name) == ("GPU-stub-0", 0, "NVIDIA RTX 4090")
    assert (card.capability, card.lost, card.mig) == (8.9, False, False)
    assert (card.total, card.reserved, card.used) == (24 * GIB, GIB // 2, 3 * GIB)
    assert card.free == 24 * GIB - GIB // 2 - 3 * GIB
    assert (card.utilization, card.temperature, card.fan) == (7, 41, 30)
    assert (card.power, card.power_limit) == (31.5, 450.0)
    assert card.processes is not None
    (process,) = card.processes
    assert (process.pid, process.memory, process.busy) == (os.getpid(), 3 * GIB, 40)


async def test_a_change_is_seen_at_the_next_look_by_the_same_process(cards, helper):
    cards.add()
    assert (await seen(helper)).cards[0].free == 24 * GIB
    first = helper.pid
    cards.hold(os.getpid(), GIB)
    cards.add(name="NVIDIA_GTX_1080_Ti", major=6, minor=1, total=11 * GIB)
    found = await seen(helper)
    assert [card.capability for card in found.cards] == [8.9, 6.1]
    assert found.cards[0].free == 23 * GIB
    assert helper.pid == first


async def test_a_process_that_draws_and_computes_is_told_once(cards, helper):
    cards.add()
    cards.hold(os.getpid(), GIB, kind="b")
    (card,) = (await seen(helper)).cards
    assert card.processes is not None
    assert [(one.pid, one.memory) for one in card.processes] == [(os.getpid(), GIB)]


async def test_a_process_that_did_nothing_lately_was_not_busy_which_is_not_the_same_as_not_told(
    cards, helper
):
    cards.add()
    cards.hold(os.getpid(), GIB)
    (card,) = (await seen(helper)).cards
    assert card.processes is not None
    assert [one.busy for one in card.processes] == [0]


async def test_figures_that_a_card_does_not_have_are_none(cards, helper):
    cards.add(util=-1, temp=-1, power=-1, limit=-1, fan=-1, mig=-1, major=-1)
    cards.hold(os.getpid(), -1)
    (card,) = (await seen(helper)).cards
    figures = (card.utilization, card.temperature, card.power, card.power_limit, card.fan)
    assert figures == (None,) * 5
    assert (card.mig, card.capability) == (None, None)
    assert card.processes is not None
    assert card.processes[0].memory is None
    assert card.free == 24 * GIB


async def test_a_card_that_does_not_tell_its_memory_is_still_a_card(cards, helper):
    cards.add(total=-1)
    (card,) = (await seen(helper)).cards
    assert (card.total, card.free, card.used) == (None, None, None)


async def test_an_older_driver_lacks_functions_and_nothing_else(cards, monkeypatch):
    cards.add(reserved=GIB)
    cards.hold(os.getpid(), GIB)
    for name, value in environment(cards, old=True).items():
        monkeypatch.setenv(name, value)
    helper = GpuHelper()
    try:
        (card,) = (await seen(helper)).cards
    finally:
        await helper.close()
    assert (card.total, card.free, card.reserved) == (24 * GIB, 22 * GIB, None)
    assert (card.fan, card.mig) == (None, None)
    assert card.processes is not None
    assert (card.processes[0].memory, card.processes[0].busy) == (GIB, None)


@pytest.mark.parametrize("how", [1, 2])
async def test_a_lost_card_hides_no_other(cards, helper, how):
    cards.add()
    cards.add()
    assert len((await seen(helper)).cards) == 2
    cards.change(0, lost=how)
    lost, fine = (await seen(helper)).cards
    assert (lost.lost, lost.free) == (True, None)
    assert (fine.lost, fine.free) == (False, 24 * GIB)


async def test_a_reloaded_driver_is_opened_again(cards, helper):
    cards.add()
    await seen(helper)
    cards.driver(generation=2)
    assert (await seen(helper)).cards[0].free == 24 * GIB


@pytest.mark.parametrize(
    ("code", "problem"), [(9, "no_driver"), (18, "mismatch"), (4, "refused"), (12, "no_library")]
)
async def test_a_driver_that_cannot_be_used_is_known_to_be_none(cards, helper, code, problem):
    cards.add()
    cards.driver(init=code)
    found = await seen(helper)
    assert (found.cards, found.problem) == ((), problem)
    assert helper.pid is None, "nothing stays behind where there is nothing to see"


async def test_no_library_at_all_is_no_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    helper = GpuHelper()
    try:
        found = await seen(helper)
    finally:
        await helper.close()
    assert (found.cards, found.problem) == ((), "no_library")


async def test_no_card_in_a_host_with_a_driver_is_told(cards, helper):
    found = await seen(helper)
    assert (found.cards, found.problem) == ((), "no_cards")


async def test_an_error_of_the_driver_is_unknown_and_not_an_empty_host(cards, helper):
    cards.add()
    cards.driver(init=999)
    found = await helper.look()
    assert isinstance(found, Unknown)
    assert found.reason.code == "gpu.unknown"


@pytest.mark.parametrize("how", ["the driver hangs", "the helper is stopped"])
async def test_what_hangs_blocks_nobody_and_is_replaced(cards, how):
    cards.add()
    helper = GpuHelper(limits=(20.0, 0.5))
    try:
        await seen(helper)
        first = helper.pid
        assert first is not None
        if how == "the driver hangs":
            cards.driver(hang=1)
        else:
            os.kill(first, signal.SIGSTOP)
        begun = time.monotonic()
        found = await helper.look()
        assert isinstance(found, Unknown)
        assert time.monotonic() - begun < 15
        assert not alive(first)
        assert isinstance(await helper.look(), Unknown), "there is a pause before the next try"
        cards.driver(hang=0)
        deadline = time.monotonic() + 30
        while not isinstance(await helper.look(), Known):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert helper.pid not in {None, first}
    finally:
        await helper.close()


async def test_a_helper_that_dies_is_started_again(cards, helper):
    cards.add()
    await seen(helper)
    first = helper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: not alive(first))
    deadline = time.monotonic() + 30
    while not isinstance(await helper.look(), Known):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert helper.pid != first


@pytest.mark.parametrize(
    "said", ["'no json'", "'[1]'", "'{}'", '\'{"cards": [{"odd": 1}]}\'', "''"]
)
async def test_nonsense_is_unknown(said):
    helper = GpuHelper([sys.executable, "-c", f"input(); print({said})"], limits=(20.0, 20.0))
    try:
        assert isinstance(await helper.look(), Unknown)
    finally:
        await helper.close()


async def test_a_look_that_is_given_up_leaves_no_answer_for_the_next(cards, helper):
    cards.add()
    await seen(helper)
    cards.driver(hang=1)
    look = asyncio.create_task(helper.look())
    await asyncio.sleep(0.2)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    assert helper.pid is None  # its answer would come before that to the next question
    cards.driver(hang=0)
    cards.hold(os.getpid(), GIB)
    assert (await seen(helper)).cards[0].free == 23 * GIB


async def test_its_end_ends_the_process(cards, helper):
    cards.add()
    await seen(helper)
    pid = helper.pid
    assert pid is not None
    await helper.close()
    assert not alive(pid)


def test_an_answer_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no answer of the helper"):
        inventory_from({"cards": 5})
