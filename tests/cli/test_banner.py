"""What `lictor up` says of where everything is, when one part of it comes late."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lictor.cli.wiring import foreground
from lictor.core.model.reason import because
from lictor.core.runtime.bell import Bell
from tests.core.virtual import virtual


def without_consul() -> SimpleNamespace:
    """As much of an agent as the banner looks at: Consul is away, and the web side not up yet."""
    return SimpleNamespace(
        node="host1",
        bell=Bell(),
        web_url=None,
        config=SimpleNamespace(web=SimpleNamespace(base_path="")),
        consul=SimpleNamespace(state=because("consul.unreachable", message="first"), about={}),
        tools=SimpleNamespace(
            datadir=SimpleNamespace(path="/d"),
            link=SimpleNamespace(address="http://127.0.0.1:8500"),
            web=object(),
        ),
    )


@pytest.mark.parametrize("late", [1, 30])
@virtual
async def test_the_dashboard_is_told_once_however_late_it_comes_and_consul_too(monkeypatch, late):
    monkeypatch.setenv("LICTOR_LANG", "en")
    said: list[str] = []
    monkeypatch.setattr(foreground, "_talk", lambda text: said.extend(text.splitlines()))
    agent = without_consul()
    telling = asyncio.create_task(foreground._banner(agent))
    await asyncio.sleep(late)
    agent.web_url = "http://127.0.0.1:7031"
    await asyncio.sleep(60)
    agent.consul.state = because("consul.unreachable", message="another")
    await asyncio.sleep(60)
    heads = [line.split()[0] for line in said]
    assert heads == ["Lictor", "Consul", "Dashboard"]
    assert "first" in said[1]
    agent.consul.state, agent.consul.about = because("consul.ok"), {"dns": "127.0.0.1:8600"}
    await telling
    assert [line.split()[0] for line in said[3:]] == ["Consul", "DNS"]
