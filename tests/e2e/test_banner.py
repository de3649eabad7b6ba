"""What `lictor up` says on its terminal: addresses that can be opened, and what is not there."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import PATIENCE, RunningAgent, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def _address(word: str, text: str) -> re.Match[str] | None:
    """The line of the banner that begins so; its group is the address."""
    return re.search(rf"^  {word} +(\S+)", text, re.MULTILINE)


def _said(agent: RunningAgent, *words: str) -> str:
    """All that it has said, as soon as there is a line for each of these."""

    def whole() -> str:
        text = agent.log()
        return text if all(_address(word, text) for word in words) else ""

    return wait_until(whole, what=f"the banner has {words}")


def test_each_address_that_it_prints_can_be_opened(make_agent: MakeAgent, consul: ConsulServer):
    web = {"port": 0, "base_path": "/lictor"}
    agent = make_agent({}, consul=consul.http, sections={"web": web}).start()
    # On a slow day it comes in two pieces: what is there after a while, and the rest.
    said = _said(agent, "Consul API", "Dashboard")
    api, dashboard = (_address(word, said) for word in ("Consul API", "Dashboard"))
    assert api is not None, said
    assert httpx.get(f"{api[1]}/v1/status/leader", timeout=PATIENCE).status_code == 200
    assert dashboard is not None, said
    page = httpx.get(dashboard[1], timeout=PATIENCE)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert dashboard[1] == agent.cli("dashboard").out.partition("#")[0]
    assert "`lictor dashboard` prints a link that lets you in" in said


def test_while_consul_is_away_it_says_what_is_there_and_the_rest_when_it_comes(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    own_consul.kill()
    agent = make_agent({}, consul=own_consul.http).start()
    said = _said(agent, "Dashboard")
    banner = said[said.index("Lictor attends node") :]
    assert f"Lictor attends node {agent.node}; its data is in {agent.data_dir}." in banner
    assert "Consul cannot be reached" in banner.splitlines()[1]
    dashboard = _address("Dashboard", banner)
    assert dashboard is not None, said
    assert httpx.get(dashboard[1], timeout=PATIENCE).status_code == 200
    assert not re.search(r"^  (Consul (UI|API)|DNS) ", said, re.MULTILINE), said

    own_consul.restart()
    said = _said(agent, "Consul API")
    api = _address("Consul API", said)
    assert api is not None
    assert httpx.get(f"{api[1]}/v1/status/leader", timeout=PATIENCE).status_code == 200
    assert said.count("Lictor attends node") == said.count("  Dashboard ") == 1
