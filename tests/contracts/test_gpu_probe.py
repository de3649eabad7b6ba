"""What every `GpuProbe` does: the real one over a driver that is a text file, and the fake that ships."""

from __future__ import annotations

import asyncio
import time

import pytest

from lictor.core.model.gpu import Gpu
from lictor.core.model.known import Known, Unknown
from lictor.core.probes.gpu_helper import GpuHelper
from lictor.core.testing import FakeGpuProbe
from tests.support.nvml import GIB, Cards, environment


class Real:
    def __init__(self, cards: Cards) -> None:
        self.cards = cards
        self.probe = GpuHelper(limits=(20.0, 0.5))

    def add(self) -> None:
        self.cards.add()

    def hang(self) -> None:
        self.cards.driver(hang=1)

    def recover(self) -> None:
        self.cards.driver(hang=0)


class Fake:
    def __init__(self) -> None:
        self.probe = FakeGpuProbe()
        self.probe.set()

    def add(self) -> None:
        card = {"total": 24 * GIB, "free": 24 * GIB, "used": 0, "capability": 8.9}
        self.probe.set(Gpu("GPU-stub-0", 0, "NVIDIA RTX 4090", **card))

    def hang(self) -> None:
        self.probe.hang()

    def recover(self) -> None:
        self.probe.why = ""


@pytest.fixture(params=["real", "fake"])
async def host(request, tmp_path, monkeypatch):
    if request.param == "real":
        cards = Cards(tmp_path / "driver")
        for name, value in environment(cards).items():
            monkeypatch.setenv(name, value)
        made: Real | Fake = Real(cards)
    else:
        made = Fake()
    yield made
    await made.probe.close()


async def test_a_host_without_cards_is_known_to_have_none(host):
    found = await host.probe.look()
    assert isinstance(found, Known)
    assert found.value.cards == ()
    assert found.value.problem == "no_cards"


async def test_a_card_is_told_with_its_memory(host):
    host.add()
    found = await host.probe.look()
    assert isinstance(found, Known)
    card = found.value.card("GPU-stub-0")
    assert card is not None
    assert (card.total, card.free, card.capability) == (24 * GIB, 24 * GIB, 8.9)
    assert found.value.problem == ""
    assert found.value.card("another") is None


async def test_who_asks_together_gets_an_answer_each(host):
    host.add()
    answers = await asyncio.gather(*(host.probe.look() for _ in range(5)))
    assert all(isinstance(one, Known) for one in answers)


async def test_a_driver_that_hangs_is_unknown_and_known_again_later(host):
    host.add()
    assert isinstance(await host.probe.look(), Known)
    host.hang()
    found = await host.probe.look()
    assert isinstance(found, Unknown)
    assert found.reason.code == "gpu.unknown"
    host.recover()
    deadline = time.monotonic() + 30
    while not isinstance(await host.probe.look(), Known):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_it_can_be_closed_twice_and_asked_again(host):
    host.add()
    assert isinstance(await host.probe.look(), Known)
    await host.probe.close()
    await host.probe.close()
    assert isinstance(await host.probe.look(), Known)
