"""`discover`: what is said of each instance, whatever somebody wrote into Consul."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.registration import OWNER_META
from lictor.core.planning.groups import MEMBER_META
from lictor.core.ports import Instance
from lictor.core.runtime.answers.discovering import discover
from lictor.core.runtime.registry.finder import Found

OWNER, WALL = "the-owner", 1000.0


def agent(*instances: Instance) -> SimpleNamespace:
    """As much of an agent as the question looks at; `piper` failed 30 s ago."""

    async def find(_discovery, _name, **_):
        return Found(instances, WALL, 0.0, None)

    state = SimpleNamespace(failing_since=70.0, since=0.0)
    return SimpleNamespace(
        owner=SimpleNamespace(uuid=OWNER),
        tools=SimpleNamespace(clock=SimpleNamespace(now=lambda: 100.0, wall=lambda: WALL)),
        reconciler=SimpleNamespace(runners={ServiceKey("piper"): SimpleNamespace(state=state)}),
        consul=SimpleNamespace(
            ports=SimpleNamespace(discovery=None),
            state=because("consul.ok"),
            finder=SimpleNamespace(find=find, since=lambda _: None),
            said=lambda _: None,
        ),
    )


def member(of: str) -> Instance:
    meta = {OWNER_META: OWNER, MEMBER_META: of}
    return Instance("voice", f"id-{of}", "host1", "127.0.0.1", 1, (), meta, "passing", "")


async def nothing(_item) -> None:
    pass


@pytest.mark.parametrize("forged", ["", "no name", "piper@", "x" * 64])
async def test_an_entry_with_a_forged_name_hides_none_of_the_others(forged):
    rows = await discover(agent(member(forged), member("piper")), {"name": "voice"}, nothing)
    assert [(row["id"], row["since"]) for row in rows] == [
        (f"id-{forged}", None),
        ("id-piper", WALL - 30),
    ]
