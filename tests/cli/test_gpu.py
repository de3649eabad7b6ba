"""`lictor gpu`: tables for people, the agent's own words for programs."""

from __future__ import annotations

import json

import pytest

MIB = 1024


def card(**fields):
    memory = {"total_mb": 24.0 * MIB, "used_mb": 12.0 * MIB, "free_mb": 12.0 * MIB, "room_mb": 1.0}
    row = {
        "index": 0,
        "uuid": "GPU-1",
        "name": "NVIDIA RTX 4090",
        "capability": 8.9,
        "lost": False,
        "memory": memory,
        "util_percent": 7,
        "temperature_c": None,
        "power_w": 31.5,
        "fan_percent": None,
        "owners": [],
    }
    return {**row, **fields}


def owner(**fields):
    row = {"service": None, "pid": 1, "name": None, "memory_mb": 9.0 * MIB, "state": "idle"}
    return {**row, "idle_s": 2520, "evictable": True, **fields}


def answer(*cards, services=(), why=None):
    return {"node": "n", "gpus": list(cards), "services": list(services), "why": why}


WOULD = {
    "service": "vllm",
    "phase": "stopped",
    "start": {
        "code": "gpu.would_evict",
        "params": {"gpu": 0, "services": "xtts"},
        "sentence": "If it is ordered to start, this is stopped for it on GPU 0: xtts.",
    },
}


def test_cards_owners_and_who_would_leave(agent, run):
    owners = [
        owner(service="xtts", pid=42),
        owner(name="train\x1b[2J", pid=4711, state="stranger", idle_s=None, evictable=False),
    ]
    agent(gpu=answer(card(owners=owners), services=[WOULD]))
    done = run("gpu")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1].split() == [
        *("0", "NVIDIA", "RTX", "4090", "12.0", "GiB", "12.0", "GiB", "24.0", "GiB"),
        *("7%", "-", "32", "W", "-", "8.9"),
    ]
    assert "idle 42 min" in lines[4]
    assert lines[4].endswith("yes")
    assert "not ours" in lines[5]
    assert lines[5].endswith("no")
    assert "\x1b[2J" not in done.stdout
    assert lines[-1].endswith("this is stopped for it on GPU 0: xtts.")


@pytest.mark.parametrize(
    ("language", "words"),
    [("ru", "простаивает 42 мин"), ("zh", "空闲 42分钟")],
)
def test_the_tables_speak_the_language_of_the_person(agent, run, language, words):
    agent(gpu=answer(card(owners=[owner(service="xtts")]), services=[WOULD]))
    assert words in run("gpu", env={"LICTOR_LANG": language}).stdout


def test_without_a_card_the_reason_is_told_and_that_is_no_failure(agent, run):
    why = {"code": "gpu.none", "params": {}, "sentence": "No NVIDIA GPU can be used on this host."}
    agent(gpu=answer(why=why))
    done = run("gpu")
    assert (done.returncode, done.stdout) == (0, "")
    assert "No NVIDIA GPU can be used" in done.stderr


def test_programs_get_what_the_agent_said(agent, run):
    found = answer(card(lost=True, capability=None))
    agent(gpu=found)
    assert json.loads(run("gpu", "-o", "json").stdout) == found
    assert "(lost)" in run("gpu").stdout
