"""Every page in every language, by day and by night, on a desk and on a phone: nothing breaks.

Each picture is kept where people can look at it (LICTOR_SHOTS); what a program can judge is judged
here: axe finds nothing, nothing is wider than the screen, no text is missing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Page, expect

from tests.browser.conftest import House, Open

pytestmark = [pytest.mark.consul, pytest.mark.slow]

PAGES = {
    "services": "#/services",
    "service": "#/service/vllm",
    "log": "#/logs/bot",
    "logs": "#/logs",
    "monitor": "#/monitor",
    "registry": "#/registry",
    "events": "#/events",
    "users": "#/users",
    "audit": "#/audit",
}
#: Each language, theme and width at least twice, on every page.
SCENES = [("en", "light", 1280), ("ru", "dark", 1280), ("zh", "night", 1280)]
SCENES += [("ru", "light", 360), ("zh", "dark", 360), ("en", "night", 360)]
AXE = Path(AXE_FILE_PATH).read_text(encoding="utf-8")
_KEY = re.compile(
    r"\b(act|action|agent|audit|column|config|event|explain|group|help|hold|kind|live|login|logs"
    r"|monitor|nav|order|page|params|phase|preview|problem|registry|result|right|role|service"
    r"|services|state|theme|tokens|users)\.(?!yml|consul)[a-z][a-z_]+\b"
)


def violations(page: Page) -> list[str]:
    """What axe has against this page (WCAG 2.2 A and AA, and its good practices)."""
    page.evaluate(AXE)
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:150] for node in one['nodes'][:3]]}"
        for one in found
    ]


def visit(page: Page, house: House, where: str) -> None:
    """Go to another page of the dashboard, and return when it has what it asked for."""
    page.goto(f"{house.url}/{where}")
    _, kind, *name = where.split("/")
    # Only the address changed: until the page has looked at it, all that is there is the old page's.
    # The way in tells `services` from `logs`, the title also one service from all of them.
    way = {"service": "services"}.get(kind, kind)
    here = page.locator(f"nav a[href='#/{way}'][aria-current=page]")
    here.wait_for(state="attached")
    expect(page).to_have_title(f"{name[0] if name else here.text_content()} · Lictor")
    expect(page.locator("main [aria-busy=true]")).to_have_count(0)
    page.locator("main h1, main .empty").first.wait_for(state="attached")


@pytest.mark.parametrize(("language", "theme", "width"), SCENES)
def test_every_page_is_whole(house: House, open_page: Open, shots: Path, language, theme, width):
    height = 800 if width > 500 else 740
    page = open_page(house, width=width, height=height, language=language, theme=theme)
    problems: list[str] = []
    for name, where in PAGES.items():
        visit(page, house, where)
        page.wait_for_timeout(700)  # so that a picture has more than the first figures
        page.screenshot(path=shots / f"{name}-{language}-{theme}-{width}.png")
        text = page.locator("body").inner_text()
        for code in page.locator("td.mono").all_inner_texts():
            text = text.replace(code, "")  # (the audit log names actions as programs know them)
        wide = page.evaluate("document.documentElement.scrollWidth")
        # `explain.…` and the like may be words of a service's own output, never of a label.
        problems += [f"{name}: a text is missing: {key[0]}" for key in _KEY.finditer(text)]
        problems += [f"{name}: {one}" for one in violations(page)]
        if wide > width:
            problems.append(f"{name}: {wide} pixels wide")
        assert page.evaluate("document.documentElement.lang") == language
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("theme", ["light", "dark", "night"])
def test_the_dialogs_are_whole(house: House, open_page: Open, shots: Path, theme):
    page = open_page(house, theme=theme)
    page.locator("#row-redis").get_by_role("button", name="Stop redis").click()
    page.get_by_role("dialog").locator("ol.steps").wait_for()
    page.screenshot(path=shots / f"preview-{theme}.png")
    assert not violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    assert not violations(page)
    page.keyboard.press("Escape")
    page.goto(f"{house.url}/#/registry/piper")
    page.get_by_role("dialog").get_by_text("dig @").wait_for()
    assert not violations(page)


def test_the_login_page_is_whole_in_every_language(house: House, browser, shots: Path):
    for language, theme in (("en", "light"), ("ru", "dark"), ("zh", "night")):
        context = browser.new_context(viewport={"width": 360, "height": 740})
        context.add_init_script(
            f"localStorage.setItem('lictor.language', '{language}');"
            f"localStorage.setItem('lictor.theme', '\"{theme}\"')"
        )
        page = context.new_page()
        page.goto(house.url)
        page.locator("input[name=username]").wait_for()
        page.screenshot(path=shots / f"login-{language}-{theme}.png")
        assert not violations(page)
        context.close()
