"""What a person types, and what comes back: effects, words and exit codes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, diarist, plain, service, web
from tests.support.agent import RunningAgent, argv_of, unique, wait_until
from tests.support.children import alive, child, free_port
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul

DOOMED = {"backoff": "60s"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verbs")


@pytest.fixture(scope="module")
def agent(consul: ConsulServer, folder: Path) -> Iterator[RunningAgent]:
    model = diarist("model", folder / "model")
    model["command"] += ["--size", "{param.size}"]
    services: dict[str, Any] = {
        "one": web(),
        "ollama_server": web(),
        "talks": service(child("bad-bytes"), None),
        "db": web(),
        "app": web(depends_on=["db"]),
        "relapse": diarist("relapse", folder / "r", f"unless={folder / 'gone'}", restart=DOOMED),
        # Asked for its health: without, it counts as ready if its end is seen half a second late.
        "doomed": service(
            child("exit-now", count=7), free_port(), activation="manual", restart=DOOMED
        ),
        "slow": diarist("slow", folder / "s", "delay=120", activation="manual"),
        "ill": service(
            child("health-500", port=(port := free_port())),
            port,
            activation="manual",
            health={"http": "/", "interval": "1s", "startup": "60s"},
        ),
        "off": plain(activation="manual"),
        "model": {
            **model,
            "params": {"size": {"default": 5}, "speed": {"default": 1.0}, "note": {"default": "x"}},
        },
    }
    with RunningAgent(services, consul=consul.http) as made:
        made.wait_ready("one", "ollama-server", "talks", "db", "app", "relapse", "model")
        wait_until(lambda: made.consul_state() == "ok")
        wait_until(lambda: consul.get_kv(f"lictor/desired/{made.node}/_lictor"))
        yield made


def test_start_stop_and_restart_do_what_they_say_and_say_when_it_is_so_already(
    agent: RunningAgent, consul: ConsulServer
):
    pid = agent.service_pid("one")
    stopped = agent.cli("stop", "one", "--wait", "-o", "json")
    assert (stopped.code, stopped.json[0]["result"]) == (0, "done")
    assert not alive(pid)
    assert agent.cli("status", "one").code == 3
    again = agent.cli("stop", "one", "--wait", "-o", "json")
    assert (again.code, again.json[0]["result"]) == (0, "already")
    assert json.loads(consul.get_kv(f"lictor/desired/{agent.node}/one") or "{}")["state"] == (
        "stopped"
    )
    started = agent.cli("start", "one", "--wait", "-o", "json")
    assert (started.code, started.json[0]["result"]) == (0, "done")
    first = agent.service_pid("one")
    already = agent.cli("start", "one", "-o", "json")
    assert (already.code, already.json[0]["result"]) == (0, "already")
    restarted = agent.cli("restart", "one", "--wait")
    assert restarted.code == 0
    row = agent.row("one")
    assert row["phase"] == "ready"
    assert row["pid"] != first
    assert not alive(first)


def test_names_may_be_typed_as_people_wrote_them_before(agent: RunningAgent):
    found = agent.cli("status", "ollama_server", "-o", "json")
    assert (found.code, found.json[0]["name"]) == (0, "ollama-server")
    pid = agent.service_pid("ollama-server")
    assert agent.cli("restart", "Ollama_Server", "--wait").code == 0
    assert agent.service_pid("ollama-server") != pid


def test_stopping_what_others_need_is_refused_until_it_is_said_twice(agent: RunningAgent):
    pid = agent.service_pid("db")
    for verb in ("stop", "restart"):
        refused = agent.cli(verb, "db")
        assert refused.code == 8
        assert "app" in refused.err
    assert agent.service_pid("db") == pid
    assert agent.cli("stop", "db", "-y", "--wait").code == 0
    assert agent.row("db")["phase"] == "stopped"
    assert agent.cli("start", "db", "--wait").code == 0
    agent.wait_ready("app")


def test_restart_wait_of_a_service_that_dies_while_loading_fails_at_once_with_its_last_words(
    agent: RunningAgent, folder: Path
):
    (folder / "gone").touch()
    begun = time.monotonic()
    failed = agent.cli("restart", "relapse", "--wait")
    assert failed.code == 1
    assert "cannot load: the weights are gone" in failed.out + failed.err
    assert time.monotonic() - begun < 30  # its next try is a minute away
    (folder / "gone").unlink()
    assert agent.cli("start", "relapse", "--wait").code == 0


def test_start_wait_of_a_service_that_never_comes_up_fails_at_once(agent: RunningAgent):
    begun = time.monotonic()
    failed = agent.cli("start", "doomed", "--wait", "-o", "json")
    assert failed.code == 1
    assert failed.json[0]["result"] == "failed"
    assert "giving up: no model at /models" in failed.json[0]["sentence"]
    assert "7" in failed.json[0]["sentence"]
    assert time.monotonic() - begun < 30
    row = agent.row("doomed")
    assert row["phase"] == "backoff"
    assert "giving up" in row["last_error"]
    assert agent.cli("stop", "doomed", "--wait").code == 0
    assert agent.row("doomed")["phase"] == "stopped"


def test_waiting_ends_with_ready_too_late_or_hopeless(agent: RunningAgent):
    assert agent.cli("wait", "one", "--for", "ready", "--timeout", "20s").code == 0
    assert agent.cli("start", "slow").code == 0
    late = agent.cli("wait", "slow", "--for", "ready", "--timeout", "1s")
    assert late.code == 124
    assert "slow" in late.err
    assert agent.cli("stop", "slow", "--wait").code == 0
    assert agent.cli("wait", "slow", "--for", "stopped", "--timeout", "20s").code == 0
    begun = time.monotonic()
    assert agent.cli("wait", "off", "--for", "ready", "--timeout", "50s").code == 1
    assert agent.cli("wait", "one", "--for", "stopped", "--timeout", "50s").code == 1
    assert time.monotonic() - begun < 40


def test_each_kind_of_no_has_its_exit_code(agent: RunningAgent, make_agent: MakeAgent):
    unknown = agent.cli("status", "nosuch")
    assert unknown.code == 4
    assert "nosuch" in unknown.err
    for verb in ("start", "stop", "restart", "logs", "health"):
        assert agent.cli(verb, "nosuch").code == 4, verb
    assert agent.cli("status", "off").code == 3
    assert agent.cli("frobnicate").code == 2
    assert agent.cli("set", "model", "size").code == 2
    nobody = make_agent({"web": web()}, consul=f"http://127.0.0.1:{free_port()}")
    for command in (("status",), ("start", "web"), ("health",), ("logs", "web"), ("plan",)):
        assert nobody.cli(*command).code == 5, command
    lost = nobody.cli("discover", "web")  # needs no agent, but a Consul
    assert lost.code == 6
    assert "Traceback" not in lost.err
    nobody.start()
    assert nobody.cli("discover", "web").code == 6


def test_health_asks_now_and_says_3_when_something_does_not_pass(agent: RunningAgent):
    good = agent.cli("health", "one", "-o", "json")
    assert (good.code, [row["status"] for row in good.json]) == (0, ["passing"])
    assert agent.cli("start", "ill").code == 0
    agent.wait_phase("ill", "starting")
    wait_until(lambda: agent.row("ill")["pid"])
    bad = agent.cli("health", "ill", "-o", "json")
    assert bad.code == 3
    assert [row["status"] for row in bad.json] == ["critical"]
    wait_until(lambda: "500" in agent.cli("health", "ill").out, what="its answer is shown")
    assert "\x1b" not in agent.cli("health", "ill", "-o", "table").out
    assert agent.cli("stop", "ill", "--wait").code == 0


def test_logs_shows_the_last_lines_finds_text_and_follows(agent: RunningAgent, folder: Path):
    wait_until(lambda: "event: forged" in agent.cli("logs", "talks").out, what="all was printed")
    last = agent.cli("logs", "talks", "-n", "1")
    assert last.code == 0
    assert last.out.rstrip("\n") == "event: forged"
    found = agent.cli("logs", "talks", "--grep", "script", "-o", "json")
    assert [row["line"] for row in found.json] == ["<script>alert(1)</script>"]
    assert {row["service"] for row in found.json} == {"talks"}
    with agent.command("logs", "relapse", "-f", "-n", "1") as following:
        try:
            assert following.stdout is not None
            # The last line of before: from here on it follows.
            assert following.stdout.readline() == "relapse begins\n"
            assert agent.cli("restart", "relapse", "--wait").code == 0
            assert following.stdout.readline() == "relapse begins\n"
            assert following.poll() is None
        finally:
            following.terminate()
            following.communicate(timeout=20)


def test_params_are_set_and_unset_by_their_type(agent: RunningAgent, consul: ConsulServer):
    def size() -> str:
        row = agent.wait_phase("model", "ready")
        return argv_of(row["pid"])[-1]

    assert size() == "5"
    done = agent.cli("set", "model", "size=12")
    assert done.code == 0
    wait_until(lambda: agent.row("model")["phase"] == "ready" and size() == "12")
    pid = agent.service_pid("model")
    document = consul.get_kv(f"lictor/desired/{agent.node}/model")
    no_lines = ("note=a\nb", "note=\x07", f"note={'x' * 1001}", "note=\udcff")
    for wrong in ("size=many", "size=-1", "colour=red", "speed=nan", "speed=1e999", *no_lines):
        refused = agent.cli("set", "model", wrong)
        assert refused.code == 2, wrong
        assert wrong.partition("=")[0] in refused.err
    time.sleep(0.5)
    assert (agent.service_pid("model"), size()) == (pid, "12")
    assert consul.get_kv(f"lictor/desired/{agent.node}/model") == document
    assert agent.cli("stop", "model", "--wait").code == 0
    assert agent.cli("unset", "model").code == 0
    time.sleep(0.5)
    assert agent.row("model")["phase"] == "stopped"  # parameters, not the state
    assert agent.cli("start", "model", "--wait").code == 0
    assert size() == "5"


def test_a_reason_of_two_lines_keeps_no_order_from_being_carried_out(
    agent: RunningAgent, consul: ConsulServer
):
    why = "no power\nuntil  noon \x07\udcff"
    stopped = agent.cli("stop", "one", "--reason", why, "--wait")
    assert stopped.code == 0, stopped
    document = json.loads(consul.get_kv(f"lictor/desired/{agent.node}/one") or "{}")
    assert document["reason"] == "no power until noon ??"
    assert agent.cli("start", "one", "--reason", "x" * 1001).code == 2
    assert agent.cli("start", "one", "--wait").code == 0


def test_unregister_takes_it_out_of_consul_and_leaves_it_running(
    agent: RunningAgent, consul: ConsulServer
):
    catalog, entry_id, pid = Catalog(consul), agent.entry_id("one"), agent.service_pid("one")
    catalog.wait_passing("one", entry_id)
    assert agent.cli("unregister", "one").code == 0
    catalog.wait_gone("one", entry_id)
    assert agent.service_pid("one") == pid
    agent.kill9()  # and the next agent remembers it
    agent.start()
    agent.wait_ready("one")
    wait_until(lambda: agent.consul_state() == "ok")
    catalog.wait_passing("db", agent.entry_id("db"))
    assert entry_id not in catalog.entries("one")
    assert agent.service_pid("one") == pid
    assert agent.cli("register", "one").code == 0
    catalog.wait_passing("one", entry_id)
    assert agent.service_pid("one") == pid


def test_a_bare_start_starts_all_and_a_bare_stop_stops_all(
    make_agent: MakeAgent, consul: ConsulServer
):
    names = [unique("all") for _ in range(3)]
    services = {name: web(activation="manual") for name in names}
    agent = make_agent(services, consul=consul.http).start()
    assert {row["phase"] for row in agent.status()} == {"stopped"}
    assert agent.cli("start", "--wait").code == 0
    assert {row["phase"] for row in agent.status()} == {"ready"}
    assert agent.cli("stop", "--wait").code == 0
    assert {row["phase"] for row in agent.status()} == {"stopped"}
    assert agent.processes() == []


def test_register_and_unregister_work_without_an_agent(make_agent: MakeAgent, consul: ConsulServer):
    name, port = unique("hand"), free_port()
    agent = make_agent({name: web(port=port)}, consul=consul.http).start()
    agent.wait_ready(name)
    catalog, entry_id = Catalog(consul), agent.entry_id(name)
    catalog.wait_passing(name, entry_id)
    env = {"LICTOR_CONFIG": str(agent.config)}
    assert agent.down("--keep").code == 0
    forged = {"lictor-owner": agent.id, "lictor-member": "no name"}
    entry = {"ID": unique("forged"), "Name": unique("forged"), "Meta": forged}
    assert consul.raw("PUT", "/v1/agent/service/register", entry).status == 200
    unregistered = agent.cli("unregister", name, env=env)
    assert unregistered.code == 0, unregistered.err
    catalog.wait_gone(name, entry_id)
    assert agent.cli("register", name, env=env).code == 0
    catalog.wait_passing(name, entry_id)  # Consul asks the service, which was kept
    found = agent.cli("discover", name, "-o", "json", env=env)
    assert (found.code, found.json[0]["port"]) == (0, port)
    agent.start()
    agent.wait_ready(name)
    assert agent.down().code == 0
    assert catalog.owned_by(agent.id) == []


def test_a_host_on_which_no_agent_ever_ran_registers_and_its_agent_takes_it_over(
    make_agent: MakeAgent, consul: ConsulServer
):
    name = unique("alone")
    agent = make_agent({name: web()}, consul=consul.http)
    here = {"LICTOR_CONFIG": str(agent.config)}
    assert agent.cli("unregister", name, env=here).code == 4
    assert agent.cli("unregister", env=here).code == 0
    assert not agent.data_dir.exists()  # nothing was to be kept
    done = agent.cli("register", name, env=here)
    assert done.code == 0, done
    # Consul's own agent has it; the catalog hears of it from there.
    (entry,) = wait_until(lambda: Catalog(consul).entries(name), what="the catalog has it")
    assert entry == agent.entry_id(name)
    agent.start().wait_ready(name)
    Catalog(consul).wait_passing(name, agent.entry_id(name))
    assert agent.down().code == 0
    Catalog(consul).wait_gone(name, agent.entry_id(name))
