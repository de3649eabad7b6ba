"""The policy that is generated is enough, and not a rule of it is too much; real ACLs decide."""

from __future__ import annotations

import pytest

from lictor.consul_integration.address import TokenFile
from lictor.consul_integration.checkup import examine
from lictor.consul_integration.client import kv_set
from lictor.consul_integration.inspection import ConsulInspection
from lictor.core.errors import Forbidden
from lictor.core.model.finding import Level
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.access import for_everybody, rules_for
from tests.support.consul import ConsulServer
from tests.support.liar import answer, liar

pytestmark = pytest.mark.consul

RULES = rules_for(
    "host1",
    "lictor",
    [
        ServiceSpec(ServiceKey("xtts"), voice_group="voice"),
        ServiceSpec(ServiceKey("piper"), voice_group="voice"),
        ServiceSpec(ServiceKey("quiet"), registered=False),
    ],
)


def _policy(rules) -> str:
    return "\n".join(rule.hcl for rule in rules)


async def test_with_exactly_the_generated_policy_no_rule_is_missing(acl_consul, connect):
    client = connect(acl_consul.http, token=acl_consul.token_for(_policy(RULES)))
    assert await ConsulInspection(client).denied(RULES) == ()
    found = {finding.check: finding for finding in await examine(client, RULES)}
    assert found["acl"].reason.code == "doctor.acl_ok"
    assert [each.check for each in found.values() if each.level is Level.FAIL] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.resource} {rule.segment}")
async def test_each_rule_that_is_taken_away_is_named(acl_consul, connect, rule):
    rest = [each for each in RULES if each is not rule]
    client = connect(acl_consul.http, token=acl_consul.token_for(_policy(rest)))
    assert await ConsulInspection(client).denied(RULES) == (rule,)
    found = [finding for finding in await examine(client, RULES) if finding.check == "acl"]
    (named,) = found
    assert named.reason.params == {"rule": rule.hcl}
    assert named.level is (Level.FAIL if rule.vital else Level.WARN)
    assert named.step is not None
    assert named.step.params == {"rule": rule.hcl}


def test_the_policy_lets_nobody_touch_what_is_not_of_this_node():
    writes = {(rule.resource, rule.segment) for rule in RULES if rule.access == "write"}
    assert ("service_prefix", "") not in writes
    assert not any(name == "quiet" for _, name in writes)  # it is never registered
    folders = [segment for kind, segment in writes if kind == "key_prefix"]
    assert sorted(folders) == [
        "lictor/actual/host1/",
        "lictor/desired/_all/",
        "lictor/desired/host1/",
    ]


def test_a_host_that_commands_other_nodes_may_write_all_desired_state():
    every = rules_for("host1", "lictor", (), every_node=True)
    writes = [rule.segment for rule in every if rule.access == "write"]
    assert "lictor/desired/" in writes
    assert "lictor/actual/" not in writes


async def test_no_token_and_an_unknown_one_are_told_apart(acl_consul, connect):
    without = await examine(connect(acl_consul.http), RULES)
    unknown = connect(acl_consul.http, token="00000000-0000-0000-0000-00000000dead")
    for findings, code in (
        (without, "consul.no_token"),
        (await examine(unknown, RULES), "consul.unknown_token"),
    ):
        (acl,) = [finding for finding in findings if finding.check == "acl"]
        assert (acl.level, acl.reason.code) == (Level.FAIL, code)
        assert acl.step is not None
        assert acl.step.code == "next.token"
    with pytest.raises(Forbidden):
        await ConsulInspection(unknown).denied(RULES)


async def test_a_token_file_that_cannot_be_used_is_named(acl_consul, connect, tmp_path):
    path = tmp_path / "token"
    client = connect(acl_consul.http, token=TokenFile(path))
    for content, why in (
        (None, "No such file or directory"),
        ("a b", "it holds more than a token"),
    ):
        if content is not None:
            path.write_text(content)
        (acl,) = [found for found in await examine(client, RULES) if found.check == "acl"]
        assert (acl.level, acl.reason.code) == (Level.FAIL, "consul.token_file")
        said = f"The token file {path} cannot be used: {why}."
        assert acl.reason.params == {"message": said}
        assert acl.step is not None
        assert acl.step.code == "next.token"
    path.write_text(acl_consul.master)
    (acl,) = [found for found in await examine(client, RULES) if found.check == "acl"]
    assert acl.level is Level.OK


