"""What `lictor up` says on its terminal once everything is there: addresses that can be opened."""

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
