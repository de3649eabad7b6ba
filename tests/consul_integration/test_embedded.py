"""The files of the embedded Consul, and a real one from first start to restart."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lictor.consul_integration import embedded_acl
from lictor.consul_integration.dns import resolve
from lictor.consul_integration.embedded import (
    EmbeddedConsul,
    EmbeddedPlan,
    bootstrap_acl,
    choose,
    exports,
)
from lictor.consul_integration.embedded_config import (
    USUAL_PORTS,
    configuration,
    is_free,
    pick_ports,
    version_of,
)
from lictor.core.errors import ConsulError, ConsulUnreachable, Forbidden, StartFailed
from lictor.core.model.names import ServiceKey
from tests.support.consul import free_ports


def program(path: Path, script: str = "echo Consul v1.8.7") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# --- ports, token, configuration ---------------------------------------------------------------


def usual() -> dict[str, int]:
    return dict(zip(USUAL_PORTS, free_ports(len(USUAL_PORTS)), strict=True))


def test_the_usual_ports_are_taken_when_they_are_free():
    wanted = usual()
    assert pick_ports(wanted, {}) == wanted


def test_a_port_that_is_held_for_tcp_or_udp_is_replaced_by_a_free_one():
    wanted = usual()
    with (
        socket.create_server(("127.0.0.1", wanted["http"])),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", wanted["dns"]))
        picked = pick_ports(wanted, {})
        assert picked["http"] != wanted["http"]
        assert picked["dns"] != wanted["dns"]
        assert is_free(picked["http"])
        assert {**picked, "http": 0, "dns": 0} == {**wanted, "http": 0, "dns": 0}
    assert len(set(picked.values())) == len(picked)


def test_the_ports_of_last_time_are_preferred_and_nonsense_is_not():
    wanted, last = usual(), usual()
    assert pick_ports(wanted, last) == last
    assert pick_ports(wanted, {"http": "8500", "dns": -1, "server": 99999, "x": 1}) == wanted


def test_when_no_port_is_free_the_start_fails_with_a_reason(monkeypatch):
    monkeypatch.setattr("lictor.consul_integration.embedded_config.is_free", lambda port: False)
    with pytest.raises(StartFailed) as caught:
        pick_ports({"http": 20000}, {})
    assert (caught.value.reason_code, caught.value.params) == ("consul.no_port", {"name": "http"})


def test_the_folder_is_private_and_so_are_its_secrets(tmp_path):
    binary = program(tmp_path / "consul-1")
    plan = EmbeddedConsul(tmp_path / "data", "host1", binary, usual=usual()).prepare()
    assert plan.folder == tmp_path / "data" / "consul"
    assert stat.S_IMODE(plan.folder.stat().st_mode) == 0o700
    for name in ("token", "consul.json", "ports.json"):
        assert stat.S_IMODE((plan.folder / name).stat().st_mode) == 0o600, name
    assert plan.token not in repr(plan)
    assert (plan.folder / "token").read_text().strip() == plan.token


def test_preparing_again_changes_nothing_and_asks_for_the_version_only_once(tmp_path):
    count = tmp_path / "count"
    binary = program(tmp_path / "consul-1", f"echo x >> {count}; echo Consul v1.8.7")
    ours = usual()
    first = EmbeddedConsul(tmp_path, "host1", binary, usual=ours).prepare()
    written = (first.folder / "consul.json").stat().st_mtime_ns
    again = EmbeddedConsul(tmp_path, "host1", binary, usual=usual()).prepare()
    assert again == first
    assert (first.folder / "consul.json").stat().st_mtime_ns == written
    assert count.read_text() == "x\n"
    program(tmp_path / "consul-1", "echo Consul v1.20.2; echo more")
    newer = EmbeddedConsul(tmp_path, "host1", binary, usual=ours).prepare()
    assert newer.version == (1, 20, 2)


def test_a_token_that_others_could_read_is_closed_and_a_broken_one_replaced(tmp_path):
    binary = program(tmp_path / "consul-1")
    ours = usual()
    plan = EmbeddedConsul(tmp_path, "host1", binary, usual=ours).prepare()
    token = plan.folder / "token"
    token.chmod(0o644)
    assert EmbeddedConsul(tmp_path, "host1", binary, usual=ours).prepare().token == plan.token
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.write_text("half a tok")
    assert EmbeddedConsul(tmp_path, "host1", binary, usual=ours).prepare().token != plan.token


@pytest.mark.parametrize(
    "script", ["echo something else", "exit 3", "echo Consul v1", "echo Consul v1.8.7; exit 1"]
)
def test_a_program_that_is_no_consul_is_refused_with_a_reason(tmp_path, script):
    binary = program(tmp_path / "consul-1", script)
    with pytest.raises(StartFailed) as caught:
        version_of(binary, tmp_path)
    assert caught.value.reason_code == "consul.bad_binary"
    assert caught.value.params["path"] == str(binary)


def test_a_data_dir_that_cannot_hold_a_folder_is_a_reason(tmp_path):
    (tmp_path / "data").write_text("a file")
    binary = program(tmp_path / "consul-1")
    with pytest.raises(StartFailed) as caught:
        EmbeddedConsul(tmp_path / "data", "host1", binary).prepare()
    assert caught.value.reason_code == "consul.no_folder"


@pytest.mark.parametrize(
    ("version", "management", "ui", "grpc_tls"),
    [
        ((1, 8, 7), "master", "ui", False),
        ((1, 9, 0), "master", "ui_config", False),
        ((1, 11, 0), "initial_management", "ui_config", False),
        ((1, 20, 2), "initial_management", "ui_config", True),
    ],
)
def test_the_keys_of_the_configuration_follow_the_version(version, management, ui, grpc_tls):
    content = configuration(
        node="host1", data=Path("/data"), ports=USUAL_PORTS, token="t", version=version
    )
    assert content["acl"]["tokens"] == {management: "t", "agent": "t"}
    assert [name for name in content if name.startswith("ui")] == [ui]
    assert ("grpc_tls" in content["ports"]) is grpc_tls
    assert content["bind_addr"] == content["client_addr"] == "127.0.0.1"
    assert content["enable_script_checks"] is False


def test_the_service_carries_no_token_and_does_not_change_with_the_shell(tmp_path, monkeypatch):
    binary = program(tmp_path / "consul-1")
    ours = EmbeddedConsul(tmp_path, "host1", binary, usual=usual())
    plan = ours.prepare()
    spec = ours.spec(plan)
    assert spec.key == ServiceKey("consul")
    assert (spec.driver, spec.registered, spec.port) == ("process", False, plan.http_port)
    assert spec.argv() == plan.argv
    assert plan.token not in repr((spec.argv(), spec.environment(), spec.health))
    assert set(spec.environment()) == {"PATH", "HOME"}
    monkeypatch.setenv("PATH", "/elsewhere")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert ours.spec(ours.prepare()).fingerprint() == spec.fingerprint()


def test_the_exports_are_what_the_consul_program_reads():
    assert exports("http://127.0.0.1:8500", "t", 8600, "host1") == {
        "CONSUL_HTTP_ADDR": "http://127.0.0.1:8500",
        "CONSUL_HTTP_TOKEN": "t",
        "LICTOR_NODE": "host1",
        "LICTOR_DNS": "127.0.0.1:8600",
    }
    bare = exports("http://consul.lan:8500", None, None, "host1")
    assert bare == {"CONSUL_HTTP_ADDR": "http://consul.lan:8500", "LICTOR_NODE": "host1"}
    assert exports("a", None, 53, "n", dns_host="::1")["LICTOR_DNS"] == "[::1]:53"


def test_importing_the_module_stays_light():
    heavy = ("aiohttp", "consul", "asyncio", "http.client", "ssl", "dns")
    code = (
        "import sys, lictor.consul_integration.embedded;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert answer.stdout.strip() == b"[]"


def test_bootstrapping_where_nobody_listens_fails_within_its_deadline():
    [port] = free_ports(1)
    with pytest.raises(ConsulUnreachable, match=": Connection refused\\."):
        bootstrap_acl(f"http://127.0.0.1:{port}", "t", deadline=0.3)


# --- a real one --------------------------------------------------------------------------------


class Own:
    """An embedded Consul run as the supervisor would run it, by its plan and spec."""

    def __init__(self, data_dir: Path, binary: Path, ports: dict[str, int]) -> None:
        self.embedded = EmbeddedConsul(data_dir, "host1", binary, usual=ports)
        self.plan: EmbeddedPlan = self.embedded.prepare()
        self.spec = self.embedded.spec(self.plan)
        self._log = (data_dir / "log").open("ab")
        self.process = subprocess.Popen(
            self.spec.argv(),
            env=self.spec.environment(),
            cwd=self.spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def ask(self, method: str, path: str, body: object = None, token: str | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.plan.http_port, timeout=15)
        with contextlib.closing(connection):
            headers = {"X-Consul-Token": token} if token else {}
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def wait_ready(self) -> None:
        target = self.spec.health.probe.target.removeprefix(self.plan.address)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", target)[0] == 200:
                    return
            time.sleep(0.02)
        log = Path(self._log.name).read_text()
        raise AssertionError(f"not ready: {log[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> float:
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        return time.monotonic() - began


@pytest.fixture
def own(tmp_path, consul_bin) -> Iterator[Own]:
    server = Own(tmp_path, Path(consul_bin), usual())
    try:
        server.wait_ready()
        assert bootstrap_acl(server.plan.address, server.plan.token) is True
        yield server
    finally:
        server.stop()


@pytest.mark.consul
def test_readiness_means_a_leader_that_knows_our_token(tmp_path, consul_bin):
    server = Own(tmp_path, Path(consul_bin), usual())
    try:
        server.wait_ready()
        status, body = server.ask("GET", "/v1/acl/token/self", token=server.plan.token)
        assert status == 200, body
        status, body = server.ask("GET", "/v1/status/leader")
        assert json.loads(body)
    finally:
        server.stop()


@pytest.mark.consul
async def test_everybody_may_read_and_nobody_may_write_without_the_token(own):
    service = {"ID": "e1", "Name": "piper", "Address": "127.0.0.1", "Port": 5000}
    token = own.plan.token
    assert own.ask("PUT", "/v1/agent/service/register", service, token)[0] == 200
    assert own.ask("PUT", "/v1/kv/lictor/x", "y", token) == (200, b"true")

    assert own.ask("PUT", "/v1/kv/lictor/x", "z")[0] == 403
    assert own.ask("PUT", "/v1/agent/service/deregister/e1")[0] == 403
    assert own.ask("PUT", "/v1/agent/leave")[0] == 403
    assert own.ask("GET", "/v1/acl/tokens")[0] == 403

    assert b"piper" in own.ask("GET", "/v1/catalog/services")[1]
    assert own.ask("GET", "/v1/kv/lictor/x?raw") == (200, b'"y"')
    assert own.ask("GET", "/v1/health/service/piper?passing")[0] == 200
    assert own.ask("GET", "/ui/")[0] == 200
    status, about = own.ask("GET", "/v1/agent/self")
    assert status == 200
    assert token.encode() not in about

    deadline = time.monotonic() + 15
    records = ()
    while not records and time.monotonic() < deadline:
        answer = await resolve("piper", server="127.0.0.1", port=own.plan.dns_port)
        records = answer.records
    assert [(record.address, record.port) for record in records] == [("127.0.0.1", 5000)]


@pytest.mark.consul
def test_bootstrapping_twice_changes_nothing_and_keeps_what_an_operator_added(own):
    address, token = own.plan.address, own.plan.token
    assert bootstrap_acl(address, token) is False
    extra = {"Name": "mine", "Rules": 'key "open" { policy = "write" }'}
    status, body = own.ask("PUT", "/v1/acl/policy", extra, token)
    assert status == 200
    path = f"/v1/acl/token/{embedded_acl.ANONYMOUS}"
    only = {"AccessorID": embedded_acl.ANONYMOUS, "Policies": [{"ID": json.loads(body)["ID"]}]}
    assert own.ask("PUT", path, only, token)[0] == 200
    assert own.ask("GET", "/v1/kv/x")[0] == 403
    assert bootstrap_acl(address, token) is True
    assert own.ask("GET", "/v1/kv/x")[0] == 404
    assert own.ask("PUT", "/v1/kv/open", "y") == (200, b"true")


@pytest.mark.consul
def test_rules_that_somebody_changed_are_put_right(own):
    token = own.plan.token
    policies = json.loads(own.ask("GET", "/v1/acl/policies", token=token)[1])
    [ours] = [policy for policy in policies if policy["Name"] == embedded_acl.POLICY]
    body = {"ID": ours["ID"], "Name": ours["Name"], "Rules": 'key_prefix "" { policy = "write" }'}
    assert own.ask("PUT", f"/v1/acl/policy/{ours['ID']}", body, token)[0] == 200
    assert bootstrap_acl(own.plan.address, token) is True
    assert own.ask("PUT", "/v1/kv/lictor/x", "z")[0] == 403


@pytest.mark.consul
def test_another_token_than_its_own_is_forbidden(own):
    with pytest.raises(Forbidden) as caught:
        bootstrap_acl(own.plan.address, "11111111-2222-4333-8444-555555555555", deadline=0.1)
    assert caught.value.unknown_token
    assert "11111111" not in str(caught.value)


@pytest.mark.consul
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_ports_token_data_and_services(own, tmp_path, consul_bin, how):
    token = own.plan.token
    service = {"ID": "e1", "Name": "piper", "Address": "127.0.0.1", "Port": 5000}
    assert own.ask("PUT", "/v1/agent/service/register", service, token)[0] == 200
    assert own.ask("PUT", "/v1/kv/lictor/x", "y", token) == (200, b"true")
    assert own.stop(how) < own.spec.stop.timeout
    again = Own(tmp_path, Path(consul_bin), usual())  # other ports would be usual now
    try:
        assert again.plan == own.plan
        again.wait_ready()
        assert again.ask("GET", "/v1/kv/lictor/x?raw") == (200, b'"y"')
        assert b"piper" in again.ask("GET", "/v1/agent/services")[1]
        assert bootstrap_acl(again.plan.address, token) is False
    finally:
        again.stop()


@pytest.mark.consul
def test_an_agent_that_takes_over_the_running_consul_finds_the_same_plan(own, tmp_path, consul_bin):
    ours = EmbeddedConsul(tmp_path, "host1", Path(consul_bin), usual=usual())
    plan = ours.prepare()
    assert plan == own.plan
    assert ours.spec(plan).fingerprint() == own.spec.fingerprint()


@pytest.mark.consul
def test_ports_that_somebody_else_took_meanwhile_are_replaced(own, tmp_path, consul_bin):
    own.stop()
    with socket.create_server(("127.0.0.1", own.plan.http_port)):
        plan = EmbeddedConsul(tmp_path, "host1", Path(consul_bin), usual=usual()).prepare()
    assert plan.http_port != own.plan.http_port
    assert plan.dns_port == own.plan.dns_port


@pytest.mark.consul
def test_another_lictors_own_consul_is_not_taken_for_a_public_one(own, tmp_path):
    """Two agents of two data folders on one host: the second gets a Consul of its own."""
    env = {"CONSUL_BIN": own.plan.argv[0]}
    found = choose(data_dir=tmp_path / "other", env=env, local=own.plan.address)
    assert (found.kind, found.reason.code) == ("embedded", "consul.local_forbidden")


@pytest.mark.consul
def test_every_error_of_a_dead_consul_is_one_of_ours(own):
    own.stop()
    with pytest.raises(ConsulError):
        bootstrap_acl(own.plan.address, own.plan.token, deadline=0.1)
