"""`lictor doctor`, `lictor explain` and `lictor generate consul` as commands."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml

from tests.cli.fake_agent import OVERVIEW, AgentError
from tests.support.children import free_port

STEP = {"sentence": "Do it.", "reason": "next.doctor", "reason_params": {}}


def chain(verdict: str = "ok", name: str = "piper", **more: object) -> dict:
    step = {"step": "dns", "verdict": verdict, "sentence": "As it is.", "reason": "x.y"}
    return {
        "name": name,
        "instance": None,
        "node": "host1",
        "verdict": verdict,
        "sentence": "That is why.",
        "reason": "x.y",
        "reason_params": {},
        "next": None if verdict == "ok" else STEP,
        "steps": [step | {"reason_params": {}}],
        "notes": [],
    } | more


@pytest.mark.parametrize(("verdict", "code"), [("ok", 0), ("gap", 3), ("unknown", 3)])
def test_explain_exits_3_unless_all_is_well(agent, run, verdict, code):
    fake = agent(explain=[chain(verdict)])
    done = run("explain", "Piper")
    assert done.returncode == code, done
    assert fake.args("explain") == {"names": ["piper"]}
    assert "That is why." in done.stdout
    assert ("Next:" in done.stdout) is (verdict != "ok")


def test_explain_shows_every_instance_and_every_note(agent, run):
    note = {"sentence": "It stands by.", "reason": "x.z", "reason_params": {}}
    one = chain(name="piper", instance="a", notes=[note])
    agent(explain=[one, chain(name="piper", instance="b")])
    shown = run("explain", "piper").stdout
    assert shown.index("piper@a") < shown.index("It stands by.") < shown.index("piper@b")


def test_explain_of_an_unknown_name_exits_4_and_without_an_agent_5(agent, run):
    assert run("explain", "piper").returncode == 5
    agent(explain=AgentError("service.unknown", "No service.", 4))
    assert run("explain", "piper").returncode == 4


@pytest.fixture
def config(home: Path) -> Path:
    """A config with one service, that asks for no Consul of our own."""
    path = home / "config.yml"
    _write(path, {})
    return path


def _write(path: Path, consul: dict, **service: object) -> None:
    piper = {"command": ["sleep", "9"], "port": free_port()} | service
    whole = {
        "agent": {"node": "host1"},
        "consul": {"embedded": "never", "address": f"http://127.0.0.1:{free_port()}"} | consul,
        "web": {"port": 0},
        "services": {"piper": piper, "xtts": {**piper, "port": free_port(), "group": "voice"}},
    }
    path.write_text(yaml.safe_dump(whole))


def _doctor(run, config: Path, *options: str, **kwargs) -> tuple[int, dict[str, dict]]:
    done = run("doctor", "-c", str(config), "-o", "json", *options, **kwargs)
    assert done.stdout, done
    return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}


def test_without_an_agent_the_config_is_enough_and_an_absent_consul_fails(run, config):
    code, rows = _doctor(run, config)
    assert code == 1
    assert rows["agent"]["reason"] == "doctor.agent_none"
    assert rows["config"]["reason_params"]["services"] == 2
    assert rows["data_dir"]["level"] == "ok"
    assert (rows["consul"]["level"], rows["consul"]["reason"]) == ("fail", "consul.unreachable")
    assert rows["consul"]["next"]["reason"] == "next.consul"


def test_a_taken_port_fails_with_the_program_that_has_it(run, config):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        _write(config, {}, port=server.getsockname()[1])
        done = run("doctor", "-c", str(config))
    assert done.returncode == 1
    assert "port piper" in done.stdout
    assert "is taken by" in done.stdout


def test_a_config_that_cannot_be_used_is_a_finding_among_others(run, config):
    config.write_text("services: {piper: {comand: [x]}}")
    code, rows = _doctor(run, config)
    assert code == 1
    assert (rows["config"]["level"], rows["config"]["reason"]) == ("fail", "doctor.config_bad")
    assert "comand" in rows["config"]["sentence"]
    assert rows["data_dir"]["level"] == "ok"


def test_files_for_tls_that_cannot_be_read_are_a_finding(run, config):
    _write(config, {"address": "https://127.0.0.1:1", "ca_file": "missing.pem"})
    code, rows = _doctor(run, config)
    assert code == 1
    assert rows["consul"]["reason"] == "consul.bad_address"
    assert rows["consul"]["next"]["reason"] == "next.tls"


def test_a_host_without_any_consul_is_well_if_the_agent_can_run_its_own(
    run, home, consul_bin, monkeypatch
):
    consul_bin = str(Path(consul_bin).resolve())
    monkeypatch.chdir(home)  # a checkout may have a Consul in .cache/bin
    config = home / "config.yml"
    config.write_text(yaml.safe_dump({"consul": {"embedded": "always"}, "services": {}}))
    code, rows = _doctor(run, config, env={"CONSUL_BIN": consul_bin})
    assert (code, rows["consul"]["reason"]) == (0, "doctor.consul_own")
    code, rows = _doctor(run, config, env={"PATH": str(home), "CONSUL_BIN": None})
    assert (code, rows["consul"]["reason"]) == (1, "consul.no_binary")
    assert not (home / "consul").exists()  # it only looks


def test_a_running_agent_is_named_and_its_config_used(agent, run, home, config):
    agent(overview=OVERVIEW | {"config": str(config), "node": "host7"}, env={"LICTOR_NODE": "x"})
    rows = {row["check"]: row for row in json.loads(run("doctor", "-o", "json").stdout)}
    assert rows["agent"]["reason_params"] == {"node": "host7", "pid": 1}
    assert rows["config"]["reason_params"]["path"] == str(config)


@pytest.mark.parametrize(("language", "word"), [("ru", "норма"), ("zh", "正常")])
def test_it_speaks_the_language_of_who_asks(run, config, language, word):
    shown = run("doctor", "-c", str(config), env={"LICTOR_LANG": language}).stdout
    assert word in shown


def test_the_policy_names_this_node_its_services_and_how_to_make_a_token(run, config):
    made = run("generate", "consul", "-c", str(config)).stdout
    rules = [line.split("  #")[0].rstrip() for line in made.splitlines() if line and line[0] != "#"]
    assert 'service "piper" { policy = "write" }' in rules
    assert 'service "voice" { policy = "write" }' in rules
    assert 'query "voice" { policy = "write" }' in rules
    assert 'key_prefix "lictor/desired/host1/" { policy = "write" }' in rules
    assert "consul acl token create" in made
    every = run("generate", "consul", "--all-nodes", "-c", str(config)).stdout
    assert 'key_prefix "lictor/desired/" { policy = "write" }' in every
