"""Depend on ready, never on started; stop in the opposite order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import diarist, service, web
from tests.support.agent import wait_until
from tests.support.children import child, text_of

NO_CONSUL = "http://127.0.0.1:1"


def test_a_service_starts_when_what_it_needs_is_ready_and_stops_before_it(
    make_agent: MakeAgent, tmp_path: Path
):
    diary = tmp_path / "diary"
    services = {
        "web": diarist("web", diary, depends_on=["app"]),
        "app": diarist("app", diary, "leave=0.5", depends_on=["db"]),
        "db": diarist("db", diary, "delay=1.5", "leave=0.2"),
    }
    agent = make_agent(services, consul=NO_CONSUL).start()
    queued = agent.wait_phase("web", "queued")
    assert "app" in queued["sentence"]
    assert "db" in agent.row("app")["sentence"]
    agent.wait_ready("web", "app", "db")
    up = [f"{word} {name}" for name in ("db", "app", "web") for word in ("up", "open")]
    assert text_of(diary).splitlines() == up
    assert agent.down().code == 0
    down = [f"{word} {name}" for name in ("web", "app", "db") for word in ("down", "gone")]
    assert text_of(diary).splitlines() == [*up, *down]


def test_what_needs_a_failed_service_waits_and_says_so_and_goes_on_when_it_recovers(
    make_agent: MakeAgent, tmp_path: Path
):
    trouble = tmp_path / "trouble"
    trouble.touch()
    diary = tmp_path / "diary"
    services = {
        "db": diarist("db", diary, f"unless={trouble}", restart={"backoff": "300ms"}),
        "app": web(depends_on=["db"]),
    }
    agent = make_agent(services, consul=NO_CONSUL).start()
    wait_until(lambda: agent.row("db")["restarts"] >= 1, what="db was tried again")
    row = agent.row("app")
    assert row["phase"] == "queued"
    assert "db" in row["sentence"]
    trouble.unlink()
    agent.wait_ready("app")


def test_a_soft_dependency_orders_the_start_and_hinders_nothing(
    make_agent: MakeAgent, tmp_path: Path
):
    diary = tmp_path / "diary"
    soft = {"required": False}
    services = {
        "cache": diarist("cache", diary, "delay=1"),
        "broken": service(child("exit-now", count=1), restart={"backoff": "60s"}),
        "absent": web(activation="manual"),
        "app": diarist("app", diary, depends_on={"cache": soft, "broken": soft, "absent": soft}),
    }
    agent = make_agent(services, consul=NO_CONSUL).start()
    agent.wait_ready("app")
    assert text_of(diary).splitlines() == ["up cache", "open cache", "up app", "open app"]
    assert agent.row("broken")["phase"] == "backoff"
    assert agent.row("absent")["phase"] == "stopped"
    assert agent.cli("stop", "cache", "--wait").code == 0  # nobody is hurt
    assert agent.row("app")["phase"] == "ready"


@pytest.mark.parametrize("command", [("config", "check"), ("up", "-c", "config.yml")])
def test_a_cycle_is_refused_by_name_before_anything_starts(
    make_agent: MakeAgent, command: tuple[str, ...]
):
    services = {
        "hen": web(depends_on=["egg"]),
        "egg": web(depends_on=["nest"]),
        "nest": web(depends_on=["hen"]),
        "fox": web(),
    }
    agent = make_agent(services)
    refused = agent.cli(*command)
    assert refused.code == 2
    for name in ("hen", "egg", "nest"):
        assert name in refused.err
    assert "fox" not in refused.err
    assert f"{agent.config.name}:" in refused.err
    assert "Traceback" not in refused.err
    assert agent.processes() == []
