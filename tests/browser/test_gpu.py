"""The GPUs on the monitor page: whose memory it is, and what each card does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import House
from tests.e2e.test_gpu import service
from tests.support.nvml import GIB, Cards, environment


@pytest.mark.consul
def test_the_memory_of_a_card_is_shown_by_its_owners(
    make_house: Callable[..., House], open_page: Callable[..., Page], tmp_path: Path, shots: Path
):
    cards = Cards(tmp_path / "driver")
    cards.add(util=37, temp=63)
    cards.add(name="NVIDIA_GTX_1080_Ti", major=6, minor=1, total=11 * GIB, fan=-1)
    with subprocess.Popen(["sleep", "300"]) as stranger:
        try:
            cards.hold(stranger.pid, 3 * GIB)
            services = {"xtts": service("voice", cards, 9, gpu={"devices": [0]})}
            house = make_house(services, env=environment(cards))
            house.agent.wait_ready("xtts")
            page = open_page(house, "#/monitor")
            first = page.locator("section.gpu").first
            expect(first).to_contain_text("NVIDIA RTX 4090")
            expect(first).to_contain_text("xtts · 9.0 GiB")
            expect(first).to_contain_text(f"sleep (pid {stranger.pid}) · 3.0 GiB · not ours")
            expect(first).to_contain_text("37 %")
            expect(first).to_contain_text("63 °C")
            expect(first.locator("svg.bar")).to_have_attribute(
                "aria-label", "VRAM 12.0 GiB / 24.0 GiB"
            )
            expect(page.locator("section.gpu")).to_have_count(2)
            page.screenshot(path=shots / "gpu.png", full_page=True)
            cards.change(0, lost=1)
            expect(first).to_contain_text("lost")
        finally:
            stranger.kill()
