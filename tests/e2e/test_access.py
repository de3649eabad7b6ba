"""Access control and TLS from outside: the generated policy, its narrowing, a token's end, https."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import Catalog, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.consul import ConsulServer, free_ports

pytestmark = pytest.mark.consul


@pytest.fixture(scope="module")
def guarded(consul_bin: str) -> Iterator[ConsulServer]:
    """A Consul whose access control denies by default; tests use names of their own."""
    server = ConsulServer(consul_bin, acl=True)
    try:
        yield server.start()
    finally:
        server.close()


def policy_of(agent: RunningAgent, *options: str) -> str:
    """What `lictor generate consul` prints for this config."""
    made = agent.cli("generate", "consul", "-c", str(agent.config), *options)
    assert made.code == 0, made
    return made.out


def without(policy: str, rule: str) -> str:
    """The policy less one rule, which must be in it."""
    assert rule in policy
    return "\n".join(line for line in policy.splitlines() if not line.startswith(rule))


class Token:
    """A token of one policy that can be changed, as an operator would."""

    def __init__(self, server: ConsulServer, rules: str) -> None:
        self._server = server
        self._name = unique("policy")
        made = server.raw("PUT", "acl/policy", {"Name": self._name, "Rules": rules})
        assert made.status == 200, made
        self._policy = made.json["ID"]
        token = server.raw("PUT", "acl/token", {"Policies": [{"Name": self._name}]})
        assert token.status == 200, token
        self.secret, self._accessor = str(token.json["SecretID"]), token.json["AccessorID"]

    def allow(self, rules: str) -> None:
        body = {"ID": self._policy, "Name": self._name, "Rules": rules}
        assert self._server.raw("PUT", f"acl/policy/{self._policy}", body).status == 200

    def revoke(self) -> None:
        assert self._server.raw("DELETE", f"acl/token/{self._accessor}").status == 200


def findings(agent: RunningAgent, *options: str) -> tuple[int, list[dict]]:
    done = agent.cli("doctor", "-o", "json", *options)
    assert done.code in {0, 1}, done
    return done.code, done.json


def named(rows: list[dict], check: str) -> list[str]:
    """The codes of one check's findings."""
    return [row["reason"] for row in rows if row["check"] == check]


def explained(agent: RunningAgent, name: str) -> dict:
    return agent.ask("explain", {"names": [name]})[0]


def test_exactly_the_generated_policy_is_enough_for_everything(
    make_agent: MakeAgent, guarded: ConsulServer
):
    one, two, group = (unique(word) for word in ("one", "two", "group"))
    services = {
        one: web(params={"size": {"default": 1}}),
        two: web(group=group, rank=10),
    }
    agent = make_agent(services, consul=guarded.http)
    token = Token(guarded, policy_of(agent))
    agent.env["CONSUL_HTTP_TOKEN"] = token.secret
    agent.start().wait_ready(one, two)
    catalog = Catalog(guarded)
    for name in (one, two, "lictor"):
        catalog.wait_passing(name, agent.entry_id(name))  # registered, with checks that it set

    # Desired state in, actual state out, found by others, taken out again.
    wait_until(lambda: guarded.get_kv(f"lictor/desired/{agent.node}/_lictor"))
    wait_until(lambda: guarded.get_kv(f"lictor/actual/{agent.node}/{one}"))
    guarded.put_kv(f"lictor/desired/{agent.node}/{one}", {"state": "stopped"})
    agent.wait_phase(one, "stopped")
    catalog.wait_gone(one, agent.entry_id(one))
    assert agent.cli("start", one, "--wait").code == 0
    document = json.loads(guarded.get_kv(f"lictor/desired/{agent.node}/{one}") or "{}")
    assert document["state"] == "running"
    catalog.wait_passing(one, agent.entry_id(one))
    assert agent.cli("discover", one).code == 0
    code, rows = findings(agent)
    assert (code, named(rows, "acl")) == (0, ["doctor.acl_ok"])
    warned = [row["sentence"] for row in agent.ask("overview")["warnings"]]
    assert [sentence for sentence in warned if "allow" in sentence or "ACL" in sentence] == []
    assert agent.down().code == 0
    for name in (one, two, "lictor"):
        catalog.wait_gone(name, agent.entry_id(name))


