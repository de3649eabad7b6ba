"""Reading config.yml again: only what changed is touched, a wrong file changes nothing."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, plain, service, web
from tests.support.agent import PATIENCE, argv_of, unique, wait_until
from tests.support.children import alive, child
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


def test_a_reload_touches_only_what_changed(make_agent: MakeAgent, consul: ConsulServer):
    command, tag, same, gone, new = (
        unique(word) for word in ("command", "tag", "same", "gone", "new")
    )
    services = {command: web(), tag: web(tags=["old"]), same: web(), gone: web()}
    agent = make_agent(services, consul=consul.http).start()
    catalog = Catalog(consul)
    agent.wait_ready(*services)
    for name in services:
        catalog.wait_passing(name, agent.entry_id(name))
    pids = {name: agent.service_pid(name) for name in services}
    entry = catalog.entries(same)[agent.entry_id(same)]["Service"]["ModifyIndex"]

    changed = copy.deepcopy(services)
    changed[command]["command"] += ["--count", "7"]
    changed[tag]["tags"] = ["fresh"]
    del changed[gone]
    changed[new] = web()
    agent.configure(changed)
    reloaded = agent.cli("reload", "-o", "json")
    assert reloaded.code == 0
    assert reloaded.json["restart"] == [command]
    assert reloaded.json["in_place"] == [tag]
    assert (reloaded.json["added"], reloaded.json["removed"]) == ([new], [gone])

    wait_until(lambda: agent.row(command)["pid"] not in {None, pids[command]})
    agent.wait_ready(command, new)
    assert argv_of(agent.service_pid(command))[-2:] == ["--count", "7"]
    wait_until(
        lambda: catalog.entries(tag)[agent.entry_id(tag)]["Service"]["Tags"] == ["fresh"],
        what="the new tag is registered",
    )
    wait_until(lambda: not alive(pids[gone]), what="what was removed has ended")
    catalog.wait_gone(gone, agent.entry_id(gone))
    wait_until(lambda: gone not in {row["name"] for row in agent.status()})
    for name in (command, tag, same, new):
        catalog.wait_passing(name, agent.entry_id(name))
    assert (agent.service_pid(tag), agent.service_pid(same)) == (pids[tag], pids[same])
    assert catalog.entries(same)[agent.entry_id(same)]["Service"]["ModifyIndex"] == entry
    actual = f"lictor/actual/{agent.node}/{gone}"
    wait_until(lambda: consul.get_kv(actual) is None, what="its record is gone")


def test_what_was_removed_and_still_stops_is_stopped_already_and_cannot_be_started(
    make_agent: MakeAgent,
):
    slow, stays = unique("slow"), unique("stays")
    services = {
        slow: service(
            child("slow-term", seconds=PATIENCE), stop={"timeout": f"{PATIENCE}s", "pause": "0s"}
        ),
        stays: plain(),
    }
    agent = make_agent(services, sections={"consul": {"embedded": "never"}}).start()
    agent.wait_ready(slow, stays)
    pid, other = agent.service_pid(slow), agent.service_pid(stays)
    agent.configure({stays: services[stays]})
    assert agent.cli("reload").code == 0
    assert agent.wait_phase(slow, "stopping")["reason"] == "config.removed"

    for verb in ("start", "restart"):
        refused = agent.cli(verb, slow)
        assert refused.code == 4, refused.err
        assert f"{slow} is no longer defined in config.yml" in refused.err
        preview = agent.ask("preview", {"verb": verb, "names": [slow]})
        assert (preview["steps"], preview["refused"]["code"]) == ([], "service.unknown")
        # Those that are left can be moved all the same.
        steps = agent.ask("preview", {"verb": verb, "names": []})["steps"]
        assert {step["service"] for step in steps} == ({stays} if verb == "restart" else set())
    assert [row["service"] for row in agent.ask("change", {"verb": "restart"})] == [stays]
    wait_until(lambda: agent.row(stays)["pid"] not in {None, other})

    assert agent.ask("preview", {"verb": "stop", "names": [slow]})["steps"] == []
    (stopped,) = agent.cli("stop", slow, "-o", "json").json
    assert (stopped["result"], stopped["phase"]) == ("already", "stopping")
    assert stopped["reason"] == "config.removed"
    with agent.command("stop", slow, "--wait", "-o", "json") as waiting:
        assert waiting.stderr is not None
        assert slow in waiting.stderr.readline()  # the agent has the order: what it waits for
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)  # it is no answer to say so before it has ended
        os.kill(pid, signal.SIGKILL)
        out, _ = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0
    (ended,) = json.loads(out)
    assert (ended["result"], ended["phase"]) == ("already", "stopped")
    assert ended["sentence"]
    wait_until(lambda: slow not in {row["name"] for row in agent.status()})
    assert agent.cli("stop", slow).code == 4


def test_a_wrong_file_changes_nothing_and_is_told_with_its_place(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("steady")
    services = {name: web()}
    agent = make_agent(services, consul=consul.http).start()
    agent.wait_ready(name)
    pid = agent.service_pid(name)
    wrong = copy.deepcopy(services)
    wrong[name]["restart"] = {"polcy": "always"}
    agent.configure({**wrong, unique("other"): web()})
    lines = agent.config.read_text().splitlines()
    ((line, column),) = (
        (n, text.index("polcy") + 1) for n, text in enumerate(lines, 1) if "polcy" in text
    )
    refused = agent.cli("reload")
    assert refused.code == 2
    assert f"{agent.config}:{line}:{column}:" in refused.err
    assert "policy" in refused.err
    assert "Traceback" not in refused.err
    agent.signal(signal.SIGHUP)
    wait_until(lambda: f"{agent.config}:{line}:{column}:" in agent.log(), what="HUP is refused")
    assert agent.running
    assert [row["name"] for row in agent.status()] == [name]
    assert agent.service_pid(name) == pid

    added = unique("added")
    agent.configure({**services, added: web()})
    agent.signal(signal.SIGHUP)
    wait_until(lambda: added in {row["name"] for row in agent.status()}, what="HUP reloads")
    agent.wait_ready(added)
    assert agent.service_pid(name) == pid
    assert agent.cli("reload").code == 0
    assert agent.service_pid(name) == pid


def test_how_term_ends_it_is_taken_from_the_last_reload(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("late")
    agent = make_agent({name: web()}, consul=consul.http).start()
    agent.wait_ready(name)
    pid = agent.service_pid(name)
    agent.config.write_text(
        agent.config.read_text().replace("agent:\n", "agent:\n  on_term: keep\n")
    )
    assert agent.cli("reload").code == 0
    agent.signal(signal.SIGTERM)
    assert agent.wait_exit() == 0
    assert alive(pid)