async def test_a_refused_transaction_says_what_is_refused_and_no_more(acl_consul, connect):
    narrow = connect(
        acl_consul.http, token=acl_consul.token_for('key "other" { policy = "write" }')
    )
    with pytest.raises(Forbidden) as refused:
        await narrow.kv_transaction([kv_set("lictor/a", "1"), kv_set("lictor/b", "1")])
    assert refused.value.message == "Consul does not allow /v1/txn: Permission denied."


async def test_without_access_control_nothing_is_missing(consul, connect):
    client = connect(consul.http)
    assert await ConsulInspection(client).denied(RULES) is None
    found = {finding.check: finding.reason.code for finding in await examine(client, RULES)}
    assert found == {
        "consul": "doctor.consul_ok",
        "acl": "doctor.acl_off",
        "node": "doctor.node_ok",
        "dns": "doctor.dns_ok",
    }


async def test_without_access_control_a_consul_that_others_reach_is_a_warning(consul_bin, connect):
    server = ConsulServer(consul_bin, extra={"client_addr": "0.0.0.0"})
    try:
        server.start()
        # Asked over loopback, as an agent on the same host does.
        found = await examine(connect(server.http), RULES)
    finally:
        server.close()
    (acl,) = [finding for finding in found if finding.check == "acl"]
    assert (acl.level, acl.reason.code) == (Level.WARN, "doctor.acl_off_remote")
    assert acl.reason.params == {"address": f"http://0.0.0.0:{server.http_port}"}


async def test_a_dns_that_shows_nothing_without_a_token_is_named_until_it_may_read(
    consul_bin, connect
):
    server = ConsulServer(consul_bin, acl=True)
    try:
        server.start()
        client = connect(server.http, token=server.master)
        before = {f.check: f for f in await examine(client, RULES)}
        assert before["dns"].reason.code == "doctor.dns_empty"
        policy = {"Name": "lictor-dns", "Rules": _policy(for_everybody())}
        assert server.raw("PUT", "acl/policy", policy).status == 200
        anonymous = "00000000-0000-0000-0000-000000000002"
        token = {"AccessorID": anonymous, "Policies": [{"Name": "lictor-dns"}]}
        assert server.raw("PUT", f"acl/token/{anonymous}", token).status == 200
        after = {f.check: f for f in await examine(client, RULES)}
        assert after["dns"].reason.code == "doctor.dns_ok"
    finally:
        server.close()


async def test_a_consul_that_is_not_there_is_one_finding(connect):
    (finding,) = await examine(connect("http://127.0.0.1:1"), RULES)
    assert (finding.check, finding.level) == ("consul", Level.FAIL)
    assert finding.reason.code == "consul.unreachable"


async def test_a_consul_that_asks_for_patience_gets_it_and_is_not_said_to_be_off(connect):
    slow = answer("", status="429 Too Many Requests")
    async with liar(lambda _: slow) as server:
        (finding,) = await examine(connect(server.url), RULES)
    assert finding.reason.code == "consul.rate_limited"
    assert finding.step is not None
    assert finding.step.code == "next.wait"


async def test_the_node_is_known_to_agent_and_catalog_alike(consul, connect):
    node = await ConsulInspection(connect(consul.http)).node()
    assert node.name == consul.node
    assert node.agent_id == node.catalog_id
    assert node.agent_id


async def test_dns_is_asked_where_consul_says_that_it_listens(consul, connect, unique):
    client = connect(consul.http)
    await client.register_service(f"id-{unique}", unique, address="127.0.0.9", port=4321)
    seen = await ConsulInspection(client).dns(unique)
    assert seen.places == (("127.0.0.9", 4321),)
    assert seen.question == f"{unique}.service.consul"
    assert seen.server == f"127.0.0.1:{consul.dns_port}"
    nothing = await ConsulInspection(client).dns("no-such-service")
    assert (nothing.rcode, nothing.places) == ("NXDOMAIN", ())