def test_what_a_token_may_not_see_is_never_said_to_be_nothing(
    make_agent: MakeAgent, guarded: ConsulServer
):
    name = unique("hidden")
    agent = make_agent({name: web()}, consul=guarded.http)
    policy = policy_of(agent)
    agent.env["CONSUL_HTTP_TOKEN"] = Token(guarded, policy).secret
    agent.start().wait_ready(name)
    Catalog(guarded).wait_passing(name, agent.entry_id(name))

    # DNS asks without a token, and this Consul lets nobody read without one.
    told = agent.cli("resolve", name, "-o", "json")
    assert told.code == 3
    assert [code["code"] for row in told.json["left_out"] for code in row["reasons"]] == [
        "left_out.anonymous"
    ]
    assert agent.down().code == 0

    nobody = {"LICTOR_CONFIG": str(agent.config), "CONSUL_HTTP_TOKEN": ""}
    rule = 'agent_prefix "" { policy = "read" }'
    narrow = nobody | {"CONSUL_HTTP_TOKEN": Token(guarded, without(policy, rule)).secret}
    for command in (["discover"], ["discover", name], ["resolve", name]):
        done = agent.cli(*command, env=nobody)
        assert (done.code, "has no token" in done.err) == (6, True), done
    done = agent.cli("resolve", name, env=narrow)
    assert (done.code, rule in done.err) == (6, True), done
    assert agent.cli("discover", name, env=narrow).code == 4  # it may see, and there is nothing


def test_a_rule_that_is_missing_is_named_by_explain_and_doctor(
    make_agent: MakeAgent, guarded: ConsulServer
):
    good, denied = unique("good"), unique("denied")
    agent = make_agent({good: web(), denied: web()}, consul=guarded.http)
    whole = policy_of(agent)
    rule = f'service "{denied}" {{ policy = "write" }}'
    token = Token(guarded, without(whole, rule))
    agent.env["CONSUL_HTTP_TOKEN"] = token.secret
    agent.start().wait_ready(good, denied)
    wait_until(lambda: explained(agent, denied)["reason"] == "acl.missing")
    told = agent.cli("explain", denied)
    assert told.code == 3
    assert rule in told.out
    code, rows = findings(agent)
    assert code == 1
    failed = [row for row in rows if row["level"] == "fail"]
    assert [row["reason_params"] for row in failed] == [{"rule": rule}]
    assert agent.row(denied)["phase"] == "ready"

    token.allow(whole)
    Catalog(guarded).wait_passing(denied, agent.entry_id(denied))
    assert findings(agent)[0] == 0


def test_a_token_that_may_not_publish_is_a_warning_of_the_agent(
    make_agent: MakeAgent, guarded: ConsulServer
):
    name = unique("secret")
    agent = make_agent({name: web()}, consul=guarded.http)
    whole = policy_of(agent)
    rule = f'key_prefix "lictor/actual/{agent.node}/" {{ policy = "write" }}'
    token = Token(guarded, without(whole, rule))
    agent.env["CONSUL_HTTP_TOKEN"] = token.secret
    agent.start().wait_ready(name)

    def warned() -> list[str]:
        return [row["reason"] for row in agent.ask("overview")["warnings"]]

    wait_until(lambda: warned() == ["actual.refused"])
    token.allow(whole)
    wait_until(lambda: warned() == [])
    assert guarded.get_kv(f"lictor/actual/{agent.node}/{name}")


