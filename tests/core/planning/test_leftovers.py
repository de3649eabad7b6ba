"""What counts as left over, and what may be taken out: only what is proved, entry by entry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.leftover import Gone, Leftover, Listed
from lictor.core.planning.leftovers import SURELY_GONE, find
from lictor.core.planning.registration import Owner

OWNER = Owner("us", "host1")
OURS = Listed(
    id="lictor:host1:piper",
    service="piper",
    node="consul1",
    owner="us",
    lictor_node="host1",
    health="critical",
    here=True,
    held=False,
    upheld=True,
)
#: An entry of host2, whose Consul agent is dead with it.
THEIRS = replace(
    OURS,
    id="lictor:host2:piper",
    node="consul2",
    owner="them",
    lictor_node="host2",
    here=False,
    upheld=False,
)
GONE = Gone("host2", "them", age=3600.0)


def judged(entry: Listed, **options) -> Leftover | None:
    known = {"wanted": (), "kept": (), "gone": (GONE,), "alive": ("us",), **options}
    found = find([entry], OWNER, **known)
    return found[0] if found else None


def verdict(entry: Listed, **options) -> tuple[str, bool] | None:
    found = judged(entry, **options)
    return (found.reason.code, found.removable) if found is not None else None


def test_an_entry_of_ours_without_a_service_may_go_and_one_with_a_service_is_none():
    assert verdict(OURS) == ("leftover.own", True)
    assert verdict(OURS, wanted={OURS.id}) is None


def test_what_the_registrar_takes_out_by_itself_is_not_offered():
    assert verdict(replace(OURS, held=True), kept={OURS.id}) is None


def test_an_entry_of_ours_on_another_consul_node_may_go_only_if_that_one_is_dead():
    far = replace(OURS, node="old-consul", here=False)
    assert verdict(far, wanted={OURS.id}) == ("leftover.own_upheld", False)
    assert verdict(replace(far, upheld=False)) == ("leftover.own_elsewhere", True)


def test_the_entries_of_a_dead_agent_may_go_when_nothing_answers():
    assert verdict(THEIRS) == ("leftover.agent_gone", True)
    assert judged(THEIRS).reason.params == {"node": "host2", "age": 3600.0}


@pytest.mark.parametrize("health", ["passing", "warning", "maintenance"])
def test_what_answers_stays_whoever_looks_after_it(health):
    assert verdict(replace(THEIRS, health=health)) == ("leftover.still_works", False)


def test_what_another_living_consul_holds_is_left_to_that_host():
    assert verdict(replace(THEIRS, upheld=True)) == ("leftover.upheld", False)
    beside = replace(THEIRS, here=True, held=True, upheld=True)  # two agents, one Consul
    assert verdict(beside) == ("leftover.agent_gone", True)


def test_an_agent_that_lives_or_was_here_a_moment_ago_keeps_its_entries():
    assert verdict(THEIRS, gone=(), alive=("us", "them")) is None
    assert verdict(THEIRS, gone=(replace(GONE, age=SURELY_GONE - 1),)) is None


def test_the_document_of_a_node_proves_only_the_agent_that_it_names():
    assert verdict(THEIRS, gone=(Gone("host2", "somebody", 3600.0),)) == (
        "leftover.nobody_known",
        False,
    )
    assert verdict(THEIRS, gone=(Gone("host3", "them", 3600.0),)) == (
        "leftover.nobody_known",
        False,
    )


def test_an_id_like_ours_without_the_mark_is_shown_and_never_touched():
    assert verdict(replace(OURS, owner="")) == ("leftover.look_alike", False)
    assert verdict(replace(OURS, owner="", lictor_node="")) == ("leftover.look_alike", False)


def test_a_twin_with_our_uuid_and_another_name_is_another_agent():
    twin = replace(OURS, lictor_node="host1-copy", id="lictor:host1-copy:piper")
    assert verdict(twin, alive=("us",)) is None


entries = st.builds(
    Listed,
    id=st.sampled_from(["lictor:host1:piper", "lictor:host2:piper", "other"]),
    service=st.just("piper"),
    node=st.sampled_from(["consul1", "consul2"]),
    owner=st.sampled_from(["", "us", "them", "others"]),
    lictor_node=st.sampled_from(["", "host1", "host2"]),
    health=st.sampled_from(["passing", "warning", "critical", "maintenance"]),
    here=st.booleans(),
    held=st.booleans(),
    upheld=st.booleans(),
)


@given(entries, st.booleans(), st.sets(st.sampled_from(["us", "them", "others"])))
def test_nothing_foreign_alive_or_working_of_others_may_ever_go(entry, wanted, alive):
    found = judged(entry, wanted={entry.id} if wanted else (), alive=alive | {"us"})
    if found is None or not found.removable:
        return
    assert entry.owner
    if (entry.owner, entry.lictor_node) == ("us", "host1"):
        assert not (entry.here and wanted)
        assert entry.here or not entry.upheld
    else:
        assert entry.owner not in alive | {"us"}
        assert (entry.owner, entry.lictor_node) == (GONE.agent, GONE.node)
        assert entry.health == "critical"
        assert entry.here or not entry.upheld
