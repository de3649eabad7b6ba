"""What `lictor up` says on its terminal: addresses that can be opened, and what is not there."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import PATIENCE, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def test_each_address_that_it_prints_can_be_opened(make_agent: MakeAgent, consul: ConsulServer):
    web = {"port": 0, "base_path": "/lictor"}
    agent = make_agent({}, consul=consul.http, sections={"web": web}).start()
    said = wait_until(
        lambda: text if "Lictor attends node" in (text := agent.log()) else "",
        what="the banner",
    )
    api, dashboard = (
        re.search(rf"^  {word} +(\S+)", said, re.MULTILINE) for word in ("Consul API", "Dashboard")
    )
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
    said = wait_until(
        lambda: text if "Lictor attends node" in (text := agent.log()) else "",
        what="the banner without Consul",
    )
    banner = said[said.index("Lictor attends node") :]
    assert f"Lictor attends node {agent.node}; its data is in {agent.data_dir}." in banner
    assert "Consul cannot be reached" in banner.splitlines()[1]
    dashboard = re.search(r"^  Dashboard +(\S+)", banner, re.MULTILINE)
    assert dashboard is not None, said
    assert httpx.get(dashboard[1], timeout=PATIENCE).status_code == 200
    assert not re.search(r"^  (Consul (UI|API)|DNS) ", said, re.MULTILINE), said

    own_consul.restart()
    said = wait_until(
        lambda: text if re.search(r"^  Consul API", (text := agent.log()), re.MULTILINE) else "",
        what="Consul's addresses",
    )
    api = re.search(r"^  Consul API +(\S+)", said, re.MULTILINE)
    assert api is not None
    assert httpx.get(f"{api[1]}/v1/status/leader", timeout=PATIENCE).status_code == 200
    assert said.count("Lictor attends node") == said.count("  Dashboard ") == 1