def test_a_revoked_token_is_said_and_a_new_one_in_its_file_is_enough(
    make_agent: MakeAgent, guarded: ConsulServer
):
    name = unique("rotates")
    agent = make_agent({name: web()}, consul=guarded.http)
    file = agent.dir / "token"
    agent.configure({name: web()}, consul={"address": guarded.http, "token_file": str(file)})
    policy = policy_of(agent)
    first, second = Token(guarded, policy), Token(guarded, policy)
    file.write_text(first.secret)
    agent.start().wait_ready(name)
    Catalog(guarded).wait_passing(name, agent.entry_id(name))
    first.revoke()
    wait_until(lambda: explained(agent, name)["reason"] == "consul.unknown_token")
    assert explained(agent, name)["next"]["reason"] == "next.token"
    code, rows = findings(agent)
    assert (code, named(rows, "acl")) == (1, ["consul.unknown_token"])
    assert agent.row(name)["phase"] == "ready"

    file.write_text(second.secret)
    wait_until(lambda: agent.consul_state() == "ok", what="the new token is used")
    code, rows = findings(agent)
    assert (code, named(rows, "acl")) == (0, ["doctor.acl_ok"])
    Catalog(guarded).wait_passing(name, agent.entry_id(name))
    assert {step["verdict"] for step in explained(agent, name)["steps"][:5]} == {"ok"}


def test_an_agent_without_a_token_is_told_that_and_not_of_every_rule(
    make_agent: MakeAgent, guarded: ConsulServer
):
    name = unique("bare")
    agent = make_agent({name: web()}, consul=guarded.http).start()
    agent.wait_ready(name)
    wait_until(lambda: agent.consul_state() == "consul.no_token")
    told = explained(agent, name)
    assert (told["reason"], told["next"]["reason"]) == ("consul.no_token", "next.token")
    assert "the rule" not in agent.cli("explain", name).out


def test_a_host_without_a_token_gets_the_policy_and_is_told_what_is_missing(
    make_agent: MakeAgent, guarded: ConsulServer
):
    agent = make_agent({unique("bare"): web()}, consul=guarded.http)
    code, rows = findings(agent, "-c", str(agent.config))
    assert (code, named(rows, "acl")) == (1, ["consul.no_token"])
    assert named(rows, "agent") == ["doctor.agent_none"]
    assert not agent.data_dir.exists()  # it only looks
    assert "policy create" in policy_of(agent)


def _files(consul_bin: str, folder: Path) -> dict[str, str]:
    for words in ("ca create", "cert create -server -dc dc1", "cert create -cli -dc dc1"):
        subprocess.run([consul_bin, "tls", *words.split()], cwd=folder, check=True, timeout=60)
    return {
        "ca_file": str(folder / "consul-agent-ca.pem"),
        "client_cert": str(folder / "dc1-cli-consul-0.pem"),
        "client_key": str(folder / "dc1-cli-consul-0-key.pem"),
    }


