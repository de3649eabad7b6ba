"""GPUs as a user meets them: a whole agent, the real pynvml, cards that are a text file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import alive, free_port
from tests.support.nvml import GIB, Cards, environment

SERVICE = Path(__file__).parents[1] / "support" / "children" / "gpu.py"
ALONE = {"consul": {"embedded": "never"}, "web": {"enabled": False}}


@pytest.fixture
def cards(tmp_path) -> Cards:
    return Cards(tmp_path / "driver")


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that is nobody's service."""
    with subprocess.Popen(["sleep", "300"]) as process:
        yield process.pid
        process.kill()


def service(
    kind: str, cards: Cards, gib: float, *, seconds: float = 0.4, **fields: Any
) -> dict[str, Any]:
    """A fake GPU service that takes `gib`; `gpu` may say more of what it asks for."""
    port = fields.pop("port", None) or free_port()
    memory = int(gib * GIB)
    argv = [sys.executable, "-S", "-E", str(SERVICE), kind, "--state", cards.path]
    argv += ["--memory", str(memory), "--port", str(port), "--seconds", str(seconds)]
    gpu = {"memory": f"{memory // 2**20}MiB", **fields.pop("gpu", {})}
    return {
        "command": argv,
        "port": port,
        "health": {"http": "/health", "interval": "1s", "startup": "60s"},
        "stop": {"timeout": "5s", "pause": "0s"},
        "restart": {"backoff": "1s"},
        "gpu": gpu,
        **fields,
    }


def agent_on(make_agent: MakeAgent, cards: Cards, services: dict[str, Any]) -> RunningAgent:
    return make_agent(services, sections=ALONE, env=environment(cards))


def one_and_another(
    make_agent: MakeAgent, cards: Cards, one: dict[str, Any], another: dict[str, Any]
) -> tuple[RunningAgent, str, str]:
    """One card with one service that is ready on it, and another that only an order starts."""
    cards.add()
    first, second = unique("first"), unique("second")
    services = {first: one, second: {**another, "activation": "manual"}}
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_ready(first)
    return agent, first, second


def reason(agent: RunningAgent, name: str) -> str:
    return str(agent.row(name)["reason"])


def card_of(agent: RunningAgent, index: int = 0) -> dict[str, Any]:
    return dict(agent.ask("gpu")["gpus"][index])


def ready_for_long(agent: RunningAgent, *names: str) -> None:
    """Wait until these may leave for others: ready for half a minute, and idle."""

    def may_leave() -> bool:
        owners = card_of(agent)["owners"]
        return set(names) <= {one["service"] for one in owners if one["evictable"]}

    wait_until(may_leave, within=75, what=f"{names} may leave")


def test_without_a_driver_it_is_blocked_with_the_reason_and_the_rest_runs(make_agent: MakeAgent):
    gpu, plain = unique("gpu"), unique("plain")
    services = {
        gpu: {"command": ["sleep", "300"], "gpu": {"memory": "6GiB"}},
        plain: {"command": ["sleep", "300"]},
    }
    agent = make_agent(services, sections=ALONE).start()
    agent.wait_ready(plain)
    row = agent.wait_phase(gpu, "blocked")
    assert row["reason"] == "gpu.none"
    assert agent.ask("gpu")["why"]["code"] == "gpu.none"
    assert agent.log().count("no NVIDIA driver here") == 1
    result = agent.cli("gpu", env={"LICTOR_LANG": "ru"})
    assert result.code == 0
    assert "нет видеокарты NVIDIA" in result.err


def test_a_card_that_appears_is_used(make_agent: MakeAgent, cards: Cards):
    cards.driver(init=9)
    name = unique("xtts")
    agent = agent_on(make_agent, cards, {name: service("voice", cards, 6)}).start()
    assert agent.wait_phase(name, "blocked")["reason"] == "gpu.none"
    uuid = cards.add()
    cards.driver(init=0)
    agent.wait_ready(name)
    wait_until(lambda: card_of(agent)["memory"]["used_mb"] == 6 * 1024)
    card = card_of(agent)
    assert card["uuid"] == uuid
    (owner,) = card["owners"]
    assert (owner["service"], owner["memory_mb"]) == (name, 6 * 1024)
    assert owner["pid"] == agent.service_pid(name)


