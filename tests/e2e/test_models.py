"""Another model in the place of the one that serves, with the real agent, a real Consul and a program
that loads as vLLM does: to its end, back when it fails, and through the death of the agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.consul import ConsulServer
from tests.support.llm import Llm

pytestmark = pytest.mark.consul


def begin(agent: RunningAgent, name: str, model: str) -> Any:
    return agent.ask("model", {"name": name, "model": model})


def ended(agent: RunningAgent, name: str) -> dict[str, Any]:
    """The row of a service whose switch is over."""
    return wait_until(
        lambda: (row := told(agent, name))["open"] is False and row, what="the switch ends"
    )


def told(agent: RunningAgent, name: str) -> dict[str, Any]:
    return dict(agent.ask("services", {"names": [name]})["services"][name]["model"])


def document(consul: ConsulServer, agent: RunningAgent, name: str) -> Any:
    text = consul.get_kv(f"lictor/desired/{agent.node}/{name}") or "{}"
    return json.loads(text).get("params", {})


@pytest.fixture
def llm(tmp_path: Path) -> Llm:
    return Llm.made(tmp_path / "llm")


def test_a_switch_a_failure_and_the_way_back(make_agent: MakeAgent, consul: ConsulServer, llm: Llm):
    name = unique("vllm")
    agent = make_agent({name: llm.service()}, consul=consul.http).start()
    agent.wait_ready(name)
    assert llm.serves() == "org/first"

    done = agent.cli("model", name, "org/second", "--wait", "-o", "json")
    assert done.code == 0, done.err
    assert done.json["result"] == "done"
    assert done.json["before"] == "org/first"
    assert llm.serves() == "org/second"
    # What is ordered before Consul is met is written when it is.
    wait_until(lambda: document(consul, agent, name) == {"model": "org/second"}, what="it is set")
    assert agent.cli("model", name, "org/second", "-o", "json").json["result"] == "already"

    failed = agent.cli("model", name, "org/bad", "--wait", "-o", "json")
    assert failed.code == 1
    assert failed.json["result"] == "back"
    assert "org/bad did not get ready" in failed.json["sentence"]
    assert "CUDA out of memory" in failed.json["sentence"]
    assert llm.serves() == "org/second"
    assert document(consul, agent, name) == {"model": "org/second"}
    row = agent.wait_phase(name, "ready")
    assert "back at model org/second" in row["sentence"]
    assert llm.started == ["org/first", "org/second", "org/bad", "org/second"]
    assert not llm.doubled

    events = agent.cli("events", "--kind", "model", "-o", "json").json
    assert [row["reason"] for row in sorted(events, key=lambda row: row["id"])] == [
        *("model.ordered", "model.loading", "model.switched"),
        *("model.ordered", "model.loading", "model.going_back", "model.back"),
    ]


def test_a_load_is_starting_says_how_far_it_is_and_is_given_its_time(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name = unique("vllm")
    agent = make_agent({name: llm.service()}, consul=consul.http).start()
    agent.wait_ready(name)
    answer = begin(agent, name, "org/halfway")
    assert answer["result"] in {"requested", "pending"}  # Consul may not be met yet
    # Half of the shards of the weights: what vLLM printed says how far it is.
    wait_until(lambda: told(agent, name)["percent"] == 36, what="half of the weights")
    row = agent.row(name)
    assert row["phase"] == "starting"
    assert "Model org/halfway is being loaded: 36 %." in row["sentence"]
    assert told(agent, name)["grown_bytes"] in range(200_001)
    llm.go()
    assert ended(agent, name)["stage"] == "done"

    # The next start of the same model knows how long it takes.
    wait_until(lambda: agent.ask("models", {"name": name})["models"][1]["usual_s"])
    (llm.folder / "go").unlink()
    agent.ask("change", {"verb": "restart", "names": [name]})
    wait_until(lambda: told(agent, name)["percent"] == 36, what="half of the weights")
    llm.go()
    agent.wait_ready(name)


def test_an_agent_that_is_killed_amid_a_switch_leaves_it_to_the_next_one(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name = unique("vllm")
    agent = make_agent({name: llm.service()}, consul=consul.http).start()
    agent.wait_ready(name)
    begin(agent, name, "org/halfway")
    wait_until(lambda: told(agent, name)["percent"] == 36, what="half of the weights")
    pid = agent.service_pid(name)
    agent.kill9()
    agent.start()
    assert agent.row(name)["pid"] == pid  # it goes on loading; nothing is begun anew
    wait_until(lambda: told(agent, name)["percent"] == 36, what="how far it is, again")
    assert told(agent, name)["open"] is True
    llm.go()
    assert ended(agent, name)["stage"] == "done"
    assert (llm.serves(), llm.started) == ("org/halfway", ["org/first", "org/halfway"])
    assert not llm.doubled


def test_the_next_agent_goes_back_from_a_model_that_died_while_there_was_none(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name = unique("vllm")
    agent = make_agent({name: llm.service()}, consul=consul.http).start()
    agent.wait_ready(name)
    begin(agent, name, "org/bad-halfway")
    wait_until(lambda: llm.started[-1:] == ["org/bad-halfway"], what="it is begun")
    agent.kill9()
    agent.start()
    assert ended(agent, name)["stage"] == "back"
    agent.wait_ready(name)
    assert llm.serves() == "org/first"
    wait_until(lambda: document(consul, agent, name) == {}, what="nothing is set, as before")
    assert not llm.doubled


def test_a_model_that_is_never_ready_is_given_up_when_its_time_is_over(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name = unique("vllm")
    service = llm.service(seconds=0.1, startup="4s")
    agent = make_agent({name: service}, consul=consul.http).start()
    agent.wait_ready(name)
    done = agent.cli("model", name, "org/stuck", "--wait", "-o", "json")
    assert (done.code, done.json["result"]) == (1, "back")
    assert "not ready within 4 s" in done.json["sentence"]
    assert llm.serves() == "org/first"


def test_a_second_choice_takes_the_place_of_the_first_and_an_edit_in_consul_of_both(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name = unique("vllm")
    agent = make_agent({name: llm.service()}, consul=consul.http).start()
    agent.wait_ready(name)
    begin(agent, name, "org/halfway")
    wait_until(lambda: llm.started[-1:] == ["org/halfway"], what="it loads")
    assert begin(agent, name, "org/halfway-too")["before"] == "org/first"
    wait_until(lambda: llm.started[-1:] == ["org/halfway-too"], what="the second one loads")
    key = f"lictor/desired/{agent.node}/{name}"
    consul.put_kv(key, {"params": {"model": "org/third"}})
    assert ended(agent, name)["stage"] == "replaced"
    wait_until(lambda: agent.row(name)["phase"] == "ready" and llm.serves() == "org/third")
    assert document(consul, agent, name) == {"model": "org/third"}
    assert llm.started == ["org/first", "org/halfway", "org/halfway-too", "org/third"]
    assert not llm.doubled


def test_without_consul_it_is_switched_all_the_same(make_agent: MakeAgent, llm: Llm):
    name = unique("vllm")
    nobody = {"consul": {"address": "http://127.0.0.1:1"}}
    agent = make_agent({name: llm.service()}, sections=nobody).start()
    agent.wait_ready(name)
    done = agent.cli("model", name, "org/bad", "--wait", "-o", "json")
    assert (done.code, done.json["result"]) == (1, "back")
    assert agent.cli("model", name, "org/second", "--wait").code == 0
    assert llm.serves() == "org/second"


def test_the_cache_is_shown_and_what_nobody_needs_can_be_removed(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name, other = unique("vllm"), unique("other")
    shared = Llm(llm.folder, llm.port)
    services = {
        name: llm.service(),
        other: shared.service(activation="manual", params={"model": {"default": "org/other"}}),
    }
    agent = make_agent(services, consul=consul.http).start()
    agent.wait_ready(name)
    assert agent.cli("model", name, "org/second", "--wait").code == 0
    shown = agent.cli("model", name)
    assert f"{name} is to serve org/second." in shown.err
    assert "org/first" in shown.out
    assert "195.3 KiB" in shown.out
    found = agent.cli("model", name, "-o", "json").json
    assert [(one["id"], one["in_use_by"]) for one in found["models"]] == [
        ("org/first", []),
        ("org/second", [name]),
    ]
    assert agent.cli("model", name, "--delete", "org/first").code == 8  # nobody can be asked
    in_use = agent.cli("model", name, "--delete", "org/second", "-y")
    assert in_use.code == 8
    assert f"is the model of {name}" in in_use.err
    assert agent.cli("model", name, "--delete", "org/other", "-y").code == 8  # a stopped one's too
    assert agent.cli("model", name, "--delete", "../../hf", "-y").code == 8
    told = agent.cli("events", name, "--kind", "outcome", "-o", "json").json
    assert [row["reason_params"]["verb"] for row in told if row["outcome"] == "refused"] == [
        "model.delete"
    ] * 3
    gone = agent.cli("model", name, "--delete", "org/first", "-y", "-o", "json")
    assert (gone.code, gone.json["freed_bytes"]) == (0, 200_000)
    hub = llm.folder / "hf" / "hub"
    assert [folder.name for folder in hub.iterdir()] == ["models--org--second"]
    assert llm.serves() == "org/second"


def test_what_may_not_be_is_refused_before_anything_is_touched(
    make_agent: MakeAgent, consul: ConsulServer, llm: Llm
):
    name, open_one = unique("vllm"), unique("trusting")
    trusting = Llm.made(llm.folder / "trusting")
    params = {"model": {"default": "org/first"}, "trust_remote_code": {"default": False}}
    services = {
        name: llm.service(),
        open_one: trusting.service(
            params=params,
            env={"HF_HOME": str(llm.folder / "hf"), "TRUST": "{param.trust_remote_code}"},
        ),
    }
    agent = make_agent(services, consul=consul.http).start()
    agent.wait_ready(name, open_one)
    pid = agent.service_pid(name)
    for wrong in ("first", "../x", "org/x;reboot", "org/" + "x" * 97):
        refused = agent.cli("model", name, wrong)
        assert refused.code == 2, wrong
    assert "expected org/name" in refused.err
    no_trust = agent.cli("model", name, "org/second", "--trust-remote-code")
    assert no_trust.code == 8
    assert "trust_remote_code" in no_trust.err
    assert agent.service_pid(name) == pid
    assert document(consul, agent, name) == {}

    # Trust is in one model, where the owner allows it, and never passes on to the next.
    assert agent.cli("model", open_one, "org/second", "--trust-remote-code", "--wait").code == 0
    assert document(consul, agent, open_one) == {"model": "org/second", "trust_remote_code": True}
    assert agent.cli("model", open_one, "org/third", "--wait").code == 0
    assert document(consul, agent, open_one) == {"model": "org/third", "trust_remote_code": False}
