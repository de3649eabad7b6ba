"""A page that stays open for days: the agent comes and goes under it, and a proxy stands before it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import House, Open, services
from tests.support.agent import wait_until
from tests.support.children import free_port
from tests.support.reverse_proxy import ReverseProxy
from tests.support.scale import many

pytestmark = [pytest.mark.consul, pytest.mark.slow]

RESTARTS = many(4, 20)
BASE = "/ops/lictor"


def test_the_agent_is_restarted_again_and_again_under_an_open_page(make_house, open_page: Open):
    sleep = {"command": ["/bin/sleep", "1000"], "stop": {"pause": "0s"}}
    defined = {"first": sleep, "second": sleep, "third": {**sleep, "activation": "manual"}}
    # A port of its own: one that the system chose might be somebody else's when the agent comes back.
    web = {"port": free_port()}
    house: House = make_house(defined, agent={"on_term": "keep"}, sections={"web": web})
    house.agent.wait_ready("first", "second")
    page = open_page(house, expect="ERR_|Failed to load|401|503")
    pids = {name: house.agent.service_pid(name) for name in ("first", "second")}
    page.evaluate("window.stillTheSamePage = true")
    third = page.locator("#row-third")
    for number in range(RESTARTS):
        verb, state = (("Start", "● ready"), ("Stop", "○ stopped"))[number % 2]
        third.get_by_role("button", name=f"{verb} third").click()
        page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()
        expect(page.get_by_role("dialog")).to_have_count(0)  # the agent has taken the order
        # Killed and ended in order, in turns of two: both after a start and after a stop.
        house.agent.signal(signal.SIGTERM if number % 4 in {1, 2} else signal.SIGKILL)
        house.agent.wait_exit()
        expect(page.locator(".live")).not_to_contain_text("live", timeout=30_000)
        house.agent.start()
        expect(page.locator(".live")).to_contain_text("live", timeout=40_000)
        expect(third.locator(".state")).to_have_text(state, timeout=30_000)
        expect(third.locator(".order")).to_have_count(0)
        expect(page.locator("tr[id^=row-]")).to_have_count(3)
    assert page.evaluate("window.stillTheSamePage") is True
    house.agent.wait_ready("first", "second")
    assert {name: house.agent.service_pid(name) for name in pids} == pids


@pytest.fixture
def stand_before() -> Iterator[Callable[[House, bool], ReverseProxy]]:
    """Puts a proxy before a house; it stands until every page is closed."""
    with ExitStack() as stack:

        def make(house: House, strip: bool) -> ReverseProxy:
            proxy = stack.enter_context(ReverseProxy(house.url, BASE, strip=strip))
            house.url = proxy.url
            return proxy

        yield make


@pytest.mark.parametrize("strip", [True, False][: many(1, 2)], ids=lambda on: f"strip={on}")
def test_the_main_journey_behind_a_proxy_below_a_path(
    make_house, stand_before, open_page: Open, strip: bool
):
    chosen = {name: one for name, one in services().items() if name in {"redis", "brain", "bot"}}
    web = {"port": 0, "base_path": BASE, "behind_proxy": True}
    house: House = make_house(chosen, sections={"web": web})
    house.agent.wait_ready("redis", "brain", "bot")
    proxy = stand_before(house, strip)
    page = open_page(house)
    brain = page.locator("#row-brain")
    expect(brain.locator(".state")).to_have_text("● ready")
    expect(page.locator(".live")).to_contain_text("live")
    brain.get_by_role("button", name="Stop brain").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    expect(brain.locator(".state")).to_have_text("○ stopped")  # told by the stream
    page.reload()
    brain.get_by_role("button", name="Start brain").click()
    page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
    expect(brain.locator(".state")).to_have_text("● ready")
    page.locator("#row-bot a.act").click()
    expect(page.locator(".log")).to_contain_text("no voice")
    page.goto(f"{house.url}/#/events")
    expect(page.locator(".events li").first).to_be_visible()
    page.goto(f"{house.url}/#/registry")
    expect(page.get_by_text("brain.service.consul")).to_be_visible()
    page.goto(f"{house.url}/#/audit")
    with page.expect_download() as file:
        page.get_by_role("link", name="CSV").click()
    assert "127.0.0.1" in file.value.path().read_text()
    link = re.search(r"http\S+(#link=\S+)", house.agent.cli("dashboard").out)
    assert link, "no link"
    page.context.clear_cookies()
    page.goto(f"{house.url}/{link[1]}")
    expect(brain.locator(".state")).to_have_text("● ready")
    assert "link=" not in page.url
    page.get_by_role("button", name="Signed in as admin").click()
    page.get_by_role("button", name="Sign out").click()
    wait_until(lambda: page.locator("input[name=password]").count() == 1)
    assert proxy.strays in ([], ["/favicon.ico"])