def test_it_is_put_where_it_fits_and_told_so_by_its_environment(
    make_agent: MakeAgent, cards: Cards, stranger: int
):
    cards.add(name="NVIDIA_GTX_1080_Ti", major=6, minor=1, total=11 * GIB)
    cards.add(total=12 * GIB)
    chosen = cards.add(total=16 * GIB)
    cards.hold(stranger, 9 * GIB, card=1)
    name = unique("xtts")
    asks = {"min_compute_capability": 7.0}
    agent = agent_on(make_agent, cards, {name: service("voice", cards, 6, gpu=asks)}).start()
    agent.wait_ready(name)
    environ = Path(f"/proc/{agent.service_pid(name)}/environ").read_bytes().split(b"\0")
    assert f"CUDA_VISIBLE_DEVICES={chosen}".encode() in environ
    assert b"CUDA_DEVICE_ORDER=PCI_BUS_ID" in environ
    assert alive(stranger)


@pytest.mark.slow
def test_an_ordered_start_evicts_who_is_idle_with_proof_and_nobody_runs_out_of_memory(
    make_agent: MakeAgent, cards: Cards
):
    cards.add()
    xtts, vllm = unique("xtts"), unique("vllm")
    services = {
        xtts: service("voice", cards, 9),
        vllm: service("vllm", cards, 20, seconds=1, activation="manual", metrics="/metrics"),
    }
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_ready(xtts)
    before = agent.service_pid(xtts)
    ready_for_long(agent, xtts)

    def steps() -> list[tuple[str, str]]:
        preview = agent.ask("preview", {"verb": "start", "names": [vllm]})
        return [(step["action"], step["service"]) for step in preview["steps"]]

    wait_until(lambda: steps()[:2] == [("stop", xtts), ("start", vllm)], what="it is foreseen")
    (foreseen,) = [one for one in agent.ask("gpu")["services"] if one["service"] == vllm]
    assert (foreseen["evicts"], foreseen["start"]["code"]) == ([xtts], "gpu.would_evict")

    result = agent.cli("start", vllm, "--wait")
    assert result.code == 0, result.err
    assert not alive(before)
    assert agent.row(vllm)["phase"] == "ready"
    row = agent.wait_phase(xtts, "blocked")
    assert row["reason"] == "gpu.evicted"
    assert row["reason_params"]["service"] == vllm
    events = agent.cli("events", xtts, "-o", "json").json
    proved = [one for one in events if one["reason"] == "gpu.released"]
    assert proved, events
    assert "CUDA out of memory" not in agent.cli("logs", vllm).out

    # It does not come back into a loop with who took its place, and comes back when there is room.
    time.sleep(6)
    assert reason(agent, xtts) == "gpu.evicted"
    assert agent.row(vllm)["restarts"] == 0
    agent.cli("stop", vllm, "--wait")
    agent.wait_ready(xtts)
    wait_until(lambda: card_of(agent)["memory"]["used_mb"] == 9 * 1024)


@pytest.mark.slow
def test_memory_that_does_not_come_back_keeps_the_next_one_waiting_and_is_named(
    make_agent: MakeAgent, cards: Cards
):
    agent, leaky, next_ = one_and_another(
        make_agent, cards, service("leaky", cards, 14), service("voice", cards, 12)
    )
    pid = agent.service_pid(leaky)
    # Not by the command line: it may take longer to come up than the proof is waited for.
    agent.ask("change", {"verb": "stop", "names": [leaky], "wait": True})
    agent.ask("change", {"verb": "start", "names": [next_]})
    wait_until(lambda: reason(agent, next_) == "gpu.releasing", what="it waits for the proof")
    row = agent.wait_phase(next_, "blocked", within=60)
    assert row["reason"] == "gpu.no_room"
    assert f"{leaky} holds 14.0 GiB (ended, its memory has not come back)" in row["sentence"]
    told = [one["reason"] for one in agent.cli("events", leaky, "-o", "json").json]
    assert "gpu.not_returned" in told
    assert "CUDA out of memory" not in agent.cli("logs", next_).out
    cards.free_all(pid)
    agent.wait_ready(next_)


@pytest.mark.slow
def test_who_is_busy_is_not_evicted_and_no_request_is_cut(make_agent: MakeAgent, cards: Cards):
    cards.add()
    vllm, other = unique("vllm"), unique("other")
    services = {
        vllm: service("vllm", cards, 20, metrics="/metrics"),
        other: service("voice", cards, 12, activation="manual"),
    }
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_ready(vllm)
    ready_for_long(agent, vllm)
    answers: list[bytes] = []
    url = f"http://127.0.0.1:{services[vllm]['port']}/v1/chat/completions?s=8"
    request = threading.Thread(
        target=lambda: answers.append(urllib.request.urlopen(url, timeout=60).read())
    )
    request.start()
    wait_until(lambda: card_of(agent)["owners"][0]["state"] == "busy")
    agent.ask("change", {"verb": "start", "names": [other]})  # while the request is answered
    row = agent.wait_phase(other, "blocked")
    assert (row["reason"], agent.row(vllm)["phase"]) == ("gpu.no_room", "ready")
    assert "busy" in row["sentence"]
    request.join()
    assert answers[0].endswith(b"data: [DONE]\n\n")
    agent.wait_ready(other, within=60)  # the order still stands
    assert reason(agent, vllm) == "gpu.evicted"

    # Whoever had to leave is wanted all the while; an order makes it the other way round.
    ready_for_long(agent, other)
    result = agent.cli("start", vllm, "-o", "json")
    assert [row["result"] for row in result.json] == ["requested"]
    agent.wait_ready(vllm, within=60)
    assert reason(agent, other) == "gpu.evicted"


