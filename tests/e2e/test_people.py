"""People, roles and borders of a real agent: the command line, the network, and nothing in between."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lictor.web.auth.rights import OPEN, Role, Scope, granted, hidden
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import plain
from tests.support.agent import PATIENCE, RunningAgent, wait_until
from tests.support.web import Site
from tests.web.auth.routes import rights_of_routes

ALONE = {"consul": {"embedded": "never", "address": "http://127.0.0.1:1"}}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token_of(agent: RunningAgent, *words: str) -> str:
    made = agent.cli("token", "create", *words)
    assert made.code == 0, made.err
    return made.out.strip()


@pytest.fixture
def agent(make_agent: MakeAgent) -> RunningAgent:
    services = {"tool": plain(activation="manual", owner="anna"), "other": plain()}
    return make_agent(services, sections=ALONE).start()


@pytest.fixture
def site(agent: RunningAgent) -> Iterator[Site]:
    with Site(agent) as made:
        yield made


# --- the command line ------------------------------------------------------------------------


def test_users_are_made_changed_and_deleted_by_the_command_line(agent, site):
    made = agent.cli("users", "create", "Anna", "--role", "guest", "-o", "json")
    assert made.code == 0
    password = made.json["password"]
    with agent.command("users", "passwd", "anna") as running:
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "password" in err
    assert password not in out + err
    given = subprocess.run(
        [*argv(agent, "users", "passwd", "anna", "--password-stdin")],
        env=environment(agent),
        input="a password from a pipe\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "pipe" not in given.stdout + given.stderr
    anna = site.sign_in("anna", "a password from a pipe")
    assert anna.get("/admin/auth/me").json()["role"] == "guest"
    assert anna.post("/supervisor/start", json={"name": "tool"}).status_code == 403
    assert agent.cli("users", "set-role", "anna", "user").code == 0
    assert anna.get("/admin/auth/me").json()["role"] == "user"  # the same session
    rows = {row["name"]: row for row in agent.cli("users", "list", "-o", "json").json}
    assert set(rows) == {"admin", "anna"}
    assert "hash" not in rows["anna"]
    assert agent.cli("users", "disable", "anna").code == 0
    assert anna.get("/admin/auth/me").status_code == 401
    assert agent.cli("users", "delete", "anna").code == 0
    assert agent.cli("users", "delete", "admin").code == 8
    assert agent.cli("users", "set-role", "nobody", "user").code == 1
    assert agent.cli("users", "create", "x y").code == 2
    assert agent.cli("users", "create", "x", "--role", "root").code == 2


def argv(agent: RunningAgent, *words: str) -> list[str]:
    import sys

    del agent
    return [sys.executable, "-m", "lictor", *words]


def environment(agent: RunningAgent) -> dict[str, str]:
    return {**agent.env, "LICTOR_DATA_DIR": str(agent.data_dir)}


def test_a_token_is_printed_once_and_counts_until_it_is_revoked(agent, site):
    token = token_of(agent, "ci", "--role", "admin")
    assert token not in agent.cli("token", "list").out
    web = site.anybody()
    assert web.get("/admin/users", headers=bearer(token)).status_code == 200
    narrow = token_of(agent, "prom", "--only", "metrics", "--lasts", "90d")
    assert web.get("/admin/users", headers=bearer(narrow)).status_code == 403
    assert web.get("/metrics", headers=bearer(narrow)).status_code == 200
    assert agent.cli("token", "create", "ci").code == 8
    assert agent.cli("token", "create", "x", "--only", "everything").code == 2
    assert agent.cli("token", "create", "x", "--user", "nobody").code == 1
    assert agent.cli("token", "revoke", "ci").code == 0
    assert web.get("/admin/users", headers=bearer(token)).status_code == 401


def test_the_dashboards_link_lets_in_once(agent, site):
    link = agent.cli("dashboard", "-o", "json").json
    url, _, fragment = link["url"].partition("#")
    assert url == f"{site.url}/"
    secret = fragment.removeprefix("link=")
    with httpx.Client(base_url=site.url) as browser:
        assert browser.post("/admin/auth/link", json={"secret": secret}).status_code == 200
        assert browser.get("/admin/auth/me").json()["via"] == "cookie"
    again = site.anybody().post("/admin/auth/link", json={"secret": secret})
    assert again.status_code == 401


def test_who_was_let_in_stays_in_when_the_agent_is_killed(agent, site):
    with httpx.Client(base_url=site.url) as browser:
        password = (agent.data_dir / "admin-password").read_text().strip()
        said = {"username": "admin", "password": password}
        assert browser.post("/admin/auth/login", json=said).status_code == 200
        cookie = "; ".join(f"{k}={v}" for k, v in browser.cookies.items())
    agent.kill9()
    agent.start()
    with Site(agent) as again:
        me = again.anybody().get("/admin/auth/me", headers={"Cookie": cookie})
        assert me.json()["username"] == "admin"


def test_orders_of_the_command_line_stand_in_the_audit_log(agent, site):
    assert agent.cli("start", "tool", "--wait").code == 0
    assert agent.cli("stop", "nothing").code == 4
    token = token_of(agent, "ci")
    site.admin.post("/supervisor/stop", json={"name": "tool"})
    entries = site.admin.get("/admin/audit?limit=50").json()["entries"]
    told = {(e["via"], e["action"], e["target"], e["outcome"]) for e in entries}
    assert ("socket", "change start", "tool", "ok") in told
    assert ("socket", "change stop", "nothing", "refused") in told
    assert ("bearer", "POST /supervisor/stop", "tool", "ok") in told
    assert token not in json.dumps(entries)
    journal = agent.cli("events", "--kind", "access", "-o", "json").json
    assert any("/supervisor/stop" in row["sentence"] for row in journal)
    assert any("127.0.0.1" in row["sentence"] for row in journal)


# --- every route, every role, every border ----------------------------------------------------


def walk(description: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Method, route, and a path of every route in the OpenAPI document."""
    for route, methods in description["paths"].items():
        path = route
        for parameter in ("name", "service", "logfile", "model"):
            path = path.replace("{" + parameter + "}", "tool")
        assert "{" not in path, f"give {route} a value in this test"
        for method in methods:
            yield method, route, path


