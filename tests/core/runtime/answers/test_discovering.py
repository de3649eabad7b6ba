"""`discover`: what is said of each instance, whatever somebody wrote into Consul."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import OWNER_META
from lictor.core.planning.groups import MEMBER_META
from lictor.core.ports import Instance
from lictor.core.runtime.answers.discovering import discover
from lictor.core.runtime.registry.finder import Found

OWNER, WALL = "the-owner", 1000.0
OK = because("consul.ok")


def agent(*instances: Instance, state: Reason = OK) -> SimpleNamespace:
    """As much of an agent as the question looks at; `piper` failed 30 s ago, `doubts` are noted."""
    doubts: list[str | None] = []

    async def find(_discovery, _name, *, doubt, **_):
        doubts.append(doubt and doubt.code)
        return Found(instances, WALL, 0.0, None)

    failed = SimpleNamespace(state=SimpleNamespace(failing_since=70.0, since=0.0))
    return SimpleNamespace(
        doubts=doubts,
        owner=SimpleNamespace(uuid=OWNER),
        tools=SimpleNamespace(clock=SimpleNamespace(now=lambda: 100.0, wall=lambda: WALL)),
        reconciler=SimpleNamespace(runners={ServiceKey("piper"): failed}),
        consul=SimpleNamespace(
            ports=SimpleNamespace(discovery=None),
            state=state,
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


async def test_what_is_known_to_be_wrong_with_consul_is_said_with_the_question():
    away = because("consul.unreachable", message="it does not answer")
    for state, told in ((OK, None), (away, "consul.unreachable")):
        asked = agent(member("piper"), state=state)
        await discover(asked, {"name": "voice"}, nothing)
        assert asked.doubts == [told]
