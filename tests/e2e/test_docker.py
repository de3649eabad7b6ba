"""Services in containers, with a real engine and a real Consul, as a user sees them."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.containers import LOOP, boxed, boxed_web, container_of, on
from tests.e2e.world import Catalog, plain
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import free_port
from tests.support.dockerd import IMAGE, DockerEngine
from tests.support.piper import piper_folder

MakeBoxed = Callable[..., RunningAgent]


@pytest.fixture
def agent_on(make_agent) -> Iterator[MakeBoxed]:
    """Makes agents on an engine, and removes their containers at the end."""
    made: list[tuple[RunningAgent, DockerEngine]] = []

    def make(engine: DockerEngine, services: dict[str, Any], **options: Any) -> RunningAgent:
        env = {**on(engine), **options.pop("env", {})}
        made.append((make_agent(services, env=env, **options), engine))
        return made[-1][0]

    yield make
    for agent, engine in made:
        if agent.running:
            agent.signal(signal.SIGKILL)
            agent.wait_exit()
        engine.remove_of(agent.id)


def test_a_container_is_started_registered_read_measured_and_stopped(agent_on, engine, consul):
    name = unique("boxed")
    agent = agent_on(engine, {name: boxed_web()}, consul=consul.http).start()
    agent.wait_ready(name)
    Catalog(consul).wait_passing(name, agent.entry_id(name))
    entry = Catalog(consul).entries(name)[agent.entry_id(name)]
    assert entry["Service"]["Meta"]["lictor-driver"] == "docker"
    row = agent.row(name)
    assert engine.inspect(row["container_id"])["State"]["Running"]
    wait_until(lambda: (agent.row(name)["memory_mb"] or 0) > 0, what="it is measured")
    assert row["container_id"][:12] in agent.cli("status", name).out
    with urllib.request.urlopen(f"http://127.0.0.1:{row['port']}/", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    wait_until(lambda: "response:200" in agent.cli("logs", name).out)
    assert "container" in agent.cli("explain", name).out

    assert agent.cli("stop", name, "--wait").code == 0
    assert agent.row(name)["phase"] == "stopped"
    assert engine.api.containers(all=True, filters={"label": f"lictor.owner={agent.id}"}) == []
    Catalog(consul).wait_gone(name, agent.entry_id(name))


def test_an_agent_that_was_killed_finds_its_container_and_its_output_again(agent_on, engine):
    script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"
    agent = agent_on(engine, {"boxed": boxed("sh", "-c", script)}).start()
    agent.wait_ready("boxed")
    before = agent.row("boxed")
    for _ in range(3):
        time.sleep(0.4)
        agent.kill9()
        time.sleep(0.4)
        agent.start()
        agent.wait_ready("boxed")
    after = agent.row("boxed")
    assert after["container_id"] == before["container_id"]
    assert (after["restarts"], after["phase"]) == (before["restarts"], "ready")
    assert after["uptime_s"] > before["uptime_s"]
    path = agent.data_dir / "logs" / "boxed.log"
    wait_until(lambda: len(path.read_text().splitlines()) > 100)
    said = path.read_text().splitlines()[:-1]
    assert said == [f"line {number}" for number in range(1, len(said) + 1)]


def test_down_with_keep_leaves_it_and_down_ends_it(agent_on, engine):
    agent = agent_on(engine, {"boxed": boxed()}).start()
    agent.wait_ready("boxed")
    container = container_of(agent, "boxed")
    assert agent.down("--keep").code == 0
    assert engine.inspect(container)["State"]["Running"]
    agent.start()
    agent.wait_ready("boxed")
    assert container_of(agent, "boxed") == container
    assert agent.down().code == 0
    assert engine.api.containers(all=True, filters={"label": f"lictor.owner={agent.id}"}) == []


def test_a_crash_is_a_crash_and_a_lack_of_memory_is_named(agent_on, engine):
    hungry = boxed("tail", "/dev/zero", limits={"memory": "16MiB"}, restart={"policy": "never"})
    agent = agent_on(engine, {"hungry": hungry, "boxed": boxed()}).start()
    row = agent.wait_phase("hungry", "failed", within=60)
    assert row["reason"] in {"exit.oom", "start.exit_oom"}
    agent.wait_ready("boxed")
    container = container_of(agent, "boxed")
    engine.api.kill(container, "KILL")
    wait_until(lambda: agent.row("boxed")["restarts"] == 1)
    agent.wait_ready("boxed")
    assert container_of(agent, "boxed") != container
    assert "signal KILL" in agent.row("boxed")["sentence"]


def test_a_container_of_somebody_else_with_our_name_is_left_alone_and_named(agent_on, engine):
    name = unique("ai-secretary")
    theirs = engine.run(name)
    agent = agent_on(engine, {"boxed": boxed(docker={"name": name})}).start()
    row = agent.wait_phase("boxed", "backoff")
    assert row["reason"] == "docker.name_taken"
    assert name in row["sentence"]
    assert engine.inspect(theirs)["State"]["Running"]
    engine.api.remove_container(theirs, force=True)
    agent.wait_ready("boxed")


def test_a_frozen_engine_makes_its_services_unknown_and_nothing_else_slower(
    agent_on, own_engine, consul
):
    name = unique("boxed")
    services = {name: boxed_web(), "plain": plain()}
    agent = agent_on(own_engine, services, consul=consul.http).start()
    agent.wait_ready(name, "plain")
    Catalog(consul).wait_passing(name, agent.entry_id(name))
    before = agent.row(name)
    own_engine.freeze()
    try:
        row = agent.wait_phase(name, "unknown", within=60)
        assert row["reason"] == "docker.unreachable"
        assert row["container_id"] == before["container_id"]
        assert row["memory_mb"] > 0  # the process table needs no engine
        assert row["uptime_s"] > before["uptime_s"]
        # A process is started again as quickly as ever, and the agent answers.
        os.kill(agent.service_pid("plain"), signal.SIGKILL)
        wait_until(lambda: agent.row("plain")["restarts"] == 1, within=10)
        agent.wait_ready("plain")
        entry = wait_until(
            lambda: (
                (checks := Catalog(consul).checks(name, agent.entry_id(name)))["lictor"][0]
                == "warning"
                and checks
            ),
            what="a warning in the catalog",
        )
        assert entry["http"][0] == "passing"
    finally:
        own_engine.thaw()
    agent.wait_ready(name, within=60)
    after = agent.row(name)
    assert (after["container_id"], after["restarts"]) == (before["container_id"], 0)
    Catalog(consul).wait_passing(name, agent.entry_id(name))


def test_an_agent_that_begins_without_its_engine_finds_everything_when_it_comes(
    agent_on, own_engine
):
    agent = agent_on(own_engine, {"boxed": boxed(), "plain": plain()}).start()
    agent.wait_ready("boxed", "plain")
    container = container_of(agent, "boxed")
    agent.kill9()
    own_engine.freeze()
    try:
        agent.start()
        agent.wait_ready("plain")
        agent.wait_phase("boxed", "unknown", within=60)
        assert "does not answer" in agent.row("boxed")["sentence"]
    finally:
        own_engine.thaw()
    agent.wait_ready("boxed", within=60)
    assert container_of(agent, "boxed") == container


def test_a_down_does_not_wait_for_a_frozen_engine(agent_on, own_engine):
    agent = agent_on(own_engine, {"boxed": boxed()}).start()
    agent.wait_ready("boxed")
    own_engine.freeze()
    try:
        agent.wait_phase("boxed", "unknown", within=60)
        agent.cli("down", timeout=60)
        assert agent.wait_exit() == 0
    finally:
        own_engine.thaw()
    assert len(own_engine.api.containers(filters={"label": f"lictor.owner={agent.id}"})) == 1


def test_no_engine_at_all_is_said_with_the_next_step(agent_on, engine, tmp_path):
    env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    agent = agent_on(engine, {"boxed": boxed(), "plain": plain()}, env=env).start()
    agent.wait_ready("plain")
    row = agent.wait_phase("boxed", "unknown")
    assert row["reason"] == "docker.absent"
    assert row["memory_mb"] is None
    assert "DOCKER_HOST" in row["sentence"]


def test_secrets_of_an_env_file_reach_the_container_and_no_log_of_ours(agent_on, engine):
    secret = "s3cr3t-in-env"
    service = boxed("sh", "-c", "echo got $${#TOKEN}; " + LOOP, env_file="secrets.env")
    agent = agent_on(engine, {"boxed": service})
    (agent.dir / "secrets.env").write_text(f"TOKEN={secret}\n")
    agent.start()
    agent.wait_ready("boxed")
    wait_until(lambda: f"got {len(secret)}" in agent.cli("logs", "boxed").out)
    seen = [agent.log(), str(agent.status()), agent.cli("status", "boxed", "-v", "-o", "json").out]
    seen.append(agent.cli("events", "-n", "100", "-o", "json").out)
    assert not any(secret in text for text in seen)


def test_jobs_run_before_it_in_containers_of_the_same_image(agent_on, engine):
    good = boxed("sh", "-c", f"echo service; {LOOP}", before=[["sh", "-c", "echo job one"]])
    bad = boxed(before=[["sh", "-c", "echo no topic; exit 4"]], restart={"policy": "never"})
    agent = agent_on(engine, {"good": good, "bad": bad}).start()
    agent.wait_ready("good")
    path = agent.data_dir / "logs" / "good.log"
    wait_until(lambda: path.read_text().splitlines() == ["job one", "service"])
    row = agent.wait_phase("bad", "failed")
    assert row["reason"] == "start.before_failed"
    assert row["last_error"] == "no topic"


def test_a_new_definition_makes_a_new_container_and_one_that_left_the_config_ends(agent_on, engine):
    agent = agent_on(engine, {"boxed": boxed(), "other": boxed()}).start()
    agent.wait_ready("boxed", "other")
    first, other = container_of(agent, "boxed"), container_of(agent, "other")
    agent.configure({"boxed": boxed("sleep", "900")})
    agent.kill9()
    agent.start()
    wait_until(
        lambda: agent.row("boxed")["phase"] == "ready" and container_of(agent, "boxed") != first
    )
    wait_until(lambda: other not in {one["Id"] for one in engine.containers()})


def test_a_process_that_becomes_a_container_leaves_no_process(agent_on, engine):
    agent = agent_on(engine, {"both": plain()}).start()
    agent.wait_ready("both")
    agent.kill9()
    agent.configure({"both": boxed()})
    agent.start()
    wait_until(lambda: agent.row("both")["container_id"])
    agent.wait_ready("both")
    wait_until(lambda: agent.processes() == [])
    agent.kill9()
    agent.configure({"both": plain()})
    agent.start()
    wait_until(lambda: agent.row("both")["pid"] and not agent.row("both")["container_id"])
    agent.wait_ready("both")
    assert engine.api.containers(all=True, filters={"label": f"lictor.owner={agent.id}"}) == []


def test_an_engine_that_restarts_with_its_containers_has_them_started_again(agent_on, own_engine):
    # (without --live-restore a stop of the engine ends them)
    agent = agent_on(own_engine, {"boxed": boxed()}).start()
    agent.wait_ready("boxed")
    first = container_of(agent, "boxed")
    own_engine.stop()
    agent.wait_phase("boxed", "unknown")
    own_engine.start()
    wait_until(lambda: agent.row("boxed")["restarts"] == 1)
    agent.wait_ready("boxed")
    assert container_of(agent, "boxed") != first
    assert len(own_engine.containers()) == 1


def test_the_first_container_may_come_with_a_reload(agent_on, engine):
    agent = agent_on(engine, {"plain": plain()}).start()
    agent.wait_ready("plain")
    maps = Path(f"/proc/{agent.pid}/task")
    assert not any("docker" in (one / "comm").read_text() for one in maps.iterdir())
    assert agent.ask("monitor")["docker"] is None
    agent.configure({"plain": plain(), "boxed": boxed()})
    assert agent.cli("reload").code == 0
    agent.wait_ready("boxed")
    shown = agent.ask("monitor")["docker"]
    (mine,) = [one for one in shown if one["service"] == "boxed"]
    assert mine["id"] == container_of(agent, "boxed")[:12]
    assert mine["image"] == IMAGE


def test_the_doctor_looks_at_the_engine_and_at_the_images(agent_on, engine):
    services = {"boxed": boxed(), "lost": boxed(docker={"image": "nobody/nothing:1"})}
    agent = agent_on(engine, services).start()
    rows = agent.cli("doctor", "-c", str(agent.config), "-o", "json").json
    found = {
        (row["subject"], row["level"], row["reason"]) for row in rows if row["check"] == "docker"
    }
    assert found == {
        (None, "ok", "doctor.docker_ok"),
        ("lost", "warn", "docker.image_missing"),
    }
    env = {"DOCKER_HOST": f"unix://{agent.dir}/none.sock"}
    rows = agent.cli("doctor", "-c", str(agent.config), "-o", "json", env=env).json
    (one,) = [row for row in rows if row["check"] == "docker"]
    assert (one["level"], one["reason"]) == ("fail", "docker.absent")


@pytest.mark.parametrize(
    ("own_engine", "driver", "said"),
    [
        ((), "process", "driver.auto_no_gpus"),
        (("--add-runtime", "nvidia=/usr/sbin/runc"), "docker", "driver.auto_docker"),
    ],
    indirect=["own_engine"],
)
def test_auto_is_a_container_where_the_engine_gives_out_gpus_and_a_process_elsewhere(
    agent_on, own_engine, driver, said
):
    service = {**plain(), "driver": "auto"}
    service["docker"] = {"image": IMAGE, "network": "none", "command": ["sh", "-c", LOOP]}
    agent = agent_on(own_engine, {"either": service}).start()
    agent.wait_ready("either")
    row = agent.row("either")
    assert row["driver"] == driver
    assert bool(row["container_id"]) is (driver == "docker")
    assert said in agent.cli("events", "-n", "100", "-o", "json").out
    agent.kill9()
    agent.start()
    agent.wait_ready("either")
    assert (agent.row("either")["pid"], agent.row("either")["container_id"]) == (
        row["pid"],
        row["container_id"],
    )
    assert "either" in agent.cli("status", "either", "--verbose").out


@pytest.mark.timeout(240)
def test_a_real_voice_server_runs_in_a_container_and_speaks(agent_on, engine, consul):
    folder, port, name = piper_folder(), free_port(), unique("piper")
    python = folder / "venvs" / "piper" / "bin" / "python"
    voices = folder / "voices"
    (voice,) = sorted(voices.rglob("*.onnx"))[:1]
    prefix = str(Path(sys.base_prefix).resolve())
    binds = {
        "/usr",
        "/lib",
        "/lib64",
        str(folder.resolve()),
        prefix,
        str(python.resolve().parents[1]),
    }
    binds = {path for path in binds if Path(path).exists()}
    service = boxed(
        *("-m", "piper.http_server", "-m", str(voice), "--host", "127.0.0.1", "--port", str(port)),
        docker={
            "network": "host",
            "volumes": [f"{path}:{path}:ro" for path in sorted(binds)],
        },
    )
    service["command"].insert(0, str(folder.resolve() / "venvs" / "piper" / "bin" / "python"))
    service |= {"port": port, "health": {"http": "/info", "interval": "2s", "startup": "90s"}}
    agent = agent_on(engine, {name: service}, consul=consul.http).start()
    agent.wait_ready(name, within=120)
    Catalog(consul).wait_passing(name, agent.entry_id(name))
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/synthesize",
        data=b'{"text": "Hello."}',
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read()[:4] == b"RIFF"
    assert agent.row(name)["memory_mb"] > 50
    assert agent.cli("stop", name, "--wait").code == 0
