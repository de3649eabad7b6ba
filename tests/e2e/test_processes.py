"""Processes that misbehave, and everything that can go wrong before one runs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import diarist, plain, service, web
from tests.support.agent import RunningAgent, wait_until
from tests.support.children import alive, child, free_port, text_of

NO_CONSUL = "http://127.0.0.1:1"


def _append(file: Path, word: str, code: int = 0) -> list[str]:
    """The argv of a job that writes a word into a file and ends with a status."""
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + chr(10)); sys.exit(int(sys.argv[3]))"
    return [sys.executable, "-S", "-E", "-c", program, str(file), word, str(code)]


def test_jobs_run_in_order_before_each_start_and_a_failed_one_keeps_it_from_starting(
    make_agent: MakeAgent, tmp_path: Path
):
    notes, diary = tmp_path / "notes", tmp_path / "diary"
    broken, never = tmp_path / "broken", tmp_path / "never"
    services = {
        "good": diarist(
            "good", diary, before=[_append(notes, "migrate"), _append(notes, "topics")]
        ),
        "bad": diarist(
            "bad",
            never,
            before=[_append(broken, "one"), _append(broken, "two", 3), _append(broken, "three")],
            restart={"backoff": "60s"},
        ),
    }
    agent = make_agent(services, consul=NO_CONSUL).start()
    agent.wait_ready("good")
    assert text_of(notes).split() == ["migrate", "topics"]
    row = agent.wait_phase("bad", "backoff")
    assert text_of(broken).split() == ["one", "two"]
    assert "3" in row["sentence"]
    assert row["reason"] == "start.before_failed"
    assert not never.exists()
    assert agent.cli("restart", "good", "--wait").code == 0
    assert text_of(notes).split() == ["migrate", "topics"] * 2


def test_a_service_gets_its_environment_its_folder_and_nothing_of_ours(
    make_agent: MakeAgent, tmp_path: Path
):
    home = tmp_path / "home of it"
    home.mkdir()
    dotenv = tmp_path / "dot.env"
    dotenv.write_text("# a comment\nexport FROM_FILE='from the file'\nBOTH=file\n")
    who = service(
        child("whoami"),
        cwd=str(home),
        env={"BOTH": "config", "PLAIN": "a b$$c"},
        env_file=str(dotenv),
        inherit_env=["HF_TOKEN"],
    )
    env = {"HF_TOKEN": "hf", "CONSUL_HTTP_TOKEN": "our-secret", "SECRET_OF_AGENT": "x"}
    agent = make_agent({"who": who}, consul=NO_CONSUL, env=env).start()
    log = agent.data_dir / "logs" / "who.log"
    wait_until(lambda: "end" in text_of(log).splitlines(), what="it said who it is")
    said = text_of(log).splitlines()
    seen = dict(line[4:].split("=", 1) for line in said if line.startswith("env "))
    assert f"cwd={home}" in "\n".join(said)
    assert seen["FROM_FILE"] == "from the file"
    assert (seen["BOTH"], seen["PLAIN"], seen["HF_TOKEN"]) == ("config", "a b$c", "hf")
    assert seen["LICTOR_SERVICE"] == "who"
    assert seen["LICTOR_NODE"] == agent.node
    assert "our-secret" not in "\n".join(said)
    assert "SECRET_OF_AGENT" not in seen
    assert len([line for line in said if line.startswith("fd ")]) <= 4  # 0, 1, 2 and the listing's
    verbose = agent.cli("status", "who", "-v", "-o", "json")
    assert "from the file" not in verbose.out


def test_each_reason_why_it_does_not_run_is_one_true_sentence(
    make_agent: MakeAgent, tmp_path: Path
):
    text = tmp_path / "no-program"
    text.write_text("#!/bin/sh\n")
    wait = {"restart": {"backoff": "60s"}}
    quick: dict[str, Any] = {"http": "/", "startup": "1s", "timeout": "1s"}
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        services = {
            "mute": service(child("no-port"), free_port(), **wait, health=quick),
            "crowded": service(child("good", port=taken), taken, **wait),
            "missing": service(["no-such-program-anywhere"], **wait),
            "text": service([str(text)], **wait),
            "homeless": service(child("good"), cwd=str(tmp_path / "nowhere"), **wait),
            # Asked for its health: without, it counts as ready if its end is seen late.
            "fails": service(child("exit-now", count=9), free_port(), **wait),
            "bold": web(),
        }
        agent = make_agent(services, consul=NO_CONSUL).start()
        agent.wait_ready("bold")
        expected = {
            "mute": ("start.timeout", "1 s"),
            "crowded": ("start.port_taken", str(os.getpid())),
            "missing": ("start.program_missing", "no-such-program-anywhere"),
            "text": ("start.not_executable", str(text)),
            "homeless": ("start.cwd_missing", "nowhere"),
            "fails": ("start.exit_code", "giving up: no model at /models"),
        }
        for name, (code, word) in expected.items():
            row = agent.wait_phase(name, "backoff")
            assert row["reason"] == code, name
            assert word in row["sentence"], name
            assert row["pid"] is None
            assert code not in row["sentence"]  # a sentence, not a code
        assert str(taken) in agent.row("crowded")["sentence"]
        assert len(agent.processes()) == 1
    shown = agent.cli("status")
    assert shown.code == 0
    assert str(os.getpid()) in shown.out


def test_a_port_that_becomes_free_is_taken_at_the_next_try(make_agent: MakeAgent):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        agent = make_agent({"patient": web(port=port)}, consul=NO_CONSUL).start()
        agent.wait_phase("patient", "backoff")
    agent.wait_ready("patient")


def test_a_service_that_is_deaf_to_term_is_killed_after_its_timeout(
    make_agent: MakeAgent, tmp_path: Path
):
    deaf = service(child("ignore-term", file=tmp_path / "deaf"), stop={"timeout": "1s"})
    agent = make_agent({"deaf": deaf}, consul=NO_CONSUL).start()
    wait_until((tmp_path / "deaf").exists)
    agent.wait_ready("deaf")
    pid = agent.service_pid("deaf")
    begun = time.monotonic()
    assert agent.cli("stop", "deaf", "--wait").code == 0
    assert time.monotonic() - begun >= 1
    assert not alive(pid)


def test_whatever_a_service_forked_is_gone_after_its_stop(make_agent: MakeAgent, tmp_path: Path):
    kinds = ("grandchildren", "escape-group", "engine", "double-fork")
    services = {
        kind: service(
            child(kind, file=tmp_path / kind, count=2), stop={"timeout": "1s", "pause": "0s"}
        )
        for kind in kinds
    }
    services["double-fork"]["restart"] = {"policy": "never"}
    agent = make_agent(services, consul=NO_CONSUL).start()
    agent.wait_ready("grandchildren", "escape-group", "engine")
    # (what the double fork left is ended at once, perhaps before it can write down who it is)
    wait_until(lambda: all(text_of(tmp_path / kind).split() for kind in kinds[:3]))
    others = [int(pid) for kind in kinds[:3] for pid in text_of(tmp_path / kind).split()]
    assert all(alive(pid) for pid in others)
    assert agent.cli("stop", "--wait").code == 0
    wait_until(lambda: not any(alive(pid) for pid in others), within=5, what="all are gone")
    wait_until(lambda: agent.processes() == [], within=10, what="nothing carries our mark")


def test_an_agent_that_ended_leaves_no_cgroup_behind(make_agent: MakeAgent):
    port = free_port()
    agent = make_agent({"web": service(child("good", port=port), port)}, consul=NO_CONSUL).start()
    agent.wait_ready("web")
    folders = [*Path("/sys/fs/cgroup").glob(f"lictor-{agent.id[:12]}")]
    folders += Path("/sys/fs/cgroup").glob(f"*/lictor-{agent.id[:12]}")
    (row,) = agent.ask("status", {"verbose": True})
    assert bool(folders) is ("cgroup" in row["containment"])
    assert agent.down().code == 0
    assert not any(folder.exists() for folder in folders)


def test_the_engine_of_a_crashed_service_is_gone_before_the_next_one_starts(
    make_agent: MakeAgent, tmp_path: Path
):
    file = tmp_path / "engines"
    port = free_port()
    engine = service(child("engine", port=port, file=file), port, stop={"timeout": "1s"})
    agent = make_agent({"llm": engine}, consul=NO_CONSUL).start()
    agent.wait_ready("llm")
    wait_until(lambda: text_of(file).split(), what="the engine says who it is")
    (first,) = (int(pid) for pid in text_of(file).split())
    os.kill(agent.service_pid("llm"), signal.SIGKILL)
    wait_until(lambda: len(text_of(file).split()) == 2, what="a second engine")
    assert not alive(first)
    agent.wait_ready("llm")
    assert len(agent.processes()) == 2


@pytest.mark.checklist(
    24,
    "a program that dies as soon as it runs",
    "it dies again and again",
    "restarted with growing delays, given up after its budget, said so",
)
def test_a_service_that_gives_up_stays_failed_until_it_is_ordered(
    make_agent: MakeAgent, tmp_path: Path
):
    trouble = tmp_path / "trouble"
    trouble.touch()
    limited = diarist(
        "limited",
        tmp_path / "diary",
        f"unless={trouble}",
        restart={"backoff": "100ms", "max_restarts": 2},
    )
    agent = make_agent({"limited": limited}, consul=NO_CONSUL).start()
    row = agent.wait_phase("limited", "failed")
    assert text_of(tmp_path / "diary").count("up limited") == 3
    assert "cannot load" in row["sentence"]
    assert row["restarts"] == 2
    trouble.unlink()
    assert agent.cli("start", "limited", "--wait").code == 0


def test_a_frozen_service_becomes_unhealthy_and_is_restarted(make_agent: MakeAgent):
    health = {"http": "/", "interval": "1s", "timeout": "1s", "failures": 2}
    agent = make_agent({"frozen": web(health=health)}, consul=NO_CONSUL).start()
    agent.wait_ready("frozen")
    pid = agent.service_pid("frozen")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: agent.row("frozen")["restarts"] == 1, what="restarted for its health")
    agent.wait_ready("frozen")
    assert not alive(pid)


def _refused(agent: RunningAgent, code: int, *words: str) -> None:
    result = agent.cli("up", "-c", str(agent.config))
    assert result.code == code, result
    for word in words:
        assert word in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_second_agent_on_one_data_dir_ends_with_one_clear_line(make_agent: MakeAgent):
    agent = make_agent({"one": plain()}, consul=NO_CONSUL).start()
    agent.wait_ready("one")
    _refused(agent, 1, "already runs", str(agent.pid), str(agent.data_dir))
    assert agent.row("one")["phase"] == "ready"
    assert len(agent.processes()) == 1


def test_a_config_that_cannot_be_used_is_told_with_its_places(
    make_agent: MakeAgent, tmp_path: Path
):
    agent = make_agent({"one": plain(env_file=str(tmp_path / "missing.env"))}, consul=NO_CONSUL)
    _refused(agent, 2, "missing.env", f"{agent.config}:")
    agent.configure({"one": {**plain(), "comand": ["x"], "port": "eighty"}, "two": None})
    result = agent.cli("config", "check")
    assert result.code == 2
    assert "comand" in result.err
    assert "command" in result.err  # what was meant
    assert "eighty" in result.err
    lines = agent.config.read_text().splitlines()
    (place,) = (n for n, line in enumerate(lines, start=1) if "comand" in line)
    assert f"config.yml:{place}:" in result.err
    agent.config.write_text("services: {one: [\n")
    _refused(agent, 2, f"{agent.config}:")
    agent.config.unlink()
    _refused(agent, 2, str(agent.config))
    assert agent.processes() == []
