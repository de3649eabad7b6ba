"""Which Consul is used: a named one, the one that worked before, one nearby, or our own."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lictor.consul_integration import embedded_acl
from lictor.consul_integration.embedded import Choice, choose, find_binary, remember
from lictor.core.model.reason import because

HERE = "http://127.0.0.1:1"  # nobody listens there


def program(path: Path, script: str = "echo Consul v1.8.7") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# --- find_binary -------------------------------------------------------------------------------


def test_the_binary_that_was_named_wins_over_all_others(tmp_path, monkeypatch):
    named = program(tmp_path / "named" / "my-consul")
    on_path = program(tmp_path / "path" / "consul")
    in_data = program(tmp_path / "data" / "bin" / "consul")
    cached = program(tmp_path / "repo" / ".cache" / "bin" / "consul")
    monkeypatch.chdir(tmp_path / "repo")
    env = {"CONSUL_BIN": str(named), "PATH": str(on_path.parent)}
    data = tmp_path / "data"
    assert find_binary(env, data) == named
    assert find_binary({"PATH": env["PATH"]}, data) == on_path
    assert find_binary({"PATH": "/nonexistent"}, data) == in_data
    assert find_binary({"PATH": "/nonexistent"}, tmp_path) == cached
    monkeypatch.chdir(tmp_path)
    assert find_binary({"PATH": "/nonexistent"}, tmp_path) is None


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
def test_a_named_binary_that_cannot_run_is_never_replaced_by_another(tmp_path, kind):
    named = tmp_path / "consul"
    if kind == "folder":
        named.mkdir()
    elif kind == "not executable":
        named.write_text("")
    other = program(tmp_path / "bin" / "consul")
    env = {"CONSUL_BIN": str(named), "PATH": str(other.parent)}
    assert find_binary(env, tmp_path) is None
    found = choose(data_dir=tmp_path, env=env, mode="always")
    assert (found.kind, found.reason.code) == ("none", "consul.bad_binary")
    assert found.reason.params["path"] == str(named)


# --- choose ------------------------------------------------------------------------------------


@contextlib.contextmanager
def somebody(answers: dict[str, tuple[int, object]], delay: float = 0.0) -> Iterator[str]:
    """A server that gives these answers by path; `delay` seconds late about the token."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("token/self"):
                stopped.wait(delay)
            status, body = answers.get(self.path, (404, "no"))
            payload = json.dumps(body).encode()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        def log_message(self, *args: object) -> None:
            pass

    stopped = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def consul_says(status: int, body: object = "x", leader: str = "127.0.0.1:8300"):
    return {"/v1/acl/token/self": (status, body), "/v1/status/leader": (200, leader)}


@pytest.fixture
def env(tmp_path) -> dict[str, str]:
    return {"CONSUL_BIN": str(program(tmp_path / "a-consul")), "PATH": "/nonexistent"}


def test_a_named_consul_is_used_whatever_else_is_there(tmp_path, env):
    named = choose(data_dir=tmp_path, env=env, address="https://consul.lan:8501")
    assert (named.kind, named.address) == ("external", "https://consul.lan:8501")
    by_env = choose(data_dir=tmp_path, env={**env, "CONSUL_HTTP_ADDR": "10.0.0.1:8500"}, local=HERE)
    assert (by_env.kind, by_env.address) == ("external", "10.0.0.1:8500")
    both = choose(data_dir=tmp_path, env={"CONSUL_HTTP_ADDR": "10.0.0.1:8500"}, address="config:1")
    assert both.address == "config:1"


def test_never_means_the_usual_address_even_if_nobody_is_there(tmp_path, env):
    found = choose(data_dir=tmp_path, env=env, mode="never", local=HERE)
    assert (found.kind, found.address) == ("external", HERE)


def test_always_means_our_own_even_if_the_environment_names_another(tmp_path, env):
    found = choose(data_dir=tmp_path, env={**env, "CONSUL_HTTP_ADDR": "10.0.0.1"}, mode="always")
    assert (found.kind, str(found.binary)) == ("embedded", env["CONSUL_BIN"])


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, "ACL support disabled", "external", "consul.chosen_local"),
        (200, {"AccessorID": "0b7f"}, "external", "consul.chosen_local"),
        (200, {"AccessorID": embedded_acl.ANONYMOUS}, "embedded", "consul.local_forbidden"),
        (403, "ACL not found", "embedded", "consul.local_forbidden"),
        (500, "No cluster leader", "external", "consul.local_waiting"),
    ],
)
def test_a_local_consul_is_used_if_it_would_let_us_write(tmp_path, env, status, body, kind, code):
    with somebody(consul_says(status, body)) as local:
        found = choose(data_dir=tmp_path, env=env, local=local)
    assert (found.kind, found.reason.code) == (kind, code)
    assert found.address == (local if kind == "external" else None)