def test_a_stranger_is_named_and_never_touched(make_agent: MakeAgent, cards: Cards, stranger: int):
    cards.add()
    cards.hold(stranger, 20 * GIB)
    name = unique("xtts")
    agent = agent_on(make_agent, cards, {name: service("voice", cards, 6)}).start()
    row = agent.wait_phase(name, "blocked")
    assert row["reason"] == "gpu.no_room"
    assert f"pid {stranger} (not ours) holds 20.0 GiB" in row["sentence"]
    time.sleep(1)
    assert alive(stranger)
    shown = agent.cli("gpu").out
    assert "sleep" in shown
    assert "20.0 GiB" in shown
    cards.free_all(stranger)
    agent.wait_ready(name)
    assert alive(stranger)


def test_a_helper_that_hangs_stops_nothing_and_starts_nothing(make_agent: MakeAgent, cards: Cards):
    agent, first, second = one_and_another(
        make_agent, cards, service("voice", cards, 6), service("voice", cards, 6)
    )
    pid = agent.service_pid(first)
    helper = helper_of(agent)
    cards.driver(hang=1)
    os.kill(helper, signal.SIGSTOP)
    wait_until(lambda: not alive(helper), what="the helper that hangs is ended")
    agent.cli("start", second)
    wait_until(lambda: reason(agent, second) == "gpu.unknown", within=40)
    assert (agent.row(first)["phase"], agent.service_pid(first)) == ("ready", pid)
    begun = time.monotonic()
    agent.ask("status")
    assert time.monotonic() - begun < 5, "the agent answers all the while"
    cards.driver(hang=0)
    agent.wait_ready(second, within=90)
    assert agent.service_pid(first) == pid


def test_a_lost_card_gets_nobody_and_stops_nobody(make_agent: MakeAgent, cards: Cards):
    agent, first, second = one_and_another(
        make_agent, cards, service("voice", cards, 6), service("voice", cards, 6)
    )
    cards.change(0, lost=1)
    wait_until(lambda: card_of(agent)["lost"])
    agent.cli("start", second)
    assert agent.wait_phase(second, "blocked")["reason"] == "gpu.lost"
    assert agent.row(first)["phase"] == "ready"
    cards.change(0, lost=0)
    cards.driver(generation=2)
    agent.wait_ready(second)


def test_the_next_agent_knows_who_is_where(make_agent: MakeAgent, cards: Cards):
    # It has taken 4 of the 16 that it was promised: only the agent's memory keeps the rest for it.
    growing = service("voice", cards, 4, gpu={"memory": "16GiB"})
    agent, grows, other = one_and_another(make_agent, cards, growing, service("voice", cards, 10))
    pid, helper = agent.service_pid(grows), helper_of(agent)
    agent.kill9()
    wait_until(lambda: not alive(helper), what="the helper goes with its agent")
    agent.start()
    agent.wait_ready(grows)
    assert agent.service_pid(grows) == pid
    agent.cli("start", other)
    wait_until(lambda: reason(agent, other) == "gpu.no_room")
    row = agent.row(other)
    assert f"{grows} holds 16.0 GiB" in row["sentence"]
    (owner,) = card_of(agent)["owners"]
    assert (owner["memory_mb"], owner["claim_mb"]) == (4 * 1024, 16 * 1024)


@pytest.mark.slow
def test_an_engine_that_outlives_its_server_is_ended_before_anybody_else_starts(
    make_agent: MakeAgent, cards: Cards
):
    cards.add()
    vllm = unique("vllm")
    agent = agent_on(make_agent, cards, {vllm: service("vllm", cards, 20)}).start()
    agent.wait_ready(vllm)
    server = agent.service_pid(vllm)
    (engine,) = [pid for pid in agent.processes() if pid != server]
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not alive(engine), what="the engine is ended")
    agent.wait_ready(vllm)
    assert agent.row(vllm)["restarts"] == 1
    assert "CUDA out of memory" not in agent.cli("logs", vllm).out


