"""Checklist: a token that is missing, narrow, revoked or new is named, and takes nothing down."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.checklist.scene import (
    ROUND,
    Note,
    Proxied,
    Sampler,
    Scene,
    make_scene,
    seconds_until,
)
from tests.e2e.conftest import MakeAgent
from tests.e2e.world import web
from tests.support.agent import unique, wait_until
from tests.support.consul import ConsulServer
from tests.support.lying_proxy import LyingProxy

pytestmark = pytest.mark.consul

READING = """
service_prefix "" { policy = "read" }
node_prefix "" { policy = "read" }
agent_prefix "" { policy = "read" }
session_prefix "" { policy = "write" }
query_prefix "" { policy = "write" }
"""
SERVICES = 'service_prefix "" { policy = "write" }\n'
KV = 'key_prefix "lictor/" { policy = "write" }\n'
FULL = READING.replace('service_prefix "" { policy = "read" }\n', "") + SERVICES + KV


class Tokens:
    """A token file that tests write, as a secret store would."""

    def __init__(self, consul: ConsulServer, path: Path) -> None:
        self.consul = consul
        self.path = path

    def use(self, rules: str) -> str:
        """Make a token with these rules and put it into the file."""
        secret = self.consul.token_for(rules)
        self.write(secret)
        return secret

    def write(self, secret: str) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(secret + "\n")
        fresh.replace(self.path)

    def revoke(self, secret: str) -> None:
        about = self.consul.raw("GET", "acl/token/self", token=secret)
        answer = self.consul.raw("DELETE", f"acl/token/{about.json['AccessorID']}")
        assert answer.status == 200, answer


@pytest.fixture
def tokens(own_acl_consul: ConsulServer, tmp_path: Path) -> Tokens:
    return Tokens(own_acl_consul, tmp_path / "token")


def scene_with(
    make_agent: MakeAgent,
    tokens: Tokens,
    count: int = 1,
    *,
    proxy: LyingProxy | None = None,
    **services: object,
) -> Scene:
    """A scene whose agent has the token in the file."""
    address = proxy.url if proxy is not None else tokens.consul.http
    section = {"consul": {"address": address, "token_file": str(tokens.path)}}
    return make_scene(
        make_agent,
        tokens.consul,
        count,
        consul=None,
        sections=section,
        services=dict(services) or None,
    )


@pytest.mark.checklist(
    13,
    "a service that KV wants stopped",
    "the token loses every right to KV",
    "the reason names the ACL; the last desired state stays in force",
)
@pytest.mark.checklist(
    14,
    "two services that KV wants stopped",
    "the token may read the sentinels and one of the documents",
    "the part is not taken for the whole; the last desired state stays in force",
)
def test_a_token_that_sees_less_of_kv_starts_and_stops_nothing(
    make_agent: MakeAgent, tokens: Tokens
):
    tokens.use(FULL)
    scene = scene_with(make_agent, tokens, 2)
    scene.started()
    for name in scene.names:
        scene.desired(name, {"state": "stopped"})
    wait_until(lambda: scene.phases() == {"stopped"})

    tokens.use(READING.replace('service_prefix "" { policy = "read" }\n', "") + SERVICES)
    scene.desired(scene.name, {"state": "stopped", "by": "anna"})  # wakes the watch
    wait_until(lambda: "consul.forbidden" in scene.warnings(), what="the ACL is named", within=45)
    assert scene.phases() == {"stopped"}

    folder = f"lictor/desired/{scene.agent.node}"
    tokens.use(
        FULL.replace(KV, "")
        + "".join(
            f'key "{key}" {{ policy = "read" }}\n'
            for key in (
                f"{folder}/_lictor",
                "lictor/desired/_all/_lictor",
                f"{folder}/{scene.name}",
            )
        )
    )
    scene.desired(scene.name, {"state": "stopped", "by": "boris"})
    wait_until(lambda: "desired.keys_hidden" in scene.warnings(), within=60)
    assert scene.phases() == {"stopped"}

    tokens.use(FULL)
    wait_until(lambda: "desired.keys_hidden" not in scene.warnings(), within=60)
    assert scene.phases() == {"stopped"}


@pytest.mark.checklist(
    15,
    "three services, a token from a file",
    "the token is revoked, later another one is put into the file",
    "named within a round, at most one try in 10 s of each part that asks, services run on; then all "
    "registered under the new token, and what was stopped meanwhile leaves the catalog",
)
def test_a_revoked_token_is_named_and_a_new_one_mends_everything(
    make_agent: MakeAgent, tokens: Tokens, proxied: Proxied, note: Note
):
    proxy = proxied(tokens.consul)
    first = tokens.use(FULL)
    scene = scene_with(make_agent, tokens, 3, proxy=proxy)
    scene.started()
    killed, ended, kept = scene.names
    pids = scene.pids()
    tokens.revoke(first)
    took = seconds_until(lambda: scene.agent.consul_state() == "consul.unknown_token", within=15)
    note("seconds until named", took)
    assert "token" in scene.agent.cli("status").err
    began = time.monotonic()
    os.kill(scene.agent.service_pid(killed), signal.SIGKILL)
    assert scene.agent.cli("stop", ended, "--wait").code == 0
    time.sleep(25)
    asked = Counter(a.path.partition("?")[0] for a in proxy.since(began))
    note("tries in 25 s", sum(asked.values()))
    # The session of the lease is renewed on, that it may outlive a short mistake.
    asked = Counter({p: n for p, n in asked.items() if "/session/renew/" not in p})
    assert max(asked.values()) <= 4, asked
    scene.agent.wait_ready(killed)
    assert scene.pids()[kept] == pids[kept]

    tokens.use(FULL)
    took = seconds_until(lambda: scene.agent.consul_state() == "ok", within=20)
    note("seconds until the new token is in use", took)
    for name in (killed, kept, "lictor"):
        scene.catalog.wait_passing(name, scene.id(name))
    took = seconds_until(lambda: scene.catalog.entries(ended) == {}, within=40)
    note("seconds until the ghost is gone", took)
    assert scene.agent.cli("stop", kept, "--wait").code == 0
    scene.catalog.wait_gone(kept, scene.id(kept))


@pytest.mark.checklist(
    15,
    "a service, a token from a file",
    "the token is replaced, and the old one revoked a round later",
    "no gap: never unknown, never critical; under the new token before the old one is gone",
)
def test_a_token_is_rotated_without_a_gap(
    make_agent: MakeAgent, tokens: Tokens, proxied: Proxied, note: Note
):
    proxy = proxied(tokens.consul)
    first = tokens.use(FULL)
    scene = scene_with(make_agent, tokens, proxy=proxy)
    scene.started()
    with Sampler(scene).looking() as samples:
        began = time.monotonic()
        tokens.use(FULL)

        def registered() -> bool:
            asked = proxy.since(began, methods=["PUT"])
            return len([a for a in asked if a.path.endswith("service/register")]) >= 2

        took = seconds_until(registered, within=ROUND + 5)
        note("seconds until registered under the new token", took)
        tokens.revoke(first)
        time.sleep(ROUND + 2)
    assert samples.never_but_passing, samples.seen
    assert scene.agent.consul_state() == "ok"
    assert "consul.unknown_token" not in scene.journal()
    os.kill(scene.agent.service_pid(scene.name), signal.SIGKILL)
    wait_until(lambda: scene.agent.row(scene.name)["restarts"] == 1)
    scene.agent.wait_ready(scene.name)
    assert scene.agent.cli("stop", scene.name, "--wait").code == 0
    scene.catalog.wait_gone(scene.name, scene.id())


@pytest.mark.checklist(
    15,
    "two services",
    "the token may write only one of them",
    "the other is named with the ACL; Consul counts as reachable, the first is registered",
)
def test_a_token_that_lacks_a_rule_for_one_service_serves_the_others(
    make_agent: MakeAgent, tokens: Tokens
):
    may, may_not = unique("may"), unique("may-not")
    rules = "".join(f'service "{name}" {{ policy = "write" }}\n' for name in (may, "lictor"))
    tokens.use(READING + KV + rules)
    scene = scene_with(make_agent, tokens, **{may: web(), may_not: web()})
    scene.agent.start()
    scene.agent.wait_ready(may, may_not)
    scene.catalog.wait_passing(may, scene.id(may))
    wait_until(lambda: "consul.entry_forbidden" in scene.warnings())
    assert scene.id(may_not) in scene.warnings()
    assert "ACL" in scene.warnings()
    assert scene.agent.consul_state() == "ok"
    assert scene.catalog.entries(may_not) == {}
    tokens.use(FULL)
    scene.catalog.wait_passing(may_not, scene.id(may_not))
    wait_until(lambda: "consul.entry_forbidden" not in scene.warnings())


@pytest.mark.checklist(
    15,
    "a stopped service whose entry is a ghost: registered with a token that is gone",
    "another agent of this installation begins, with a good token",
    "the ghost leaves the catalog (registered once more with the good token, then taken out)",
)
def test_a_ghost_of_a_deleted_token_is_taken_out_by_the_next_run(
    make_agent: MakeAgent, tokens: Tokens, note: Note
):
    first = tokens.use(FULL)
    scene = scene_with(make_agent, tokens, 2)
    scene.started()
    stays, ghost = scene.names
    tokens.revoke(first)
    assert scene.agent.cli("stop", ghost, "--wait").code == 0
    scene.agent.kill9()
    assert scene.id(ghost) in scene.catalog.entries(ghost)
    tokens.use(FULL)
    scene.agent.start()
    took = seconds_until(lambda: scene.catalog.entries(ghost) == {}, within=40)
    note("seconds until the ghost is gone", took)
    assert scene.agent.row(ghost)["phase"] == "stopped"
    scene.catalog.wait_passing(stays, scene.id(stays))