def status(web: httpx.Client, method: str, path: str, headers: dict[str, str]) -> int:
    """Only the head of the answer: a stream goes on for ever."""
    body = {} if method in {"get", "head", "delete"} else {"json": {}}
    with web.stream(method.upper(), path, headers=headers, **body) as answer:
        return answer.status_code


def test_no_route_lets_in_whom_the_table_does_not(agent, site):
    description = site.admin.get("/openapi.json").json()
    tokens = {role: token_of(agent, f"t-{role.value}", "--role", role.value) for role in Role}
    web = site.anybody()
    rights = rights_of_routes()
    walked = list(walk(description))
    assert len(walked) > 30
    for method, route, path in walked:
        for headers, expected in (
            ({"Host": "evil.example"}, 421),
            ({"Host": "127.0.0.1:1@evil"}, 400),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
        ):
            asked = {**headers, **bearer(tokens[Role.ADMIN])}
            assert status(web, method, path, asked) == expected, (method, route, headers)
        nobody = status(web, method, path, {})
        named = f"{method.upper()} {route}"
        if named in OPEN:
            assert nobody != 403, named
            continue
        assert nobody == 401, named
        assert status(web, method, path, bearer("x.y.z")) == 401, named
        for role in (Role.USER, Role.WEB, Role.GUEST):
            got = status(web, method, path, bearer(tokens[role]))
            scope = granted(role, rights[named])
            if scope is None:
                assert got == (404 if hidden(role, rights[named]) else 403), (named, role)
            else:
                refusals = {401, 403} if scope is Scope.ALL else {401}
                assert got not in refusals, (named, role)
                assert got != 500, (named, role)