@pytest.mark.slow
def test_the_group_falls_back_while_there_is_no_card_and_is_taken_over_when_there_is(
    make_agent: MakeAgent, cards: Cards
):
    cards.driver(init=9)
    group, xtts, piper = unique("voice"), unique("xtts"), unique("piper")
    port = free_port()
    web = [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", str(port)]
    services = {
        xtts: {**service("voice", cards, 6), "group": group, "rank": 10},
        piper: {"command": web, "port": port, "health": {"http": "/"}, "group": group, "rank": 30},
    }
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_ready(piper)
    assert agent.wait_phase(xtts, "blocked")["reason"] == "gpu.none"
    wait_until(lambda: best_of(agent, group) == piper)
    cards.add()
    cards.driver(init=0)
    agent.wait_ready(xtts, within=60)
    wait_until(lambda: best_of(agent, group) == xtts)


def best_of(agent: RunningAgent, group: str) -> str | None:
    """Who answers for a group, by the last line that the journal has of it."""
    events = agent.cli("events", group, "--kind", "group", "-o", "json").json
    return str(events[-1]["reason_params"]["service"]) if events else None


@pytest.mark.slow
def test_an_order_and_an_eviction_survive_the_death_of_the_agent(
    make_agent: MakeAgent, cards: Cards, tmp_path: Path
):
    cards.add()
    met = tmp_path / "met"
    voice, order = unique("voice"), unique("order")
    # By its name alone the one that was evicted would be first.
    services = {
        voice: {**service("voice", cards, 14), "stop": {"timeout": "20s", "pause": "0s"}},
        order: service("voice", cards, 14, activation="manual", rank=150),
    }
    argv = services[voice]["command"]
    # It ends only when the next agent has met it.
    leave = f"while [ ! -e {met} ]; do sleep 0.1; done; kill $P; wait $P"
    slow = f"trap '{leave}' TERM; {' '.join(argv)} & P=$!; wait $P"
    services[voice]["command"] = ["sh", "-c", slow]
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_ready(voice)
    ready_for_long(agent, voice)
    agent.cli("start", order)
    agent.wait_phase(voice, "stopping")
    agent.kill9()
    agent.start()
    agent.wait_phase(voice, "stopping")
    met.touch()
    agent.wait_ready(order, within=60)
    assert agent.row(voice)["phase"] == "blocked"
    assert "CUDA out of memory" not in agent.cli("logs", order).out


def test_plan_and_gpu_say_what_would_happen(make_agent: MakeAgent, cards: Cards, stranger: int):
    cards.add()
    cards.hold(stranger, 16 * GIB)
    big, small = unique("big"), unique("small")
    services = {
        big: service("voice", cards, 12),
        small: service("voice", cards, 4, activation="manual"),
    }
    agent = agent_on(make_agent, cards, services).start()
    agent.wait_phase(big, "blocked")
    found = agent.cli("gpu", "-o", "json").json
    by_name = {one["service"]: one for one in found["services"]}
    assert by_name[big]["start"]["code"] == "gpu.no_room"
    assert by_name[small]["gpu"] == found["gpus"][0]["uuid"]
    assert agent.cli("plan", "-o", "json").json == []
    shown = agent.cli("gpu", "-o", "yaml").out
    assert "capability: 8.9" in shown


def test_the_plan_of_a_switch_starts_nothing_for_which_there_is_no_room(
    make_agent: MakeAgent, cards: Cards, stranger: int
):
    cards.add()
    cards.hold(stranger, 16 * GIB)
    big = unique("big")
    model = {"params": {"model": {"default": "org/one"}}, "env": {"MODEL": "{param.model}"}}
    agent = agent_on(make_agent, cards, {big: service("voice", cards, 12, **model)}).start()
    agent.wait_phase(big, "blocked")
    plan = agent.ask("model.plan", {"name": big, "model": "org/two"})
    assert plan["before"] == "org/one"
    assert [(step["action"], step["reason"]) for step in plan["steps"]] == []
    cards.free_all(stranger)
    agent.wait_ready(big)
    plan = agent.ask("model.plan", {"name": big, "model": "org/two"})
    assert [step["action"] for step in plan["steps"]] == ["restart"]


def helper_of(agent: RunningAgent) -> int:
    """The process that talks to the driver."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = (folder / "stat").read_bytes().rpartition(b") ")[2].split()[1]
        except OSError:
            continue
        if b"lictor.core.probes.nvml" in words and int(parent) == agent.pid:
            return int(folder.name)
    raise AssertionError("no helper runs")
