"""A bug that shows with one service only must not take the others with it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lictor.core.planning.reconcile import plan
from lictor.core.planning.registration import Owner, wanted
from lictor.core.runtime.registry import consul_side
from lictor.core.runtime.registry.consul_side import ConsulSide
from lictor.core.runtime.supervision import reconciler
from tests.core.build import key, want
from tests.core.virtual import virtual
from tests.core.world import World


@pytest.mark.checklist(
    40,
    "two services",
    "planning one of them raises an exception",
    "the other is planned, started and kept; the error is shown with its service",
)
@virtual
async def test_a_service_that_cannot_be_planned_keeps_no_other_from_running():
    world = World(want("good"), want("bad"))
    await world.until("ready", "good")
    reconciler.plan = breaking(plan, "bad")
    try:
        world.want(want("good", command=("another",)), want("bad", command=("another",)))
        await asyncio.sleep(5)
        await world.until("ready", "good")
        assert world.driver.started[-1].command == ("another",)
        assert world.phase("bad") == "ready"
        assert set(world.reconciler.broken) == {key("bad")}
        assert "on purpose" in world.reconciler.broken[key("bad")]
        assert world.reconciler.preview().actions == ()
    finally:
        reconciler.plan = plan
    world.reconciler.wake(*world.reconciler.desired)  # the next full pass
    await asyncio.sleep(5)
    assert world.reconciler.broken == {}
    assert {str(spec.key) for spec in world.driver.started[2:]} == {"good", "bad"}


def breaking(real, name):
    def broken(*args, only, **options):
        if key(name) in only:
            raise ZeroDivisionError("on purpose")
        return real(*args, only=only, **options)

    return broken


@pytest.mark.checklist(
    40,
    "two registered services",
    "working out the entry of one raises an exception",
    "its entry stays as it was, the other is kept true; the error is shown",
)
@virtual
async def test_an_entry_that_cannot_be_worked_out_stays_and_the_others_follow(monkeypatch):
    world = World(want("good"), want("bad"))
    await world.until("ready", "good")
    agent = SimpleNamespace(
        reconciler=world.reconciler,
        owner=Owner("us", "host1"),
        node="host1",
        web_url=None,
        tools=SimpleNamespace(store=world.store, clock=world.clock, prober=world.prober),
        config=SimpleNamespace(services={}),
    )
    side = ConsulSide(agent)
    before = entries(side)
    assert set(before) == {"lictor:host1:good", "lictor:host1:bad"}

    def broken(wish, *rest):
        if wish.spec.key == key("bad"):
            raise ZeroDivisionError("on purpose")
        return wanted(wish, *rest)

    monkeypatch.setattr(consul_side, "wanted", broken)
    world.want(want("good", port=1), want("bad", port=1))
    after = entries(side)
    assert after["lictor:host1:good"].port == 1
    assert after["lictor:host1:bad"] == before["lictor:host1:bad"]
    (trouble,) = side.troubles()
    assert trouble.code == "registry.broken"
    assert trouble.params["service"] == "bad"


def entries(side):
    return {e.registration.service_id: e.registration for e in side._entries()}