# --- roles on a real agent ------------------------------------------------------------------


def test_a_user_changes_their_own_services_and_no_others(agent, site):
    anna = site.as_("anna", "user")
    assert anna.post("/supervisor/start", json={"name": "tool"}).status_code == 200
    agent.wait_ready("tool")
    for verb in ("start", "stop", "restart"):
        assert anna.post(f"/supervisor/{verb}", json={"name": "other"}).status_code == 403
        assert anna.post(f"/admin/services/other/{verb}").status_code == 403
    both = {"action": "stop", "services": ["tool", "other"]}
    assert anna.post("/supervisor/bulk", json=both).status_code == 403
    assert anna.get("/supervisor/logs/other").status_code == 403
    assert anna.get("/supervisor/logs/tool").status_code == 200
    assert anna.post("/admin/services/stop-all").status_code == 403
    assert agent.row("other")["phase"] in {"ready", "starting"}
    env = {"name": "tool", "config": {"env": {"X": "1"}}}
    assert anna.post("/supervisor/restart", json=env).status_code == 403


def test_a_demotion_counts_at_once(agent, site):
    anna = site.as_("anna", "user")
    assert anna.get("/supervisor/logs/tool").status_code == 200
    assert agent.cli("users", "set-role", "anna", "web").code == 0
    assert anna.get("/supervisor/logs/tool").status_code == 404
    assert agent.cli("users", "delete", "anna").code == 0
    assert anna.get("/admin/auth/me").status_code == 401


def test_in_the_cloud_there_are_no_services_pages_but_for_admins(make_agent):
    agent = make_agent({"tool": plain(owner="anna")}, sections=ALONE, agent={"mode": "cloud"})
    with Site(agent.start()) as site:
        anna = site.as_("anna", "user")
        for path in ("/supervisor/status", "/admin/services/status", "/supervisor/logs/tool"):
            assert anna.get(path).status_code == 404, path
            assert site.admin.get(path).status_code == 200, path
        assert anna.get("/admin/auth/me").json()["mode"] == "cloud"


# --- what keeps the agent from starting -------------------------------------------------------


def refused(agent: RunningAgent) -> str:
    result = agent.cli("up", "-c", str(agent.config))
    assert result.code not in {0, 124}
    assert not (agent.data_dir / "lictor.sock").exists()
    return result.err


def test_a_wide_bind_without_a_certificate_is_refused_with_its_place(make_agent):
    agent = make_agent({}, sections={**ALONE, "web": {"host": "0.0.0.0", "port": 0}})
    said = refused(agent)
    assert "config.yml:" in said
    assert "web.host" in said
    assert "tls" in said


def test_a_secret_that_others_could_have_read_is_refused(make_agent):
    agent = make_agent({}, sections=ALONE)
    agent.data_dir.mkdir(mode=0o700)
    secret = agent.data_dir / "web-secret"
    secret.write_text("ab" * 32)
    secret.chmod(0o644)
    assert "web-secret" in refused(agent)
    secret.chmod(0o600)
    secret.write_text("")
    assert "web-secret" in refused(agent)


def test_a_certificate_that_is_none_is_refused(make_agent, tmp_path):
    (tmp_path / "c").write_text("no certificate")
    (tmp_path / "k").touch(mode=0o600)
    tls = {"cert": str(tmp_path / "c"), "key": str(tmp_path / "k")}
    agent = make_agent({}, sections={**ALONE, "web": {"port": 0, "tls": tls}})
    assert "certificate" in refused(agent)


