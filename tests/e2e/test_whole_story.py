"""One config file on a host without a GPU, and on the same host once it has one.

The services of the catalogue are real and speak with each other through the addresses that discovery
gives; what needs a GPU is played by programs that take memory of a card that is a text file, read by
the real pynvml.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.test_gpu import card_of, ready_for_long, service
from tests.e2e.test_round_trip import fetch, say, transcribe, words
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import free_port
from tests.support.consul import ConsulServer
from tests.support.installed import lend, services_folder
from tests.support.nvml import Cards, environment
from tests.support.sampling import srv_ports

pytestmark = [pytest.mark.consul, pytest.mark.slow]

SPOKEN = ("llm", "piper", "whisper")


def one_config(cards: Cards, group: str) -> dict[str, dict[str, Any]]:
    """What every host of this user gets: three that run anywhere, two that need a GPU."""
    often = {"interval": "1s"}
    services: dict[str, dict[str, Any]] = {
        name: {"template": name, "port": free_port(), "health": often} for name in SPOKEN
    }
    services["piper"] |= {"group": group, "rank": 30}
    asks = {"min_compute_capability": 7.0}
    services["xtts"] = service("voice", cards, 6, gpu=asks, group=group, rank=10)
    services["vllm"] = service("vllm", cards, 20, seconds=1, activation="manual")
    return services


def address(agent: RunningAgent, name: str) -> str:
    """Where `lictor discover` says that it passes."""

    def passing() -> str | None:
        rows = agent.cli("discover", name, "-o", "json").json
        found = [row for row in rows if row["id"] == agent.entry_id(name)]
        if found and found[0]["health"] == "passing":
            return f"http://{found[0]['address']}:{found[0]['port']}"
        return None

    return str(wait_until(passing, what=f"{name} is found"))


def test_the_same_file_serves_a_host_without_a_gpu_and_with_one(
    make_agent: MakeAgent, own_consul: ConsulServer, tmp_path: Any
):
    folder = services_folder(*SPOKEN)
    cards, group = Cards(tmp_path / "driver"), unique("voice")
    cards.driver(init=9)  # no driver
    services = one_config(cards, group)
    agent = make_agent(services, consul=own_consul.http, env=environment(cards))
    lend(folder, agent.data_dir)
    agent.start()

    def voice() -> set[str]:
        found = srv_ports(f"{group}.query.consul", own_consul.dns_port)
        return {name for name in ("piper", "xtts") if services[name]["port"] in found}

    # Without a GPU: text → language model → Piper → Whisper → text, and true reasons for the rest.
    for name in SPOKEN:
        agent.wait_ready(name, within=60)
    told = say(address(agent, "llm"), "Say hello in five words.")
    question = json.dumps({"text": told}).encode()
    sound = fetch(f"{address(agent, 'piper')}/synthesize", question)
    heard = transcribe(address(agent, "whisper"), sound)
    assert len(set(words(told)) & set(words(heard))) * 2 >= len(set(words(told))), (told, heard)
    assert agent.wait_phase("xtts", "blocked")["reason"] == "gpu.none"
    agent.cli("start", "vllm")
    assert agent.wait_phase("vllm", "blocked")["reason"] == "gpu.none"
    agent.cli("stop", "vllm")
    wait_until(lambda: voice() == {"piper"}, what="Piper answers for the group")

    # A card of 24 GiB: the better voice gets it, and the group's name.
    cards.add()
    cards.driver(init=0)
    agent.wait_ready("xtts", within=60)
    wait_until(lambda: voice() == {"xtts"}, within=60, what="XTTS takes over the group")
    assert card_of(agent)["memory"]["used_mb"] == 6 * 1024

    # The language model is ordered: the idle voice leaves with proof, and Piper speaks again.
    ready_for_long(agent, "xtts")
    ordered = agent.cli("start", "vllm", "--wait")
    assert ordered.code == 0, ordered.err
    row = agent.wait_phase("xtts", "blocked")
    assert (row["reason"], row["reason_params"]["service"]) == ("gpu.evicted", "vllm")
    released = agent.cli("events", "xtts", "-o", "json").json
    assert "gpu.released" in {one["reason"] for one in released}
    wait_until(lambda: voice() == {"piper"}, what="Piper answers for the group again")
    assert card_of(agent)["memory"]["used_mb"] == 20 * 1024
    assert agent.row("piper")["restarts"] == 0
