"""The model of a service on its page: another one, how far it is, the way back, and the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_looks import violations
from tests.support.llm import Llm

pytestmark = [pytest.mark.consul, pytest.mark.slow]


def choose(page: Page, model: str) -> None:
    page.get_by_label("Another model").fill(model)
    page.locator(".model-choice button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Switch vllm to {model}?")
    expect(dialog.locator("ol.steps")).to_contain_text("restart")
    dialog.get_by_role("button", name="Switch").click()


def test_a_model_is_switched_followed_and_removed(
    make_house, open_page: Open, tmp_path: Path, shots: Path
):
    llm = Llm.made(tmp_path / "llm")
    house = make_house({"vllm": llm.service()})
    house.agent.wait_ready("vllm")
    page = open_page(house, "#/service/vllm", expect="400")
    card = page.locator(".card.model")
    expect(card.locator("p.mono")).to_have_text("org/first")
    expect(card).to_contain_text("used by vllm")

    page.get_by_label("Another model").fill("not an id")
    page.locator(".model-choice button").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("expected org/name")
    page.keyboard.press("Escape")

    choose(page, "org/halfway")
    expect(card.locator("progress")).to_have_attribute("value", "36")
    expect(page.locator(".truth")).to_contain_text("Model org/halfway is being loaded: 36 %")
    assert not violations(page)
    page.screenshot(path=shots / "model.png")
    page.goto(f"{house.url}/#/services")
    expect(page.locator("#row-vllm progress")).to_have_attribute("value", "36")
    page.goto(f"{house.url}/#/service/vllm")
    llm.go()
    expect(page.locator(".truth")).to_contain_text("ready")
    expect(card.locator("p.mono")).to_have_text("org/halfway")

    choose(page, "org/bad")
    expect(page.locator(".truth")).to_contain_text("It is back at model org/halfway")
    expect(card.locator("p.mono")).to_have_text("org/halfway")
    assert llm.serves() == "org/halfway"

    card.get_by_role("button", name="Remove org/bad").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(card.locator("ul.list")).not_to_contain_text("org/bad")
    assert not (llm.folder / "hf" / "hub" / "models--org--bad").exists()
    assert violations(page) == []
