"""A start may carry values for names that the definition lists, for one run, and for nobody else."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.support.agent import wait_until
from tests.support.web import Site


def last_line(site: Site, service: str) -> str:
    wait_until(lambda: site.admin.get(f"/supervisor/logs/{service}").json()["logs"])
    return str(site.admin.get(f"/supervisor/logs/{service}").json()["logs"][-1])


def order(site: Site, verb: str, env: dict[str, str] | None = None) -> Any:
    body = {"name": "memory", **({"config": {"env": env}} if env is not None else {})}
    return site.admin.post(f"/supervisor/{verb}", json=body)


@pytest.fixture
def memory(site: Site):
    yield "memory"
    site.admin.post("/supervisor/stop", json={"name": "memory"})
    site.agent.wait_phase("memory", "stopped")


def test_a_value_holds_for_the_run_and_its_restarts_until_the_next_plain_start(site, memory):
    assert order(site, "start", {"MEMORY_MASK_PII": "false"}).status_code == 200
    site.agent.wait_ready(memory)
    assert last_line(site, memory) == "MEMORY_MASK_PII=false"
    pid = site.agent.service_pid(memory)

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: site.agent.row(memory)["pid"] not in {pid, None})
    site.agent.wait_ready(memory)
    assert last_line(site, memory) == "MEMORY_MASK_PII=false"
    assert order(site, "restart", {"MEMORY_MASK_PII": "perhaps"}).status_code == 200
    wait_until(lambda: last_line(site, memory) == "MEMORY_MASK_PII=perhaps")
    site.agent.wait_ready(memory)
    assert order(site, "restart").status_code == 200
    wait_until(lambda: last_line(site, memory) == "MEMORY_MASK_PII=true")


def test_a_service_that_runs_is_not_told_that_it_got_the_values(site, memory):
    order(site, "start")
    site.agent.wait_ready(memory)
    refused = order(site, "start", {"MEMORY_MASK_PII": "false"})
    assert refused.status_code == 409
    assert refused.json()["code"] == "already_running"


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "LICTOR_AGENT", "HOME"])
def test_a_name_that_the_definition_does_not_list_is_refused(site, memory, name):
    refused = order(site, "start", {name: "x"})
    assert refused.status_code == 400
    assert "config.yml names no" in refused.json()["detail"]
    assert site.agent.row(memory)["phase"] == "stopped"


def test_a_parameter_must_fit_what_the_definition_allows(site):
    body = {"name": "vllm", "config": {"env": {"model": "--trust-remote-code"}}}
    assert site.admin.post("/supervisor/start", json=body).status_code == 400
    assert site.agent.row("vllm")["phase"] == "stopped"
    body["config"]["env"]["model"] = "Qwen/for-this-run"
    assert site.admin.post("/supervisor/start", json=body).status_code == 200
    site.agent.wait_ready("vllm")
    wait_until(lambda: last_line(site, "vllm") == "serving Qwen/for-this-run")
    site.admin.post("/supervisor/stop", json={"name": "vllm"})
    site.agent.wait_phase("vllm", "stopped")


def test_only_an_admin_may_bring_values_even_for_ones_own_service(site):
    client = site.as_("igor", "user")
    body = {"name": "tts", "config": {"env": {"X": "1"}}}
    assert client.post("/supervisor/start", json=body).status_code == 403
    site.agent.ask("users.delete", {"name": "igor"})


def test_no_value_stands_in_the_journal(site, memory):
    order(site, "start", {"API_KEY": "never-written-down"})
    site.agent.wait_ready(memory)
    text = site.admin.get("/admin/events?lines=200").text
    assert "API_KEY" in text
    assert "never-written-down" not in text
    assert "never-written-down" not in site.agent.log()


def test_an_agent_that_comes_later_adopts_the_run_as_it_is(make_site):
    services = {
        "memory": {"command": ["sh", "-c", "echo M=$M; exec sleep 1000"], "env": {"M": "plain"}}
    }
    site = make_site(services, agent={"on_term": "keep"})
    site.agent.wait_ready("memory")
    site.agent.ask("change", {"verb": "restart", "names": ["memory"], "env": {"M": "other"}})
    wait_until(lambda: last_line(site, "memory") == "M=other")
    site.agent.wait_ready("memory")
    pid = site.agent.service_pid("memory")
    site.agent.kill9()
    site.agent.start()
    site.agent.wait_ready("memory")
    assert site.agent.service_pid("memory") == pid
