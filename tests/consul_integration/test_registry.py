"""The registry against a real Consul agent."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from lictor.consul_integration.registry import ConsulRegistry
from lictor.consul_integration.watch import Pace
from lictor.core.errors import BadRequest, ConsulUnreachable, Forbidden, NoLeader, NotFound
from lictor.core.model.known import Known, Unknown
from lictor.core.model.registration import (
    CheckDef,
    Deregister,
    Register,
    Registration,
    RemoveCheck,
    SeenService,
    SetStatus,
)
from lictor.core.model.state import Health
from tests.support.liar import answer, liar
from tests.support.patience import next_of, until

pytestmark = pytest.mark.consul

URL = "http://127.0.0.1:9/health"


def registration(name: str, **fields) -> Registration:
    service_id = f"lictor:host1:{name}"
    checks = (
        CheckDef(
            f"{service_id}:http",
            "health URL",
            "http",
            URL,
            interval=3600,
            timeout=5,
            deregister_after=600,
            status=Health.PASSING,
            notes="asks the service itself",
        ),
        CheckDef(f"{service_id}:lictor", "Lictor", "ttl", status=Health.PASSING),
    )
    given = {
        "address": "127.0.0.1",
        "port": 5000,
        "tags": ("tts", "cpu"),
        "meta": {"lictor-owner": "u"},
        "checks": checks,
    }
    return Registration(service_id, name, **{**given, **fields})


@pytest.fixture
def registry(client, pace) -> ConsulRegistry:
    return ConsulRegistry(client, "host1", pace=pace)


async def test_a_service_and_both_its_checks_appear_with_one_call(registry, consul, unique):
    wanted = registration(unique)
    await registry.apply(Register(wanted))
    view = await registry.read()
    assert view.services[wanted.service_id] == SeenService(
        wanted.service_id, unique, "127.0.0.1", 5000, ("tts", "cpu"), {"lictor-owner": "u"}
    )
    seen = {cid: c for cid, c in view.checks.items() if c.service_id == wanted.service_id}
    assert {cid: c.status for cid, c in seen.items()} == {
        f"{wanted.service_id}:http": "passing",
        f"{wanted.service_id}:lictor": "passing",
    }

    await until(lambda: len(consul.raw("GET", f"health/checks/{unique}").json) == 2)
    http = consul.understood()[f"{wanted.service_id}:http"]
    second = 1_000_000_000
    assert (http["HTTP"], http["Interval"], http["Timeout"]) == (URL, 3600 * second, 5 * second)
    assert http["DeregisterCriticalServiceAfter"] == 600 * second
    ttl = consul.understood()[f"{wanted.service_id}:lictor"]
    assert ttl["TTL"] > 50 * 365 * 24 * 3600 * second
    assert ttl["DeregisterCriticalServiceAfter"] == 0


async def test_consul_itself_asks_the_health_url_and_the_tcp_port(registry, consul, unique):
    async with liar(lambda _: answer("fine")) as service:
        checks = (
            CheckDef("h", "health URL", "http", f"{service.url}/healthz", interval=1, notes="why"),
            CheckDef("t", "port", "tcp", f"127.0.0.1:{service.port}", interval=1),
        )
        given = tuple(replace(check, check_id=f"{unique}:{check.check_id}") for check in checks)
        await registry.apply(Register(registration(unique, checks=given)))

        async def passing():
            seen = (await registry.read()).checks
            return all(seen[check.check_id].status == "passing" for check in given)

        await until(passing)
        assert any(head.startswith("GET /healthz ") for head in service.requests)
        listed = consul.raw("GET", f"health/checks/{unique}").json
        assert {check["Name"]: check["Notes"] for check in listed} == {
            "health URL": "why",
            "port": "",
        }
    await registry.apply(Deregister(f"lictor:host1:{unique}"))


async def test_registering_again_changes_nothing_and_keeps_a_critical_check(
    registry, consul, unique
):
    wanted = registration(unique)
    check = f"{wanted.service_id}:lictor"
    await registry.apply(Register(wanted))
    await registry.apply(SetStatus(check, Health.CRITICAL, "exited with 1"))
    await until(lambda: len(consul.raw("GET", f"health/checks/{unique}").json) == 2)
    index = consul.raw("GET", f"health/service/{unique}").index
    for _ in range(5):
        await registry.apply(Register(wanted))
    assert (await registry.read()).checks[check].status == "critical"
    assert consul.raw("GET", f"health/service/{unique}").index == index
    await registry.apply(RemoveCheck(check))
    await registry.apply(Register(wanted))
    assert (await registry.read()).checks[check].status == "passing"


async def test_foreign_entries_are_left_alone(registry, consul, unique):
    foreign = {"ID": f"lictor:host1:{unique}-side", "Name": unique, "Port": 1, "Tags": ["x"]}
    consul.raw("PUT", "agent/service/register", foreign)
    wanted = registration(unique)
    await registry.apply(Register(wanted))
    await registry.apply(Deregister(wanted.service_id))
    view = await registry.read()
    assert wanted.service_id not in view.services
    assert view.services[foreign["ID"]].tags == ("x",)


async def test_maintenance_survives_a_registration(registry, consul, unique):
    wanted = registration(unique)
    await registry.apply(Register(wanted))
    consul.raw("PUT", f"agent/service/maintenance/{wanted.service_id}?enable=true&reason=r")
    await registry.apply(Register(registration(unique, tags=("other",))))
    view = await registry.read()
    assert view.services[wanted.service_id].tags == ("other",)
    assert f"_service_maintenance:{wanted.service_id}" in view.checks


async def test_a_status_is_in_health_at_once_with_its_sentence(registry, consul, unique):
    wanted = registration(unique)
    await registry.apply(Register(wanted))
    check = f"{wanted.service_id}:lictor"
    sentence = "Beendet: код 1 — 退出\nsecond line"
    for status in (Health.CRITICAL, Health.WARNING, Health.PASSING, Health.MAINTENANCE):
        await registry.apply(SetStatus(check, status, sentence))
        shown = "critical" if status is Health.MAINTENANCE else status.value

        def visible(shown=shown):
            found = consul.raw("GET", f"health/checks/{unique}").json
            return [c for c in found if c["CheckID"] == check and c["Status"] == shown]

        (found,) = await until(visible, seconds=5)
        assert found["Output"] == sentence


async def test_removing_what_is_not_there_is_no_error(registry, unique):
    await registry.apply(Deregister(f"lictor:host1:{unique}"))
    await registry.apply(RemoveCheck(f"lictor:host1:{unique}:http"))


async def test_removing_what_a_newer_consul_answers_with_404_is_no_error(connect):
    async with liar(lambda _: answer("Unknown service ID", status="404 Not Found")) as server:
        registry = ConsulRegistry(connect(server.url), "host1")
        await registry.apply(Deregister("x"))
        await registry.apply(RemoveCheck("x"))


async def test_the_status_of_a_check_that_is_not_there_is_not_found(registry, unique):
    with pytest.raises(NotFound):
        await registry.apply(SetStatus(f"{unique}:none", Health.PASSING, ""))


async def test_what_consul_calls_malformed_is_refused_with_its_words(registry, unique):
    with pytest.raises(BadRequest, match=r"(?i)meta"):
        await registry.apply(Register(registration(unique, meta={"a.b c": "x" * 600})))


async def test_a_service_without_checks_tags_or_meta_can_be_registered(registry, unique):
    await registry.apply(Register(registration(unique, checks=(), tags=(), meta={})))
    seen = (await registry.read()).services[f"lictor:host1:{unique}"]
    assert (seen.tags, seen.meta) == ((), {})


async def test_tags_that_were_dropped_from_the_registration_are_dropped_in_consul(registry, unique):
    await registry.apply(Register(registration(unique)))
    await registry.apply(Register(registration(unique, tags=(), meta={})))
    seen = (await registry.read()).services[f"lictor:host1:{unique}"]
    assert (seen.tags, seen.meta) == ((), {})


async def test_ready_is_quiet_on_a_good_consul(registry):
    await registry.ready()


async def test_ready_says_when_there_is_no_leader(connect):
    def script(head):
        if "/acl/" in head:
            return answer("ACL support disabled", status="401 Unauthorized")
        return answer('""')

    async with liar(script) as server:
        with pytest.raises(NoLeader):
            await ConsulRegistry(connect(server.url), "host1").ready()


async def test_ready_tells_no_token_from_an_unknown_one_and_accepts_a_good_one(acl_consul, connect):
    with pytest.raises(Forbidden) as none:
        await ConsulRegistry(connect(acl_consul.http), "host1").ready()
    assert (none.value.code, none.value.unknown_token) == ("consul.no_token", False)
    wrong = connect(acl_consul.http, token="00000000-0000-4000-8000-000000000000")
    with pytest.raises(Forbidden) as unknown:
        await ConsulRegistry(wrong, "host1").ready()
    assert unknown.value.unknown_token
    await ConsulRegistry(connect(acl_consul.http, token=acl_consul.master), "host1").ready()


async def test_the_node_name_is_consuls_own(registry, consul):
    assert await registry.consul_node_name() == consul.node


async def test_health_is_told_on_change_only_and_within_a_moment(registry, client, consul, unique):
    wanted = registration(unique)
    await registry.apply(Register(wanted))
    check = f"{wanted.service_id}:lictor"
    await until(lambda: len(consul.raw("GET", f"health/checks/{unique}").json) == 2)
    async with aclosing(registry.watch_health()) as changes:
        first = await next_of(changes)
        assert first.value[check] == ("passing", "")
        waiting = asyncio.create_task(anext(changes))
        await client.kv_put(f"{unique}/noise", "x")
        await asyncio.sleep(0.3)
        # A check that another test left on this node may change at any moment.
        assert not waiting.done() or waiting.result().value != first.value
        await registry.apply(SetStatus(check, Health.CRITICAL, "exited with 1"))
        async with asyncio.timeout(5):
            second = await waiting
            while second.value[check] == first.value[check]:
                second = await anext(changes)
        assert second.value[check] == ("critical", "exited with 1")


async def test_health_is_unknown_once_while_consul_is_away_and_known_again_after(
    own_consul, connect
):
    registry = ConsulRegistry(
        connect(own_consul.http), "host1", pace=Pace(first_delay=0.05, max_delay=0.2)
    )
    async with aclosing(registry.watch_health()) as changes:
        assert isinstance(await next_of(changes), Known)
        waiting = asyncio.create_task(anext(changes))
        own_consul.kill()
        gone = await asyncio.wait_for(waiting, 10)
        assert gone.reason.code == "consul.unreachable"
        waiting = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        with pytest.raises(ConsulUnreachable):
            await registry.read()
        await asyncio.to_thread(own_consul.restart)
        back = await asyncio.wait_for(waiting, 20)
        # While it starts, it may answer without a leader: another true reason.
        while isinstance(back, Unknown):
            back = await next_of(changes)
        assert "serfHealth" in back.value


async def test_health_that_the_token_may_not_see_is_unknown(acl_consul, connect, pace):
    token = acl_consul.token_for('agent_prefix "" { policy = "read" }')
    registry = ConsulRegistry(connect(acl_consul.http, token=token), "host1", pace=pace)
    async with aclosing(registry.watch_health()) as changes:
        seen = await next_of(changes)
        assert isinstance(seen, Unknown)
        assert seen.reason.code == "consul.node_hidden"
