"""GPUs over HTTP: the monitor, `/admin/gpu`, the figures for Prometheus, and who may see whose processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.test_gpu import service
from tests.support.agent import RunningAgent, wait_until
from tests.support.nvml import GIB, Cards, environment
from tests.support.web import Site, events


@dataclass
class Host:
    site: Site
    cards: Cards
    stranger: int


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[Host]:
    """A host with one card: a service holds 6 GiB of it, somebody else 2."""
    cards = Cards(tmp_path_factory.mktemp("gpu") / "driver")
    cards.add(util=12, reserved=GIB)
    with subprocess.Popen(["sleep", "300"]) as other:
        cards.hold(other.pid, 2 * GIB)
        services = {
            "xtts": service("voice", cards, 6),
            "vllm": service("voice", cards, 20, activation="manual"),
        }
        try:
            with RunningAgent(services, env=environment(cards)) as agent, Site(agent) as site:
                agent.wait_ready("xtts")
                wait_until(
                    lambda: len(site.admin.get("/admin/gpu").json()["gpus"][0]["owners"]) == 2
                )
                yield Host(site, cards, other.pid)
        finally:
            other.kill()


def test_the_monitor_has_every_figure_of_a_card(host: Host):
    (card,) = host.site.admin.get("/admin/monitor").json()["gpu"]
    assert (card["name"], card["index"], card["capability"]) == ("NVIDIA RTX 4090", 0, 8.9)
    memory = card["memory"]
    assert (memory["total_mb"], memory["used_mb"], memory["reserved_mb"]) == (24576, 8192, 1024)
    assert memory["free_mb"] == 24576 - 8192 - 1024
    figures = (card["util_percent"], card["temperature_c"], card["power_w"], card["fan_percent"])
    assert figures == (12, 41, 31.5, 30)
    owners = {one["service"] or one["name"]: one["memory_mb"] for one in card["owners"]}
    assert owners == {"xtts": 6144, "sleep": 2048}
    assert "gpu" not in host.site.admin.get("/admin/monitor").json()["unknown"]


def test_who_the_others_are_is_for_those_who_may_see_processes(host: Host):
    anna = host.site.as_("anna", "user")
    (card,) = anna.get("/admin/monitor").json()["gpu"]
    assert {one["name"] for one in card["owners"]} == {None}
    assert {one["pid"] for one in card["owners"]} == {None}
    assert sum(one["memory_mb"] for one in card["owners"]) == 8192
    assert anna.get("/admin/gpu").status_code == 403
    with events(anna, "/admin/monitor/gpu/stream") as stream:
        told = next(stream)
    assert str(host.stranger) not in str(told.data)
    assert told.data["gpu"][0]["memory"]["used_mb"] == 8192


def test_the_api_says_what_a_start_would_lead_to(host: Host):
    found = host.site.admin.get("/admin/gpu").json()
    by_name = {one["service"]: one for one in found["services"]}
    assert by_name["xtts"]["gpu"] == found["gpus"][0]["uuid"]
    assert by_name["vllm"]["start"]["code"] in {"gpu.no_room", "gpu.would_evict"}
    assert found["why"] is None


def test_prometheus_gets_the_memory_by_kind_and_by_service(host: Host):
    text = host.site.admin.get("/metrics").text
    found = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if "gpu" in line and not line.startswith("#")
    }
    assert found['lictor_gpu_memory_bytes{gpu="0",kind="total"}'] == 24 * GIB
    assert found['lictor_gpu_memory_bytes{gpu="0",kind="used"}'] == 8 * GIB
    assert found['lictor_gpu_memory_bytes{gpu="0",kind="free"}'] == 15 * GIB
    assert found['lictor_service_gpu_memory_bytes{gpu="0",service="xtts"}'] == 6 * GIB
    assert found['lictor_gpu_busy_ratio{gpu="0"}'] == 0.12


def test_a_change_comes_with_the_next_event(host: Host):
    with events(host.site.admin, "/admin/monitor/gpu/stream") as stream:
        host.cards.change(0, temp=77)
        try:
            told = [next(stream) for _ in range(4)]
        finally:
            host.cards.change(0, temp=41)
    degrees = [one.data["gpu"][0]["temperature_c"] for one in told]
    assert 77 in degrees
    assert all(one.kind == "gpu" for one in told)