@pytest.fixture(scope="module")
def tls_files(consul_bin: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _files(consul_bin, tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strict(consul_bin: str, tls_files: dict[str, str]) -> Iterator[ConsulServer]:
    """A Consul that talks https to those whose certificate its CA signed."""
    folder = Path(tls_files["ca_file"]).parent
    server = ConsulServer(
        consul_bin,
        extra={
            "ca_file": tls_files["ca_file"],
            "cert_file": str(folder / "dc1-server-consul-0.pem"),
            "key_file": str(folder / "dc1-server-consul-0-key.pem"),
            "verify_incoming": True,
        },
    )
    (server.ports["https"],) = free_ports(1)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.mark.parametrize("where", ["config", "environment"])
def test_an_agent_works_over_https_with_a_client_certificate(
    make_agent: MakeAgent, strict: ConsulServer, tls_files: dict[str, str], where: str
):
    name = unique("https")
    address = f"https://127.0.0.1:{strict.ports['https']}"
    agent = make_agent({name: web()})
    if where == "config":
        agent.configure({name: web()}, consul={"address": address, **tls_files})
    else:
        agent.env |= {
            "CONSUL_HTTP_ADDR": address,
            "CONSUL_CACERT": tls_files["ca_file"],
            "CONSUL_CLIENT_CERT": tls_files["client_cert"],
            "CONSUL_CLIENT_KEY": tls_files["client_key"],
        }
    agent.start().wait_ready(name)
    Catalog(strict).wait_passing(name, agent.entry_id(name))
    wait_until(lambda: explained(agent, name)["verdict"] == "ok", what="found from end to end")
    code, rows = findings(agent)
    assert code == 0, rows
    assert agent.cli("resolve", name).code == 0
    told = agent.cli("env", "-o", "json").json  # as `eval "$(lictor env)"` gives it
    members = subprocess.run(
        [strict.binary, "members"],
        env=told,
        timeout=30,
        check=False,
        capture_output=True,
        text=True,
    )
    assert members.returncode == 0, members
    assert agent.down().code == 0
    Catalog(strict).wait_gone(name, agent.entry_id(name))
    assert agent.cli("discover", "consul").code == 0  # straight to Consul, the same way


@pytest.mark.parametrize(
    ("left_out", "code", "words"),
    [
        (("client_cert", "client_key"), "consul.no_certificate", "wants a client certificate"),
        (("ca_file",), "consul.untrusted", "is not trusted"),
    ],
)
def test_what_is_missing_for_https_is_one_clear_sentence(
    make_agent: MakeAgent,
    strict: ConsulServer,
    tls_files: dict[str, str],
    left_out: tuple[str, ...],
    code: str,
    words: str,
):
    name = unique("cut")
    address = f"https://127.0.0.1:{strict.ports['https']}"
    given = {key: path for key, path in tls_files.items() if key not in left_out}
    agent = make_agent({name: web()})
    agent.configure({name: web()}, consul={"address": address, **given})
    agent.start().wait_ready(name)
    wait_until(lambda: agent.consul_state() == code, what=f"the agent says {code}")
    told = explained(agent, name)
    assert told["reason"] == code
    assert words in told["sentence"]
    exit_code, rows = findings(agent)
    assert exit_code == 1
    (row,) = [row for row in rows if row["level"] == "fail"]
    assert (row["reason"], row["next"]["reason"]) == (code, "next.tls")
    assert "Traceback" not in agent.log()


def test_a_certificate_that_comes_later_needs_no_restart_and_its_absence_is_logged_once(
    make_agent: MakeAgent, strict: ConsulServer, tls_files: dict[str, str]
):
    name = unique("later")
    agent = make_agent({name: web()})
    ca_file = agent.dir / "ca.pem"
    address = f"https://127.0.0.1:{strict.ports['https']}"
    agent.configure(
        {name: web()}, consul={"address": address, **tls_files, "ca_file": str(ca_file)}
    )
    agent.start().wait_ready(name)
    wait_until(lambda: agent.consul_state() == "consul.bad_address")
    told = explained(agent, name)
    assert told["reason"] == "consul.bad_address"
    assert str(ca_file) in told["sentence"]
    time.sleep(3)
    assert agent.log().count("cannot be used: No such file") == 1
    ca_file.write_text(Path(tls_files["ca_file"]).read_text())
    Catalog(strict).wait_passing(name, agent.entry_id(name))


def test_the_exports_let_the_consul_program_in(make_agent: MakeAgent, guarded: ConsulServer):
    name = unique("shell")
    agent = make_agent({name: web()}, consul=guarded.http)
    file = agent.dir / "token"
    file.write_text(Token(guarded, policy_of(agent)).secret)
    agent.configure({name: web()}, consul={"address": guarded.http, "token_file": str(file)})
    agent.start()
    told = agent.cli("env", "-o", "json").json
    assert told["CONSUL_HTTP_TOKEN_FILE"] == str(file)
    assert "CONSUL_HTTP_TOKEN" not in told
    done = subprocess.run(
        [guarded.binary, "acl", "token", "read", "-self"],
        env=told,
        timeout=30,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done
