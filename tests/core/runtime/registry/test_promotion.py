"""The order of writes, against a Consul in memory whose catalog may be late."""

from __future__ import annotations

from lictor.core.model.registration import (
    Deregister,
    Register,
    Registration,
    RegistryView,
    SeenService,
)
from lictor.core.planning.groups import GROUP_META, STANDBY
from lictor.core.runtime.registry.promotion import write_in_order
from lictor.core.testing import FakeRegistry
from tests.core.virtual import virtual


def entry(member: str, *tags: str) -> Registration:
    return Registration(
        f"lictor:host1:voice:{member}",
        "voice",
        "127.0.0.1",
        1,
        (member, *tags),
        {GROUP_META: "voice"},
    )


def seen_as(*entries: Registration) -> RegistryView:
    return RegistryView(
        {
            e.service_id: SeenService(e.service_id, e.name, e.address, e.port, e.tags, e.meta)
            for e in entries
        }
    )


class LateCatalog(FakeRegistry):
    """Its catalog shows what the agent had `behind` looks ago."""

    def __init__(self, behind: int) -> None:
        super().__init__()
        self.behind = behind
        self.looks = 0

    async def in_catalog(self):
        self.looks += 1
        return {} if self.looks <= self.behind else await super().in_catalog()


async def ordered(registry: FakeRegistry) -> list[list[str]]:
    """Take the place from xtts for openvoice; what was written in which turn."""
    turns: list[list[str]] = []

    async def write(writes):
        turns.append([write.registration.tags[0] for write in writes])
        for each in writes:
            await registry.apply(each)

    seen = seen_as(entry("xtts"), entry("openvoice", STANDBY))
    registry.view = seen
    writes = [Register(entry("xtts", STANDBY)), Register(entry("openvoice"))]
    await write_in_order(write, registry, writes, seen)
    return turns


@virtual
async def test_who_loses_the_place_waits_until_the_catalog_shows_who_gets_it():
    registry = LateCatalog(behind=3)
    assert await ordered(registry) == [["openvoice"], ["xtts"]]
    assert registry.looks == 4


@virtual
async def test_a_catalog_that_never_follows_does_not_hold_the_rest_up_for_ever():
    registry = LateCatalog(behind=10_000)
    assert await ordered(registry) == [["openvoice"], ["xtts"]]


@virtual
async def test_where_nobody_gets_a_place_nothing_is_waited_for():
    registry = LateCatalog(behind=0)
    turns: list[int] = []

    async def write(writes):
        turns.append(len(writes))

    await write_in_order(write, registry, [Register(entry("piper", STANDBY))], RegistryView())
    assert (turns, registry.looks) == ([1], 0)


@virtual
async def test_a_groups_name_goes_before_the_entry_whose_verdict_it_repeats():
    own = Registration("lictor:host1:xtts", "xtts", "127.0.0.1", 1, (), {})
    seen = seen_as(own, entry("xtts"))
    turns: list[list[str]] = []

    async def write(writes):
        turns.append([each.service_id for each in writes])

    writes = [Deregister(own.service_id), Deregister(entry("xtts").service_id)]
    await write_in_order(write, LateCatalog(behind=0), writes, seen)
    assert turns == [[entry("xtts").service_id], [own.service_id]]