def test_https_is_served_with_the_certificate_of_the_config(make_agent, consul_bin, tmp_path):
    for words in ("ca create", "cert create -server -dc dc1"):
        subprocess.run([consul_bin, "tls", *words.split()], cwd=tmp_path, check=True, timeout=60)
    key = tmp_path / "dc1-server-consul-0-key.pem"
    key.chmod(0o600)
    tls = {"cert": str(tmp_path / "dc1-server-consul-0.pem"), "key": str(key)}
    web = {"host": "0.0.0.0", "port": 0, "tls": tls}
    agent = make_agent({}, sections={**ALONE, "web": web}).start()
    url = wait_until(lambda: agent.ask("overview")["web"], what="the web's address")
    assert url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=tmp_path / "consul-agent-ca.pem")
    with httpx.Client(base_url=url, verify=trust) as client:
        wait_until(lambda: answers(client), what="https")
        password = (agent.data_dir / "admin-password").read_text().strip()
        said = {"username": "admin", "password": password}
        page = {"Origin": url}
        login = client.post("/admin/auth/login", json=said, headers=page)
        assert login.status_code == 200
        assert all("Secure" in cookie for cookie in login.headers.get_list("set-cookie"))
        plain_page = {"Origin": url.replace("https", "http")}
        assert client.get("/health", headers=plain_page).status_code == 403


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


# --- secrets --------------------------------------------------------------------------------


def test_no_secret_appears_anywhere_but_in_its_service(make_agent):
    secrets = {name: f"{name}-{os.urandom(8).hex()}" for name in ("env", "file", "param", "kept")}
    service = plain(
        env={"API_TOKEN": secrets["env"], "PLAIN_KEY": secrets["kept"]},
        env_file="service.env",
        params={"api_key": {"default": secrets["param"]}},
    )
    agent = make_agent({"tool": service}, sections=ALONE)
    (agent.dir / "service.env").write_text(f"DB_PASSWORD={secrets['file']}\n")
    (agent.dir / "service.env").chmod(0o600)
    agent.start()
    agent.wait_ready("tool")
    environ = Path(f"/proc/{agent.service_pid('tool')}/environ").read_bytes().decode()
    assert all(secrets[name] in environ for name in ("env", "file", "kept"))
    with Site(agent) as site:
        said: dict[str, str] = {}
        for method, route, path in walk(site.admin.get("/openapi.json").json()):
            if method == "get":
                said[f"{method} {route}"] = beginning(site.admin, path)
        site.admin.post("/supervisor/restart", json={"name": "tool"})
        agent.wait_ready("tool")
        admin = (agent.data_dir / "admin-password").read_text().strip()
        for words in (
            ("status", "--verbose", "-o", "json"),
            ("events", "-o", "json"),
            ("config", "show", "-c", str(agent.config)),
            ("top", "-o", "json"),
        ):
            result = agent.cli(*words)
            said[" ".join(words)] = result.out + result.err
        said["the agent's log"] = agent.log()
        said["the process list"] = command_lines()
    token = site.admin.headers["Authorization"].partition(" ")[2]
    for where, text in said.items():
        for secret in (*secrets.values(), admin, token):
            assert secret not in text, where


def beginning(web: httpx.Client, path: str) -> str:
    """What an answer says within a second; a stream goes on for ever."""
    text, end = "", time.monotonic() + 1
    try:
        with web.stream("GET", path, timeout=1) as answer:
            for chunk in answer.iter_text():
                text += chunk
                if time.monotonic() > end:
                    break
    except httpx.ReadTimeout:
        pass
    return text


def command_lines() -> str:
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


def test_what_the_agent_keeps_is_for_its_owner_only(agent, site):
    open_to_others = [
        str(path.relative_to(agent.data_dir))
        for path in agent.data_dir.rglob("*")
        if path.is_file() and path.parent.name != "logs" and path.stat().st_mode & 0o077
    ]
    assert open_to_others == []
    assert stat.S_IMODE(agent.data_dir.stat().st_mode) == 0o700


def test_the_agent_ends_promptly_while_somebody_holds_a_connection_open(agent, site):
    port = int(site.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as held:
        held.sendall(b"POST /supervisor/start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n")
        begun = time.monotonic()
        agent.signal(signal.SIGTERM)
        assert agent.wait_exit() == 0
        assert time.monotonic() - begun < PATIENCE
