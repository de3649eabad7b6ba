"""Who did what and why, and who holds what: as operators see it, without any Consul."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import select
import signal
import sqlite3
import time
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import plain
from tests.support.agent import RunningAgent, wait_until

ME = pwd.getpwuid(os.getuid()).pw_name
ALONE = {"consul": {"embedded": "never", "address": "http://127.0.0.1:1"}}


@pytest.fixture
def agent(make_agent: MakeAgent) -> RunningAgent:
    web = plain(depends_on=["db"])
    services = {"piper": plain(), "db": plain(), "web": web, "tool": plain(activation="manual")}
    running = make_agent(services, sections=ALONE).start()
    running.wait_ready("piper", "db", "web")
    return running


def events(agent: RunningAgent, *args: str) -> list[dict[str, Any]]:
    return agent.cli("events", *args, "-o", "json").json


def outcomes(agent: RunningAgent, *names: str) -> list[tuple[str, str]]:
    return [
        (row["reason_params"]["verb"], row["outcome"])
        for row in events(agent, *names, "--kind", "outcome")
    ]


# --- the journal -----------------------------------------------------------------------------


def test_each_verb_is_told_with_who_why_and_what_came_of_it(agent):
    assert agent.cli("stop", "piper", "--wait", "--reason", "too loud").code == 0
    assert agent.cli("start", "piper", "--wait").code == 0
    assert agent.cli("restart", "piper", "--wait").code == 0
    assert agent.cli("stop", "db").code == 8
    wait_until(lambda: len(outcomes(agent, "piper")) == 3, what="three ends")
    assert outcomes(agent, "piper") == [("stop", "done"), ("start", "done"), ("restart", "done")]
    assert outcomes(agent, "db") == [("stop", "refused")]
    verbs = events(agent, "piper", "--kind", "verb")
    assert [row["who"] for row in verbs] == [ME] * 3
    assert "too loud" in verbs[0]["sentence"]
    whole = events(agent, "piper", "-n", "100")
    assert [row["id"] for row in whole] == sorted(row["id"] for row in whole)
    assert {row["service"] for row in whole} == {"piper"}


def test_an_order_that_fails_says_so(make_agent: MakeAgent):
    never = {"command": ["false"], "restart": {"policy": "never"}, "activation": "manual"}
    # Without a health check it counts as ready if its end is seen half a second late.
    never["health"] = {"command": ["false"]}
    agent = make_agent({"broken": never}, sections=ALONE).start()
    started = time.monotonic()
    assert agent.cli("start", "broken", "--wait").code == 1
    assert time.monotonic() - started < 25  # far from the ten minutes that it may wait
    wait_until(lambda: outcomes(agent) == [("start", "failed")], what="the end is told")


def test_the_end_of_an_order_is_told_by_the_next_agent_if_the_first_one_died(
    make_agent: MakeAgent,
):
    slow = plain(health={"command": ["false"], "interval": "1s", "startup": "300s"})
    agent = make_agent({"slow": {**slow, "activation": "manual"}}, sections=ALONE).start()
    assert agent.cli("start", "slow").code == 0
    wait_until(lambda: events(agent, "slow", "--kind", "verb"), what="it is in the journal")
    time.sleep(0.3)  # and on disk: a batch gathers for a moment
    agent.kill9()
    agent.start()
    assert agent.cli("stop", "slow", "--wait").code == 0
    wait_until(
        lambda: outcomes(agent) == [("start", "overtaken"), ("stop", "done")], what="both ends"
    )


def test_the_table_speaks_the_readers_language_and_json_does_not(agent):
    russian = {"LICTOR_LANG": "ru"}
    table = agent.cli("events", "piper", "--kind", "phase", env=russian)
    assert "Готов" in table.out
    as_json = agent.cli("events", "piper", "--kind", "phase", "-o", "json", env=russian)
    assert as_json.json[-1]["sentence"] == "Ready."


def test_following_shows_what_happens_now(agent):
    following = agent.command("events", "-f", "-n", "0", "--kind", "verb", "-o", "json")
    try:
        deadline = time.monotonic() + 20
        line = ""
        while not line and time.monotonic() < deadline:
            agent.cli("stop", "piper")
            agent.cli("start", "piper")
            if select.select([following.stdout], [], [], 0.5)[0]:
                line = following.stdout.readline()
        assert json.loads(line)["service"] == "piper"
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=20)
        assert following.returncode == 130
    finally:
        following.kill()
        following.communicate()


def test_a_name_that_was_never_there_is_told_apart_from_silence(agent):
    assert agent.cli("events", "nonsense").code == 4
    assert events(agent, "tool", "--since", "1s", "--kind", "config") == []


# --- holds -----------------------------------------------------------------------------------


def test_a_group_of_which_nothing_is_to_be_told_yet_is_no_mistake(make_agent: MakeAgent):
    quiet = {"command": ["sleep", "1000"], "activation": "manual", "group": "choir"}
    agent = make_agent({"quiet": quiet}).start()
    assert events(agent, "choir") == []
    assert agent.cli("events", "chior").code == 4


def test_a_held_service_is_moved_by_nobody_before_it_is_released(agent):
    held = agent.cli("hold", "piper", "--reason", "driver update", "--until", "1h", "-o", "json")
    assert held.code == 0
    agent.wait_phase("piper", "stopped")
    row = agent.ask("status", {"names": ["piper"], "verbose": True})[0]
    assert (row["source"], row["by"], row["why"]) == ("hold", ME, "driver update")
    assert 3000 < row["until"] - time.time() < 3700
    assert "driver update" in row["sentence"]
    assert row["reason"] == "held.stopped"
    for words in (["start", "piper"], ["start", "-y", "piper"], ["stop", "piper"]):
        refused = agent.cli(*words)
        assert refused.code == 8
        assert ME in refused.err
        assert "driver update" in refused.err
        assert "lictor release piper" in refused.err
    everything = agent.cli("start", "-o", "json")
    assert everything.code == 0
    assert {row["service"]: row["result"] for row in everything.json}["piper"] == "held"
    assert agent.row("piper")["phase"] == "stopped"
    assert agent.cli("release", "piper", "--reason", "done").code == 0
    agent.wait_ready("piper")
    assert [row["reason"] for row in events(agent, "--kind", "hold")] == [
        "hold.placed",
        "hold.released_because",
    ]


def test_a_hold_survives_the_agent_and_ends_by_itself(agent):
    assert agent.cli("hold", "piper", "--reason", "quiet", "--until", "8s").code == 0
    agent.kill9()
    agent.start()
    assert "quiet" in agent.wait_phase("piper", "stopped")["sentence"]
    assert agent.cli("hold", "tool", "--reason", "needed", "--state", "running").code == 0
    agent.wait_ready("tool")
    agent.wait_ready("piper")  # nobody released it
    wait_until(
        lambda: "hold.expired" in [row["reason"] for row in events(agent, "--kind", "hold")],
        what="its end is told",
    )
    assert "quiet" not in agent.row("piper")["sentence"]
    assert agent.cli("release", "tool").code == 0
    agent.wait_phase("tool", "stopped")


def test_a_hold_that_would_hurt_others_is_said_twice(agent):
    assert agent.cli("hold", "db", "--reason", "move").code == 8
    assert agent.cli("hold", "db", "--reason", "move", "-y").code == 0
    agent.wait_phase("db", "stopped")
    again = agent.cli("hold", "db", "--reason", "move", "-y", "-o", "json")
    assert [row["result"] for row in again.json] == ["already"]
    assert agent.cli("release", "db").code == 0
    agent.wait_ready("db", "web")


def test_maintenance_as_a_hold_leaves_the_process(agent):
    pid = agent.service_pid("piper")
    assert agent.cli("hold", "piper", "--reason", "look", "--state", "maintenance").code == 0
    assert agent.row("piper")["desired"] == "maintenance"
    assert agent.cli("restart", "piper").code == 8
    assert agent.service_pid("piper") == pid


@pytest.mark.parametrize(
    "words",
    [
        ["hold", "piper"],
        ["hold", "piper", "--reason", "  "],
        ["hold", "--reason", "x"],
        ["hold", "piper", "--reason", "x", "--until", "yesterday"],
        ["hold", "piper", "--reason", "x", "--until", "2001-01-01T00:00:00Z"],
        ["hold", "piper", "--reason", "x" * 300],
    ],
)
def test_a_hold_that_says_too_little_is_a_usage_error(agent, words):
    assert agent.cli(*words).code == 2
    assert agent.row("piper")["phase"] == "ready"


def test_a_verb_with_an_end_ends_and_brings_back_what_was(agent):
    assert agent.cli("stop", "piper", "--until", "6s", "--reason", "short").code == 0
    row = agent.wait_phase("piper", "stopped")
    assert "Until" in row["sentence"]
    agent.wait_ready("piper")
    # What has ended does not come to life again with the next order.
    assert agent.cli("stop", "piper").code == 0
    agent.wait_phase("piper", "stopped")
    assert "Until" not in agent.row("piper")["sentence"]


def test_an_end_for_what_was_set_for_good_is_refused_with_the_way_to_do_it(agent):
    assert agent.cli("start", "tool", "--wait").code == 0
    refused = agent.cli("stop", "tool", "--until", "1h")
    assert refused.code == 2
    assert "lictor hold tool" in refused.err
    assert agent.row("tool")["phase"] == "ready"


# --- figures ---------------------------------------------------------------------------------


def test_figures_count_the_whole_tree_and_are_nothing_for_what_does_not_run(agent):
    rows = {row["name"]: row for row in agent.cli("top", "-o", "json").json}
    piper, tool = rows["piper"], rows["tool"]
    assert piper["processes"] >= 1
    assert piper["threads"] >= 1
    assert piper["fds"] >= 3
    assert piper["connections"] == 0
    assert (tool["processes"], tool["fds"], tool["cpu_percent"]) == (0, 0, 0)
    assert [row["name"] for row in agent.cli("top", "-o", "json").json][-1] == "tool"


# --- damaged state ---------------------------------------------------------------------------


def test_services_and_verbs_go_on_over_a_database_that_is_broken(agent):
    pid = agent.service_pid("piper")
    agent.kill9()
    (agent.data_dir / "state.db").write_bytes(b"nonsense" * 1000)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            (agent.data_dir / f"state.db{suffix}").unlink()
    agent.start()
    agent.wait_ready("piper", "db", "web")
    assert agent.service_pid("piper") == pid
    assert "state.db.damaged" in agent.cli("status").err
    assert agent.cli("stop", "piper", "--wait").code == 0
    assert agent.cli("start", "piper", "--wait").code == 0


def test_a_row_about_nothing_that_could_be_a_service_keeps_no_agent_from_starting(agent):
    pid = agent.service_pid("piper")
    agent.kill9()
    copy = "INSERT INTO rows SELECT kind, 'no name!', body FROM rows WHERE key = 'piper'"
    with contextlib.closing(sqlite3.connect(agent.data_dir / "state.db")) as memory, memory:
        assert memory.execute(copy).rowcount > 0
    agent.start()
    agent.wait_ready("piper")
    assert agent.service_pid("piper") == pid
