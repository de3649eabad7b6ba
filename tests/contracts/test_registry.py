"""`ports.Registry`: what a local Consul agent does with our writes, real and in memory."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.errors import NotFound
from lictor.core.model.known import Known
from lictor.core.model.registration import (
    CheckDef,
    Deregister,
    Register,
    Registration,
    RemoveCheck,
    SetStatus,
)
from lictor.core.model.state import Health
from lictor.core.testing import FakeRegistry
from tests.support.patience import next_of


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.consul)])
def registry(request, pace):
    if request.param == "fake":
        return FakeRegistry()
    return ConsulRegistry(request.getfixturevalue("client"), "host1", pace=pace)


@pytest.fixture
def wanted(unique) -> Registration:
    sid = f"lictor:host1:{unique}"
    url = "http://127.0.0.1:9/health"
    checks = (
        CheckDef(f"{sid}:http", "Health", "http", url, interval=3600, status=Health.PASSING),
        CheckDef(f"{sid}:lictor", "Lictor", "ttl", status=Health.CRITICAL),
    )
    return Registration(sid, unique, "127.0.0.1", 5000, ("a", "b"), {"k": "v"}, checks)


@pytest.fixture
def ttl(wanted) -> str:
    return f"{wanted.service_id}:lictor"


async def test_what_is_registered_is_read_back_with_its_checks(registry, wanted, ttl):
    await registry.ready()
    await registry.apply(Register(wanted))
    view = await registry.read()
    seen = view.services[wanted.service_id]
    assert (seen.name, seen.address, seen.port) == (wanted.name, "127.0.0.1", 5000)
    assert (sorted(seen.tags), seen.meta["k"]) == (["a", "b"], "v")
    assert (view.checks[ttl].service_id, view.checks[ttl].status) == (seen.service_id, "critical")


async def test_registering_again_keeps_the_status_and_takes_the_new_definition(
    registry, wanted, ttl
):
    await registry.apply(Register(wanted))
    await registry.apply(SetStatus(ttl, Health.PASSING, "fine"))
    moved = Registration(wanted.service_id, wanted.name, "127.0.0.2", 1, checks=wanted.checks)
    await registry.apply(Register(moved))
    view = await registry.read()
    assert (view.checks[ttl].status, view.checks[ttl].output) == ("passing", "fine")
    seen = view.services[wanted.service_id]
    assert (seen.address, seen.port, seen.tags) == ("127.0.0.2", 1, ())


async def test_a_check_taken_out_and_registered_anew_starts_with_its_first_status(
    registry, wanted, ttl
):
    await registry.apply(Register(wanted))
    await registry.apply(SetStatus(ttl, Health.PASSING, ""))
    await registry.apply(RemoveCheck(ttl))
    assert ttl not in (await registry.read()).checks
    await registry.apply(Register(wanted))
    assert (await registry.read()).checks[ttl].status == "critical"


async def test_a_check_that_is_left_out_of_a_registration_stays(registry, wanted, ttl):
    await registry.apply(Register(wanted))
    bare = Registration(wanted.service_id, wanted.name, "127.0.0.1", 5000)
    await registry.apply(Register(bare))
    assert ttl in (await registry.read()).checks


async def test_deregistering_takes_the_checks_along_and_nothing_else(registry, wanted, ttl):
    other = Registration(f"{wanted.service_id}-two", wanted.name, "127.0.0.1", 1)
    await registry.apply(Register(wanted))
    await registry.apply(Register(other))
    for _ in range(2):  # doing it again changes nothing
        await registry.apply(Deregister(wanted.service_id))
    view = await registry.read()
    assert wanted.service_id not in view.services
    assert ttl not in view.checks
    assert other.service_id in view.services


async def test_removing_a_check_that_is_not_there_is_no_error(registry, unique):
    await registry.apply(RemoveCheck(f"{unique}:none"))


async def test_the_status_of_a_check_that_is_not_there_is_not_found(registry, unique):
    with pytest.raises(NotFound):
        await registry.apply(SetStatus(f"{unique}:none", Health.PASSING, ""))


async def test_maintenance_is_said_as_critical(registry, wanted, ttl):
    await registry.apply(Register(wanted))
    await registry.apply(SetStatus(ttl, Health.MAINTENANCE, "new disk"))
    assert (await registry.read()).checks[ttl].status == "critical"


async def test_health_is_told_on_each_change(registry, wanted, ttl):
    await registry.apply(Register(wanted))

    async def told(status):
        while True:
            view = await next_of(changes)
            assert isinstance(view, Known)
            if view.value.get(ttl, ("", ""))[0] == status:
                return view.value[ttl][1]

    async with aclosing(registry.watch_health()) as changes:
        await told("critical")
        await registry.apply(SetStatus(ttl, Health.PASSING, "ready"))
        assert await told("passing") == "ready"