def test_a_local_consul_that_waits_for_its_leader_is_not_replaced(tmp_path, env):
    with somebody(consul_says(200, {"AccessorID": "0b7f"}, leader=""), delay=5.0) as local:
        found = choose(data_dir=tmp_path, env=env, local=local)
    assert (found.kind, found.reason.code) == ("external", "consul.local_waiting")


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
def test_something_else_on_consuls_port_is_no_consul(tmp_path, env, status):
    with somebody({"/v1/acl/token/self": (status, {"hello": "world"})}) as local:
        found = choose(data_dir=tmp_path, env=env, local=local)
    assert (found.kind, found.reason.code) == ("embedded", "consul.chosen_first")


def test_what_takes_the_connection_and_stays_silent_delays_the_start_only_a_moment(tmp_path, env):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        found = choose(
            data_dir=tmp_path, env=env, local=f"http://127.0.0.1:{mute.getsockname()[1]}"
        )
    assert found.kind == "embedded"
    assert time.monotonic() - began < 4


def test_a_first_start_without_any_consul_runs_our_own(tmp_path, env):
    found = choose(data_dir=tmp_path, env=env, local=HERE)
    assert found == Choice(
        "embedded",
        because("consul.chosen_first", address=HERE),
        binary=Path(env["CONSUL_BIN"]),
    )


def test_without_a_binary_there_is_no_consul_and_the_hint_says_how_to_get_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = choose(data_dir=tmp_path, env={"PATH": "/nonexistent"}, local=HERE)
    assert (found.kind, found.reason.code) == ("none", "consul.no_binary")
    assert found.reason.params == {"hint": "scripts/get-consul"}
    remember(tmp_path, found)
    assert not (tmp_path / "consul" / "choice.json").exists()


def test_a_data_dir_that_worked_with_a_real_consul_never_gets_another(tmp_path, env):
    with somebody(consul_says(401)) as local:
        remember(tmp_path, choose(data_dir=tmp_path, env=env, local=local))
    again = choose(data_dir=tmp_path, env=env, local=local)  # it is down now
    assert (again.kind, again.address) == ("external", local)
    assert again.reason == because("consul.worked_before", address=local)


def test_an_embedded_consul_stays_although_another_appears(tmp_path, env):
    remember(tmp_path, choose(data_dir=tmp_path, env=env, local=HERE), "http://127.0.0.1:18500")
    with somebody(consul_says(401)) as local:
        again = choose(data_dir=tmp_path, env=env, local=local)
    assert (again.kind, again.reason.code) == ("embedded", "consul.chosen_before")


@pytest.mark.parametrize(
    "named", ["http://127.0.0.1:18500", "127.0.0.1:18500", "http://localhost:18500/"]
)
def test_the_address_that_lictor_env_exported_means_our_own_consul(tmp_path, env, named):
    """Else an agent started from such a shell would wait for a Consul that nobody runs."""
    own = choose(data_dir=tmp_path, env=env, local=HERE)
    remember(tmp_path, own, "http://127.0.0.1:18500")
    again = choose(data_dir=tmp_path, env={**env, "CONSUL_HTTP_ADDR": named}, local=HERE)
    assert again.kind == "embedded"
    other = choose(data_dir=tmp_path, env={**env, "CONSUL_HTTP_ADDR": "127.0.0.1:9"}, local=HERE)
    assert (other.kind, other.address) == ("external", "127.0.0.1:9")


def test_a_spoiled_memory_is_as_good_as_none(tmp_path, env):
    (tmp_path / "consul").mkdir()
    for spoiled in ("", "{", "[]", '{"kind": "else"}', "\ufffd"):
        (tmp_path / "consul" / "choice.json").write_text(spoiled)
        assert choose(data_dir=tmp_path, env=env, local=HERE).reason.code == "consul.chosen_first"


def test_the_token_is_sent_to_the_local_consul_when_there_is_one(tmp_path, env):
    with socket.create_server(("127.0.0.1", 0)) as server:
        requests: list[bytes] = []

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    requests.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nno")

        thread = threading.Thread(target=serve)
        thread.start()
        local = f"http://127.0.0.1:{server.getsockname()[1]}"
        choose(data_dir=tmp_path, env=env, local=local, token="s3cret")
        thread.join(10)
    assert b"X-Consul-Token: s3cret" in requests[0]
    assert b"X-Consul-Token" not in requests[1]  # status/leader is open: no need to show it


@pytest.mark.consul
def test_a_real_consul_is_judged_by_whether_it_lets_us_write(consul, acl_consul, tmp_path, env):
    open_one = choose(data_dir=tmp_path, env=env, local=consul.http)
    assert (open_one.kind, open_one.address) == ("external", consul.http)
    closed = choose(data_dir=tmp_path, env=env, local=acl_consul.http)
    assert (closed.kind, closed.reason.code) == ("embedded", "consul.local_forbidden")
    known = choose(data_dir=tmp_path, env=env, local=acl_consul.http, token=acl_consul.master)
    assert known.kind == "external"
