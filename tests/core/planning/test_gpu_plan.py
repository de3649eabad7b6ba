"""The plan with cards: who starts where, who is stopped for it, and what is said meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.desired import Source
from lictor.core.model.gpu import Gpu, GpuProcess, GpuSpec, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.plan import Verb
from lictor.core.model.reason import because
from lictor.core.planning.foresee import foresee, ordered
from lictor.core.planning.gpu_plan import Board, Place, cards_of, same, verdict_of
from lictor.core.planning.placement import HEADROOM, Evict, Lingering
from lictor.core.planning.reconcile import plan
from tests.core.build import NOW, WALL, desired, key, now_in, steps, want

GIB = 1024**3


def wants(name: str, gib: float = 9, **fields):
    """A service that is wanted and needs a card."""
    gpu = GpuSpec(memory=int(gib * GIB), pinned=fields.pop("pinned", False))
    return want(name, gpu=gpu, **fields)


def board(*, total: float = 24, cards: int = 1, holds=None, **fields) -> Board:
    """Cards of `total` GiB; `holds` is GiB on the first one by service."""
    held = {key(name): int(size * GIB) for name, size in (holds or {}).items()}
    used = sum(held.values())
    there = [
        Gpu(f"GPU-{i}", i, capability=8.9, total=int(total * GIB), free=int(total * GIB), used=0)
        for i in range(cards)
    ]
    processes = tuple(GpuProcess(50 + i, size) for i, size in enumerate(held.values()))
    there[0] = replace(there[0], free=int(total * GIB) - used, used=used, processes=processes)
    idle = fields.pop("idle", list(held))
    return Board(
        seen=Known(Inventory(tuple(there))),
        places={name: Place("GPU-0", size) for name, size in held.items()},
        used={name: {"GPU-0": size} for name, size in held.items()},
        idle_since={key(name) if isinstance(name, str) else name: NOW - 600 for name in idle},
        **{
            name: frozenset(key(one) for one in value) if name == "ordered" else value
            for name, value in fields.items()
        },
    )


def started(action_plan) -> dict[str, tuple[str, ...]]:
    return {str(a.service): a.gpus for a in action_plan.actions if a.verb is Verb.START}


def test_a_start_gets_a_card_and_a_claim():
    (action,) = plan(desired(wants("xtts")), {}, NOW, board=board()).actions
    assert (action.verb, action.gpus, action.claim) == (Verb.START, ("GPU-0",), 9 * GIB)


def test_a_service_without_gpu_starts_as_ever_and_without_a_board_nobody_needs_one():
    assert started(plan(desired(want("piper")), {}, NOW, board=board())) == {"piper": ()}
    assert started(plan(desired(wants("xtts")), {}, NOW)) == {"xtts": ()}


def test_what_is_observed_is_not_placed():
    wanted = desired(wants("there", driver="observed"))
    assert started(plan(wanted, {}, NOW, board=board(cards=1, total=1))) == {"there": ()}


def test_of_two_one_loads_and_the_better_rank_is_first():
    wanted = desired(wants("b", rank=20), wants("a", rank=30))
    assert steps(wanted, {}, board=board()) == {
        "b": ("start", "start.config"),
        "a": ("queue", "gpu.loading"),
    }


def test_who_was_ordered_is_first_whatever_its_rank():
    wanted = desired(wants("b", rank=20), wants("a", rank=30))
    assert steps(wanted, {}, board=board(ordered=("a",))) == {
        "a": ("start", "start.config"),
        "b": ("queue", "gpu.loading"),
    }


def test_what_is_kept_for_one_that_waits_is_given_to_nobody_after_it():
    wanted = desired(wants("first", 16, rank=1), wants("second", 12, rank=2))
    lingering = {"GPU-0": (Lingering(key("old"), 4 * GIB),)}
    found = steps(wanted, {}, board=board(holds={}, lingering=lingering))
    assert found == {"first": ("queue", "gpu.releasing"), "second": ("queue", "gpu.no_room")}


def test_on_two_cards_two_load_at_once():
    wanted = desired(wants("a"), wants("b"))
    found = started(plan(wanted, {}, NOW, board=board(cards=2)))
    assert sorted(found.values()) == [("GPU-0",), ("GPU-1",)]


@pytest.mark.parametrize(
    ("seen", "verb", "code"),
    [
        (Unknown(because("gpu.unknown", why="it hangs")), "queue", "gpu.unknown"),
        (Known(Inventory(problem="no_driver")), "block", "gpu.none"),
    ],
)
def test_unknown_waits_and_none_is_blocked_and_neither_stops_anybody(seen, verb, code):
    wanted = desired(wants("xtts"), wants("runs"))
    actual = {"runs": now_in("ready", wanted[key("runs")].spec)}
    assert steps(wanted, actual, board=Board(seen=seen)) == {"xtts": (verb, code)}


def test_an_old_look_is_not_relied_on_and_what_was_said_stays():
    wanted = desired(wants("xtts"))
    old = replace(board(), fresh=False)
    assert steps(wanted, {}, board=old) == {"xtts": ("queue", "gpu.looking")}
    blocked = now_in("blocked", reason=because("gpu.none"))
    assert steps(wanted, {"xtts": blocked}, board=old) == {}


# --- eviction -------------------------------------------------------------------------------------


def evicting(**fields):
    """`xtts` is there and ready for a minute; `vllm` needs its place."""
    xtts = wants("xtts", **fields.pop("xtts", {}))
    vllm = wants("vllm", 20, **fields.pop("vllm", {}))
    wanted = desired(xtts, vllm, *fields.pop("more", ()))
    actual = {"xtts": now_in("ready", xtts.spec, **fields.pop("state", {}))}
    actual |= fields.pop("actual", {})
    return steps(wanted, actual, board=board(holds={"xtts": 9}, **fields))


def test_an_order_stops_who_is_idle_and_waits():
    assert evicting(ordered=["vllm"]) == {
        "xtts": ("stop", "gpu.evicted"),
        "vllm": ("queue", "gpu.evicting"),
    }


def test_by_itself_it_stops_nobody_of_its_own_rank_and_whoever_has_a_worse_one():
    assert evicting() == {"vllm": ("block", "gpu.no_room")}
    assert evicting(vllm={"rank": 10})["xtts"] == ("stop", "gpu.evicted")


@pytest.mark.parametrize(
    "why",
    [
        {"xtts": {"pinned": True}},
        {"idle": []},
        {"xtts": {"state": "maintenance"}},
        {"xtts": {"source": Source.HOLD, "by": "anna"}},
    ],
)
def test_some_are_never_stopped_for_another(why):
    assert evicting(ordered=["vllm"], **why) == {"vllm": ("block", "gpu.no_room")}


def test_who_is_needed_by_another_stays():
    client = want("client", needs=["xtts"])
    found = evicting(
        ordered=["vllm"], more=[client], actual={"client": now_in("ready", client.spec)}
    )
    assert found == {"vllm": ("block", "gpu.no_room")}


def test_who_just_came_is_waited_for():
    assert evicting(ordered=["vllm"], state={"ready_since": NOW - 5}) == {
        "vllm": ("queue", "gpu.no_room")
    }


def test_one_that_keeps_failing_drives_nobody_away_by_itself():
    failing = {"vllm": now_in("backoff", failures=3, next_start=NOW - 1)}
    assert evicting(vllm={"rank": 10}, actual=failing) == {"vllm": ("block", "gpu.no_room")}


def test_the_place_of_one_that_is_about_to_start_again_is_kept():
    wanted = desired(wants("crashed", 20), wants("other", 9))
    crashed = wanted[key("crashed")].spec
    soon = now_in("backoff", crashed, failures=1, next_start=NOW + 5)
    later = now_in("backoff", crashed, failures=9, next_start=NOW + 300)
    there = replace(board(), places={key("crashed"): Place("GPU-0", 20 * GIB)})
    assert steps(wanted, {"crashed": soon}, board=there)["other"] == ("block", "gpu.no_room")
    assert steps(wanted, {"crashed": later}, board=there)["other"] == ("start", "start.config")


def test_whoever_was_evicted_keeps_saying_so_and_comes_back_when_there_is_room():
    wanted = desired(wants("xtts"), wants("vllm", 20))
    gone = because("gpu.evicted", service="vllm", gpu=0)
    actual = {
        "xtts": now_in("stopped", reason=gone),
        "vllm": now_in("ready", wanted[key("vllm")].spec),
    }
    there = board(holds={"vllm": 20})
    assert steps(wanted, actual, board=there) == {"xtts": ("block", "gpu.evicted")}
    actual["xtts"] = now_in("blocked", reason=gone)
    assert steps(wanted, actual, board=there) == {}
    assert started(plan(wanted, {key("xtts"): actual["xtts"]}, NOW, board=board()))


def test_a_plan_of_one_gpu_service_looks_at_all_of_them():
    wanted = desired(wants("a", 20, rank=1), wants("b", 20, rank=2))
    found = steps(wanted, {}, board=board(), only=[key("b")])
    # While one loads, the other is not given up: who knows what it will take.
    assert found == {"a": ("start", "start.config"), "b": ("queue", "gpu.no_room")}


def test_where_the_driver_names_nobody_what_is_used_is_not_counted_twice():
    xtts = wants("xtts")
    wanted = desired(xtts, wants("other", 12))
    actual = {"xtts": now_in("ready", xtts.spec)}
    there = board(holds={"xtts": 9})
    assert isinstance(there.seen, Known)
    (card,) = there.seen.value.cards
    silent = replace(there, used={}, seen=Known(Inventory((replace(card, processes=None),))))
    assert steps(wanted, actual, board=silent) == {"other": ("start", "start.config")}


def test_what_a_driver_keeps_for_itself_on_a_quiet_card_is_no_tenants():
    xtts = wants("xtts")
    actual = {"xtts": now_in("ready", xtts.spec)}
    there = board(holds={"xtts": 9})
    assert isinstance(there.seen, Known)
    (card,) = there.seen.value.cards
    bare = replace(card, processes=None, used=2 * GIB // 5, free=24 * GIB - 2 * GIB // 5)
    quiet = replace(there, used={}, seen=Known(Inventory((bare,))))
    assert steps(desired(xtts, wants("other", 14.2)), actual, board=quiet)["other"][0] == "start"
    assert steps(desired(xtts, wants("other", 14.5)), actual, board=quiet)["other"][0] == "block"


def test_of_whom_the_driver_tells_no_memory_has_what_it_was_promised():
    xtts = wants("xtts")
    actual = {"xtts": now_in("ready", xtts.spec)}
    there = board(holds={"xtts": 9})
    mute = replace(there, used={key("xtts"): {"GPU-0": None}})
    assert steps(desired(xtts, wants("other", 12)), actual, board=mute)["other"][0] == "start"


def test_one_of_which_nothing_is_known_starts_where_a_program_has_room_at_all():
    wanted = desired(want("new", gpu=GpuSpec()))
    assert steps(wanted, {}, board=board(holds={"there": 23})) == {"new": ("start", "start.config")}
    assert steps(wanted, {}, board=board(holds={"there": 23.5}))["new"][0] == "block"


def test_whoever_was_evicted_says_so_while_the_cards_are_looked_at():
    wanted = desired(wants("xtts"))
    gone = now_in("stopped", reason=because("gpu.evicted", service="vllm", gpu=0))
    old = replace(board(), fresh=False)
    assert steps(wanted, {"xtts": gone}, board=old) == {"xtts": ("block", "gpu.evicted")}


# --- what is news -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ({"free": 7 * GIB + 1000}, False),
        ({"free": 9 * GIB}, True),
        ({"holders": "xtts 9000000000 idle 130"}, False),
        ({"holders": "xtts 9000000000 idle 5000"}, True),
        ({"holders": "xtts 9000000000 idle 3"}, True),
        ({"holders": "xtts 9000000000 busy 0"}, True),
        ({"holders": "xtts 9000000000 idle 100; pid:5 3000000000 stranger 0"}, True),
        ({"gpu": 1}, True),
    ],
)
def test_a_reason_is_told_again_only_when_it_has_really_changed(after, told):
    before = {"needs": GIB, "gpu": 0, "free": 7 * GIB, "holders": "xtts 9000000000 idle 100"}
    first = because("gpu.no_room", **before)
    assert same(first, because("gpu.no_room", **{**before, **after})) is not told


# --- looking ahead ----------------------------------------------------------------------------------


def test_the_preview_of_an_order_shows_who_leaves():
    xtts = wants("xtts")
    wanted = desired(xtts, wants("vllm", 20, state="stopped"))
    actual = {key("xtts"): now_in("ready", xtts.spec), key("vllm"): now_in("stopped")}
    after = ordered(wanted, [key("vllm")], "start", by="anna", wall=WALL)
    there = board(holds={"xtts": 9}).as_ordered([key("vllm")])
    deeds = foresee(after, actual, NOW, wall=WALL, board=there)
    assert [(a.verb.value, str(a.service)) for a in deeds] == [
        ("stop", "xtts"),
        ("start", "vllm"),
        ("block", "xtts"),
    ]


def test_what_an_order_would_do_can_be_asked_without_ordering():
    xtts = wants("xtts")
    wanted = desired(xtts, wants("vllm", 20, state="stopped"))
    actual = {key("xtts"): now_in("ready", xtts.spec), key("vllm"): now_in("stopped")}
    found = verdict_of(key("vllm"), wanted, actual, NOW, board(holds={"xtts": 9}))
    assert isinstance(found, Evict)
    assert found.victims == (key("xtts"),)


# --- whatever the world is like -----------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def worlds(draw):
    """Services in any phase on up to two cards, and orders for some of them."""
    found, actual, held = [], {}, {}
    for name in sorted(draw(st.sets(names, min_size=1))):
        gib = draw(st.integers(1, 20))
        one = wants(name, gib, rank=draw(st.sampled_from([10, 50, 100])))
        found.append(one)
        phase = draw(st.sampled_from(["stopped", "queued", "backoff", "starting", "ready"]))
        since = NOW - draw(st.sampled_from([5, 60, 3600]))
        more = {"ready_since": since} if phase == "ready" else {}
        more |= {"next_start": NOW - 1} if phase == "backoff" else {}
        actual[one.spec.key] = now_in(phase, one.spec, **more)
        if phase in {"starting", "ready"}:
            held[name] = draw(st.integers(0, gib))
    total = max(24, sum(held.values()) + 1)
    there = board(
        total=total,
        cards=draw(st.integers(1, 2)),
        holds=held,
        idle=sorted(draw(st.sets(names))),
        ordered=sorted(draw(st.sets(names))),
    )
    claims = {one.spec.key: one.spec.gpu.memory for one in found}
    places = {name: Place("GPU-0", claims[name]) for name in there.places}
    return desired(*found), actual, replace(there, places=places)


@given(worlds())
def test_one_pass_promises_no_byte_twice(world):
    wanted, actual, there = world
    given_: dict[str, int] = {}
    for action in plan(wanted, actual, NOW, board=there).actions:
        if action.verb is Verb.START:
            given_[action.gpus[0]] = given_.get(action.gpus[0], 0) + action.claim
    for card in cards_of(there, wanted, actual, NOW):
        promised = sum(one.grows for one in card.tenants)
        fresh = given_.get(card.gpu.uuid, 0)
        if fresh:
            assert fresh + promised + HEADROOM <= (card.gpu.free or 0)


@given(worlds())
def test_nobody_is_stopped_who_is_busy_or_just_came_and_nobody_without_a_cause(world):
    wanted, actual, there = world
    done = plan(wanted, actual, NOW, board=there).actions
    stopped = {a.service for a in done if a.verb is Verb.STOP}
    waiting = [a for a in done if a.reason.code == "gpu.evicting"]
    assert bool(stopped) == bool(waiting)
    for name in stopped:
        state = actual[name]
        assert state.phase.value == "ready"
        assert name in there.idle_since
        assert NOW - (state.ready_since or NOW) >= 30
        assert any(
            a.service in there.ordered or wanted[a.service].spec.rank < wanted[name].spec.rank
            for a in waiting
        )


@given(worlds())
def test_each_service_has_one_step_and_the_same_world_gives_the_same_plan(world):
    wanted, actual, there = world
    first = plan(wanted, actual, NOW, board=there)
    assert plan(dict(wanted), dict(actual), NOW, board=there) == first
    services = [action.service for action in first.actions]
    assert len(services) == len(set(services))
