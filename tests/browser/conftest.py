"""A browser, an agent with services worth looking at, and pages in which nothing may go wrong unseen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import RunningAgent, wait_until
from tests.support.children import child, free_port
from tests.support.consul import ConsulServer
from tests.support.tools import missing

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page, Route, sync_playwright
from playwright.sync_api import expect as expectations

#: Milliseconds that anything in a page may take on a busy machine.
_PATIENCE_MS = 20_000
expectations.set_options(timeout=_PATIENCE_MS)  # (a page's default is for its actions only)

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
#: What a hostile service prints; none of it may become anything but text.
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"


# For these tests only: as long as it is there its loop runs in this thread, and no other test's can.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium, without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("chromium")
    with sync_playwright() as tool:
        opened = tool.chromium.launch(executable_path=program, args=_FLAGS)
        yield opened
        opened.close()


@dataclass
class House:
    """One agent, where its dashboard is, and how to get in."""

    agent: RunningAgent
    url: str
    password: str
    cookies: list[Any] = field(default_factory=list)

    def user(self, name: str, role: str) -> str:
        """Somebody new; the answer is the password."""
        password = f"a long phrase for {name}"
        made = self.agent.ask("users.create", {"name": name, "role": role, "password": password})
        assert made["name"] == name
        return password


def services() -> dict[str, Any]:
    """Services in every state that a person meets."""
    ports = {name: free_port() for name in ("redis", "piper", "brain", "vllm", "xtts")}

    def http(name: str, program: str = "good", **more: Any) -> dict[str, Any]:
        check = {"http": "http://{host}:{port}/", "interval": "1s"}
        return {
            "command": list(child(program, port=ports[name])),
            "port": ports[name],
            "health": check,
            **more,
        }

    hostile = (
        f"printf '%s\\n' '{HOSTILE}'; printf '\\033[1;31mERROR\\033[0m no voice\\n'; exec sleep 300"
    )
    return {
        "redis": http("redis", description="Queue and cache for the bots", tags=["db"]),
        "piper": http("piper", description="Pre-trained voices on the CPU", tags=["tts", "cpu"]),
        "brain": http("brain", description="Dialogue, memory, tools", depends_on=["redis"]),
        "vllm": {
            "command": ["/bin/sh", "-c", "echo 'CUDA error: no device'; exit 1"],
            "port": ports["vllm"],
            "description": f"Local LLM server {HOSTILE}",
            "restart": {"policy": "always", "backoff": "2m"},
        },
        "xtts": http("xtts", description="Voice cloning", activation="manual"),
        "bot": {"command": ["/bin/sh", "-c", hostile], "description": "Answers in Telegram"},
        "mute": {"command": ["/bin/sleep", "300"], "description": "Writes nothing"},
    }


def slow(may_end: Path) -> dict[str, Any]:
    """A service that ends only when the file is there: however slow a page is, it sees it end."""
    end = f"until [ -e {may_end} ]; do sleep 0.1; done; exit 0"
    # (A shell hears a signal while it waits, and not while a program of its own runs.)
    script = f"trap '{end}' TERM; while :; do sleep 300 & wait $!; done"
    return {
        "command": ["/bin/sh", "-c", script],
        "description": "Takes its time to end",
        "stop": {"timeout": "2m"},
    }


def open_house(agent: RunningAgent) -> House:
    """A started agent whose dashboard answers."""
    file = agent.data_dir / "admin-password"
    wait_until(file.exists, what="the first password is written")
    url = wait_until(lambda: agent.ask("overview")["web"], what="the HTTP side is up")
    return House(agent, url, file.read_text().strip())


@pytest.fixture(scope="package")
def may_end(tmp_path_factory) -> Path:
    """The file without which `slow` of `house` does not end."""
    return Path(tmp_path_factory.mktemp("slow")) / "may-end"


@pytest.fixture(scope="package")
def house(consul: ConsulServer, may_end: Path) -> Iterator[House]:
    """One agent for all tests that leave it as they found it."""
    with RunningAgent({**services(), "slow": slow(may_end)}, consul=consul.http) as agent:
        made = open_house(agent)
        agent.wait_ready("redis", "piper", "brain", "bot")
        yield made


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens pages of a house as an admin; at the end nothing may have gone wrong in any of them.

    `expect`: pattern of messages on the console that belong to the test.
    """
    opened: list[tuple[Any, list[str], str]] = []

    def make(
        house: House,
        where: str = "",
        *,
        width: int = 1280,
        height: int = 800,
        language: str = "en",
        theme: str = "light",
        person: tuple[str, str] | None = None,
        expect: str = "",
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        context.add_init_script(
            f"localStorage.getItem('lictor.language') || localStorage.setItem('lictor.language', '{language}');"
            f"localStorage.getItem('lictor.theme') || localStorage.setItem('lictor.theme', '\"{theme}\"');"
        )
        wrong: list[str] = []
        opened.append((context, wrong, expect))
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on(
            "console", lambda said: said.type in {"error", "warning"} and wrong.append(said.text)
        )
        page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on(
            "request", lambda asked: asked.url.startswith(house.url) or _elsewhere(asked, wrong)
        )
        if person is None and house.cookies:
            context.add_cookies(house.cookies)
            page.goto(f"{house.url}/{where}")
        else:
            page.goto(f"{house.url}/{where}")
            sign_in(page, *(person or ("admin", house.password)))
            wrong.clear()  # the door itself answers 401 to who has no key yet
            if person is None:
                house.cookies = context.cookies()
        page.locator("header.top").wait_for()
        return page

    yield make
    for context, wrong, expect in opened:
        context.close()
        left = [text for text in wrong if not (expect and re.search(expect, text))]
        assert not left, left


def _elsewhere(asked: Any, wrong: list[str]) -> None:
    if not asked.url.startswith(("data:", "blob:")):
        wrong.append(f"asked elsewhere: {asked.url}")


def sign_in(page: Page, name: str, password: str) -> None:
    """Fill in the login form and send it."""
    page.locator("input[name=username]").fill(name)
    page.locator("input[name=password]").fill(password)
    page.locator("form button.primary").click()


class Gate:
    """Holds what a page asks for at addresses like `pattern` until a test lets it through."""

    def __init__(self, page: Page, pattern: str) -> None:
        self._page = page
        self._waiting: list[Route] = []
        self._opened = False
        page.route(re.compile(pattern), self._come)

    def _come(self, asked: Route) -> None:
        if self._opened:
            asked.continue_()
        else:
            self._waiting.append(asked)

    def wait(self) -> None:
        """Until something stands before it."""
        # (Waiting as the page does: only then is anything heard of it.)
        wait_until(lambda: self._page.wait_for_timeout(20) or self._waiting)

    def open(self) -> None:
        """Let through what waits, and all that comes."""
        self.wait()
        self._opened = True
        for asked in self._waiting:
            asked.continue_()


@pytest.fixture(scope="session")
def shots(tmp_path_factory) -> Path:
    """Where screenshots are put for people to look at: LICTOR_SHOTS, else a temporary folder."""
    import os

    folder = Path(os.environ.get("LICTOR_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def make_house(request) -> Iterator[Callable[..., House]]:
    """Makes agents of a test's own; `consul` None: the Consul that all tests share."""
    made: list[RunningAgent] = []

    def make(defined: dict[str, Any], consul: str | None = None, **options: Any) -> House:
        address = consul or request.getfixturevalue("consul").http
        made.append(RunningAgent(defined, consul=address, **options))
        return open_house(made[-1].start())

    yield make
    for agent in reversed(made):
        agent.close()
