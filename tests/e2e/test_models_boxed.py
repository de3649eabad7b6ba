"""Another model in a container: the next one is made while the present one runs, with the real agent."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.e2e.containers import boxed, container_of, on
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import free_port
from tests.support.dockerd import DockerEngine

SCRIPT = 'case "$$0" in org/bad) exit 3;; org/deaf) trap "" TERM;; esac; exec httpd -f -h /www -p '


@pytest.fixture
def switched(make_agent, engine: DockerEngine):
    """An agent with one service in a container of a fixed name, which runs the model org/first."""
    name = unique("ai-secretary-vllm")
    port = free_port()
    # Asked for its health: without, org/bad counts as ready if its end is seen half a second late.
    service = boxed(
        *("sh", "-c", f"{SCRIPT}127.0.0.1:{port}", "{param.model}"),
        port=port,
        docker={"name": name},
        params={"model": {"default": "org/first"}},
        stop={"timeout": "8s", "pause": "0s"},
    )
    agent: RunningAgent = make_agent({"vllm": service}, env=on(engine)).start()
    agent.wait_ready("vllm")
    yield agent, name
    if agent.running:
        agent.signal(signal.SIGKILL)
        agent.wait_exit()
    engine.remove_of(agent.id)


def of(engine: DockerEngine, agent: RunningAgent) -> dict[str, str]:
    """Each container of ours: its name, and its id while it runs."""
    found = engine.api.containers(all=True, filters={"label": f"lictor.owner={agent.id}"})
    return {one["Names"][0].lstrip("/"): one["Id"] * (one["State"] == "running") for one in found}


def switch(agent: RunningAgent, model: str) -> Any:
    return agent.cli("model", "vllm", model, "--wait", "-o", "json")


def stage(agent: RunningAgent) -> str:
    row = agent.ask("services", {"names": ["vllm"]})["services"]["vllm"]
    return str(row["model"]["stage"])


def test_the_next_container_is_made_first_and_the_way_back_leaves_one(switched, engine):
    agent, name = switched
    first, since = container_of(agent, "vllm"), time.time()
    done = switch(agent, "org/second")
    assert (done.code, done.json["result"]) == (0, "done"), done.err
    second = container_of(agent, "vllm")
    assert of(engine, agent) == {name: second}
    assert engine.inspect(name)["Config"]["Cmd"][-1] == "org/second"
    assert engine.made_and_ended(agent.id, since) == [("create", second), ("die", first)]

    failed = switch(agent, "org/bad")
    assert (failed.code, failed.json["result"]) == (1, "back")
    agent.wait_ready("vllm")
    assert of(engine, agent) == {name: container_of(agent, "vllm")}
    assert engine.inspect(name)["Config"]["Cmd"][-1] == "org/second"


def test_what_the_engine_would_refuse_ends_the_switch_and_nothing_else(switched, engine):
    agent, name = switched
    first = container_of(agent, "vllm")
    theirs = engine.run(f"{name}.next")
    try:
        failed = switch(agent, "org/second")
        assert (failed.code, failed.json["result"]) == (1, "refused")
        assert f"The name {name}.next belongs to another container" in failed.json["sentence"]
        assert engine.inspect(theirs)["State"]["Running"]
    finally:
        engine.api.remove_container(theirs, force=True)
    assert agent.row("vllm")["phase"] == "ready"
    assert of(engine, agent) == {name: first}
    assert engine.inspect(name)["Config"]["Cmd"][-1] == "org/first"


def test_an_agent_that_dies_or_ends_before_it_is_started_leaves_no_second_one(switched, engine):
    agent, name = switched
    assert switch(agent, "org/deaf").code == 0
    agent.ask("model", {"name": "vllm", "model": "org/second"})
    wait_until(lambda: f"{name}.next" in of(engine, agent), what="the next one is made")
    agent.kill9()
    agent.start()
    wait_until(lambda: stage(agent) == "done", what="the switch ends")
    agent.wait_ready("vllm")
    assert of(engine, agent) == {name: container_of(agent, "vllm")}
    assert engine.inspect(name)["Config"]["Cmd"][-1] == "org/second"

    assert switch(agent, "org/deaf").code == 0
    agent.ask("model", {"name": "vllm", "model": "org/second"})
    wait_until(lambda: f"{name}.next" in of(engine, agent), what="the next one is made")
    assert agent.down().code == 0
    assert of(engine, agent) == {}
