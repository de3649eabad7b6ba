"""Named checks that Consul cannot ask: the agent does, and Consul hears of each edge."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.world import Catalog, web
from tests.support import servers
from tests.support.agent import unique, wait_until


def test_a_redis_that_goes_takes_the_service_out_of_dns_and_brings_it_back(
    make_agent, consul, tmp_path
):
    flag = tmp_path / "flag"
    flag.touch()
    script = [
        sys.executable,
        "-c",
        f"import os, sys; print('secret'); sys.exit(not os.path.exists({str(flag)!r}))",
    ]
    with servers.redis() as port:
        name = unique("shop")
        checks = {
            "cache": {"redis": f"127.0.0.1:{port}", "interval": "1s"},
            "script": {"command": script, "interval": "1s"},
        }
        agent = make_agent({name: web(checks=checks)}, consul=consul.http)
        agent.start()
        agent.wait_ready(name)
        catalog, service_id = Catalog(consul), agent.entry_id(name)
        catalog.wait_passing(name, service_id)
        said = catalog.checks(name, service_id)
        assert said["check:cache"] == ("passing", "Redis answers PONG")
        assert said["check:script"] == ("passing", "The command passes.")

        flag.unlink()
        said = wait_until(lambda: _critical(catalog, name, service_id, "check:script"))
        assert said == "The command fails: `lictor health` shows why."
        answers = {
            row["check"]: row for row in json.loads(agent.cli("health", name, "-o", "json").out)
        }
        assert answers["script"]["output"] == "exit status 1: secret"
        assert answers["cache"]["status"] == "passing"
        flag.touch()
        catalog.wait_passing(name, service_id)

    wait_until(lambda: _critical(catalog, name, service_id, "check:cache"))
    # If Redis ended while it was asked, that was said first, and another output alone reaches the
    # catalog only minutes later: Consul's own agent has it at once.
    wait_until(
        lambda: (
            consul.raw("GET", "agent/checks").json[f"{service_id}:check:cache"]["Output"]
            == "Redis: connection refused"
        ),
        what="Consul hears why",
    )
    assert agent.row(name)["phase"] == "ready"  # its own health is another question
    assert agent.row(name)["restarts"] == 0


def _critical(catalog: Catalog, name: str, service_id: str, check: str) -> str | None:
    status, output = catalog.checks(name, service_id).get(check, ("", ""))
    return output if status == "critical" else None


def test_health_may_be_a_protocol(make_agent, consul, tmp_path: Path):
    with servers.redis() as port:
        name = unique("cache")
        spec = {
            "driver": "observed",
            "port": port,
            "health": {"redis": f":{port}", "interval": "1s", "on_unhealthy": "ignore"},
        }
        agent = make_agent({name: spec}, consul=consul.http)
        agent.start()
        agent.wait_ready(name)
        Catalog(consul).wait_passing(name, agent.entry_id(name))
        (row,) = json.loads(agent.cli("health", name, "-o", "json").out)
        assert (row["kind"], row["output"]) == ("redis", "Redis answers PONG")
    wait_until(lambda: agent.row(name)["phase"] == "unhealthy" or None, within=60)
    said = wait_until(lambda: _critical(Catalog(consul), name, agent.entry_id(name), "lictor"))
    assert "Redis: connection refused" in said
