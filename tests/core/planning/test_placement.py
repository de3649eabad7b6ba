"""Which card, who leaves for it, and why not: examples, and what must hold of every verdict."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lictor.core.locales import text
from lictor.core.model.gpu import Gpu, GpuProcess, GpuSpec, Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.planning.placement import (
    HEADROOM,
    LEAST,
    Ask,
    Card,
    Evict,
    Lingering,
    Placed,
    Refused,
    Stranger,
    Tenant,
    Wait,
    cheapest,
    claim_on,
    cost_of,
    place,
)

GIB = 1024**3


def gpu(index: int = 0, *, total: float = 24, used: float = 0, **fields) -> Gpu:
    """A card; sizes in GiB."""
    given_ = {"capability": 8.9, "processes": (), **fields}
    total_, used_ = int(total * GIB), int(used * GIB)
    return Gpu(
        f"GPU-{index}", index, "card", total=total_, used=used_, free=total_ - used_, **given_
    )


def tenant(name: str, holds: float = 4, grows: float = 0, **fields) -> Tenant:
    given_ = {"idle": 600.0, **fields}
    return Tenant(ServiceKey(name), int(holds * GIB), int(grows * GIB), **given_)


def ask(memory: float | None = 6, **fields) -> Ask:
    spec = {"memory": None if memory is None else int(memory * GIB)}
    for name in ("min_compute_capability", "devices", "utilization", "placement"):
        if name in fields:
            spec[name] = fields.pop(name)
    return Ask(ServiceKey("new"), GpuSpec(**spec), **fields)


def verdict(question: Ask, *cards: Card, problem: str = ""):
    return place(question, Inventory(tuple(card.gpu for card in cards), problem=problem), cards)


def full(card: Gpu, *tenants: Tenant, **fields) -> Card:
    """A card on which the tenants hold what they hold."""
    used = sum(one.holds for one in tenants) + sum(
        x.memory or 0 for x in fields.get("strangers", ())
    )
    used += sum(one.memory for one in fields.get("lingering", ()))
    named = tuple(GpuProcess(100 + i, one.holds) for i, one in enumerate(tenants))
    named += tuple(GpuProcess(x.pid, x.memory) for x in fields.get("strangers", ()))
    assert card.total is not None
    after = replace(card, used=used, free=card.total - used, processes=named)
    return Card(after, tuple(tenants), **fields)


# --- where there is room ------------------------------------------------------------------------


def test_it_goes_where_there_is_room():
    assert verdict(ask(6), Card(gpu())) == Placed("GPU-0", 6 * GIB)


def test_binpack_takes_the_fullest_card_that_has_room_and_spread_the_emptiest():
    cards = (
        full(gpu(0), tenant("a", 2)),
        full(gpu(1), tenant("b", 12)),
        full(gpu(2), tenant("c", 20)),
    )
    assert verdict(ask(6), *cards) == Placed("GPU-1", 6 * GIB)
    assert verdict(ask(6, placement="spread"), *cards) == Placed("GPU-0", 6 * GIB)


@pytest.mark.parametrize("wanted", ["1", "GPU-1"])
def test_a_device_is_named_by_its_index_or_its_uuid(wanted):
    assert verdict(ask(6, devices=(wanted,)), Card(gpu(0)), Card(gpu(1))) == Placed(
        "GPU-1", 6 * GIB
    )


def test_what_a_tenant_was_promised_and_has_not_taken_yet_is_not_given_again():
    card = full(gpu(), tenant("loads", 2, grows=14))
    assert isinstance(verdict(ask(8), card), Refused | Evict)
    assert verdict(ask(7), card) == Placed("GPU-0", 7 * GIB)


def test_a_share_is_of_whatever_card_it_is():
    question = ask(None, utilization=0.5, peak=20 * GIB)
    assert claim_on(question, gpu(total=24)) == 12 * GIB
    assert claim_on(question, gpu(total=16)) == 8 * GIB


def test_what_it_was_seen_to_take_counts_if_that_is_more_than_was_said():
    assert claim_on(ask(4, peak=8 * GIB), gpu()) > 8 * GIB
    assert claim_on(ask(4, peak=1 * GIB), gpu()) == 4 * GIB


def test_one_loads_at_a_time_and_another_card_is_no_wait():
    busy = full(gpu(0), tenant("loads", 1, stage="loading", spared="loading"))
    waits = verdict(ask(6), busy)
    assert isinstance(waits, Wait)
    assert (waits.reason.code, waits.uuid) == ("gpu.loading", "GPU-0")
    assert verdict(ask(6), busy, Card(gpu(1, total=48))) == Placed("GPU-1", 6 * GIB)


@pytest.mark.parametrize(
    "card",
    [
        full(gpu(), tenant("old", 20, stage="ending", spared="loading")),
        full(gpu(), lingering=(Lingering(ServiceKey("old"), 20 * GIB),)),
    ],
)
def test_while_memory_comes_back_it_waits_and_nobody_else_has_to_leave(card):
    with_idle = replace(card, tenants=(*card.tenants, tenant("idle", 2)))
    waits = verdict(ask(12, ordered=True), with_idle)
    assert isinstance(waits, Wait)
    assert waits.reason.code == "gpu.releasing"


# --- why not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "cards", "code"),
    [
        (ask(), [], "gpu.none"),
        (ask(devices=("7",)), [Card(gpu())], "gpu.device_missing"),
        (ask(min_compute_capability=7.0), [Card(gpu(capability=6.1))], "gpu.capability"),
        (ask(min_compute_capability=7.0), [Card(gpu(capability=None))], "gpu.capability"),
        (ask(23.9), [Card(gpu())], "gpu.too_big"),
        (ask(), [Card(Gpu("u", 0, lost=True))], "gpu.lost"),
        (ask(), [Card(gpu(mig=True))], "gpu.mig"),
    ],
)
def test_what_can_never_be_is_refused_with_its_name(question, cards, code):
    refused = verdict(question, *cards)
    assert isinstance(refused, Refused)
    assert refused.reason.code == code


def test_a_library_of_another_version_is_told_apart_from_no_driver():
    refused = verdict(ask(), problem="mismatch")
    assert isinstance(refused, Refused)
    assert refused.reason.code == "gpu.mismatch"


def test_a_card_that_does_not_tell_its_memory_makes_nobody_give_up():
    waits = verdict(ask(), Card(replace(gpu(), free=None)))
    assert isinstance(waits, Wait)
    assert waits.reason.code == "gpu.unknown"


def test_what_the_driver_keeps_for_itself_is_promised_to_nobody():
    card = replace(gpu(total=8, used=7), reserved=GIB)
    assert verdict(ask(7.5), Card(card)).reason.code == "gpu.too_big"
    assert verdict(ask(6.5), Card(card)).reason.code == "gpu.no_room"


def test_capability_is_compared_as_a_number():
    assert isinstance(verdict(ask(min_compute_capability=7.5), Card(gpu(capability=7.5))), Placed)
    assert isinstance(verdict(ask(min_compute_capability=8.0), Card(gpu(capability=12.0))), Placed)


def test_the_refusal_names_who_holds_what():
    card = full(
        gpu(total=18.35),
        tenant("xtts", 9, idle=2520.0, spared="pinned"),
        strangers=(Stranger(4711, 3 * GIB),),
    )
    refused = verdict(ask(11.2), card)
    assert isinstance(refused, Refused)
    said = text(refused.reason.code, **refused.reason.params)
    assert said == (
        "It needs 11.2 GiB, GPU 0 has 6.1 GiB free: "
        "xtts holds 9.0 GiB (pinned), pid 4711 (not ours) holds 3.0 GiB."
    )
    idle = verdict(
        ask(11.2), full(card.gpu, tenant("xtts", 9, idle=2520.0), strangers=card.strangers)
    )
    assert isinstance(idle, Refused)  # of the same rank, and nobody ordered it
    assert "xtts holds 9.0 GiB (idle 42 min)" in text(idle.reason.code, **idle.reason.params)
    assert "xtts держит 9.0 GiB (простаивает 42 мин), pid 4711 (не наш)" in text(
        idle.reason.code, language="ru", **idle.reason.params
    )


def test_memory_that_nobody_has_is_named_too():
    card = Card(replace(gpu(used=20), processes=()))
    refused = verdict(ask(6), card)
    assert isinstance(refused, Refused)
    assert "somebody holds 20.0 GiB (the driver does not say who)" in text(
        refused.reason.code, **refused.reason.params
    )


def test_what_is_still_to_come_back_is_named_once():
    card = Card(
        replace(gpu(used=20), processes=()),
        lingering=(Lingering(ServiceKey("xtts"), 20 * GIB, coming=False),),
    )
    assert verdict(ask(6), card).reason.params["holders"] == f"xtts {20 * GIB} ended 0"


# --- who leaves ---------------------------------------------------------------------------------


def test_an_order_makes_the_cheapest_idle_one_leave():
    card = full(gpu(), tenant("dear", 11, cost=50.0), tenant("cheap", 11, cost=5.0))
    assert verdict(ask(10, ordered=True), card) == Evict(
        "GPU-0", 0, 10 * GIB, (ServiceKey("cheap"),), 5.0
    )


def test_without_an_order_only_worse_ranks_leave():
    card = full(gpu(), tenant("same", 11, rank=100), tenant("worse", 11, rank=200))
    found = verdict(ask(10), card)
    assert isinstance(found, Evict)
    assert found.victims == (ServiceKey("worse"),)
    assert isinstance(verdict(ask(20), card), Refused)


def test_one_whose_last_run_failed_drives_nobody_away():
    card = full(gpu(), tenant("worse", 20, rank=200))
    assert isinstance(verdict(ask(10, evicts=False), card), Refused)


@pytest.mark.parametrize("why", ["pinned", "busy", "needed"])
def test_some_never_leave_even_for_an_order(why):
    card = full(gpu(), tenant("there", 20, rank=900, spared=why))
    assert isinstance(verdict(ask(10, ordered=True), card), Refused)


def test_one_that_was_just_started_is_waited_for():
    card = full(gpu(), tenant("there", 20, rank=900, spared="recent"))
    assert isinstance(verdict(ask(10, ordered=True), card), Wait)


def test_who_was_used_lately_and_loads_slowly_costs_more():
    assert cost_of(load=60, idle=0, rank=100) > cost_of(load=60, idle=7200, rank=100)
    assert cost_of(load=60, idle=60, rank=100) > cost_of(load=5, idle=60, rank=100)
    assert cost_of(load=60, idle=60, rank=10) > cost_of(load=60, idle=60, rank=100)


# --- whatever the cards are like ------------------------------------------------------------------

tenants = st.builds(
    Tenant,
    key=st.integers(0, 999).map(lambda n: ServiceKey(f"s{n}")),
    holds=st.integers(0, 12 * GIB),
    grows=st.integers(0, 4 * GIB),
    stage=st.sampled_from(["running"] * 6 + ["loading", "ending", "promised"]),
    spared=st.sampled_from([""] * 5 + ["pinned", "busy", "needed", "recent"]),
    idle=st.none() | st.floats(0, 10_000),
    rank=st.integers(1, 300),
    cost=st.integers(1, 500).map(float),
)


@st.composite
def worlds(draw):
    cards = []
    for index in range(draw(st.integers(1, 3))):
        there = draw(st.lists(tenants, max_size=6, unique_by=lambda one: one.key))
        total = draw(st.sampled_from([8, 12, 24, 48])) * GIB
        foreign = draw(st.lists(st.integers(0, 4 * GIB), max_size=2))
        used = min(total, sum(one.holds for one in there) + sum(foreign))
        card = gpu(index, total=total / GIB, capability=draw(st.sampled_from([6.1, 8.9])))
        card = replace(card, used=used, free=total - used)
        strangers = tuple(Stranger(9000 + i, size) for i, size in enumerate(foreign))
        cards.append(Card(card, tuple(there), strangers))
    return cards


asks = st.builds(
    Ask,
    key=st.just(ServiceKey("new")),
    spec=st.builds(
        GpuSpec,
        memory=st.none() | st.integers(0, 40 * GIB),
        min_compute_capability=st.none() | st.just(7.0),
        devices=st.just(()) | st.just(("0",)),
        placement=st.sampled_from(["binpack", "spread"]),
    ),
    rank=st.integers(1, 300),
    ordered=st.booleans(),
    evicts=st.booleans(),
)


@given(asks, worlds())
def test_nothing_is_ever_promised_that_is_not_free(question, cards):
    found = verdict(question, *cards)
    by_uuid = {card.gpu.uuid: card for card in cards}
    if isinstance(found, Placed):
        card = by_uuid[found.uuid]
        promised = sum(one.grows for one in card.tenants if one.stage != "ending")
        assert found.claim + promised + HEADROOM <= (card.gpu.free or 0)
        assert not any(one.stage in {"loading", "ending"} for one in card.tenants)
        assert not card.coming
    if isinstance(found, Evict):
        card = by_uuid[found.uuid]
        stay = [one for one in card.tenants if one.key not in found.victims]
        back = sum(one.holds for one in card.tenants if one.key in found.victims)
        promised = sum(one.grows for one in stay)
        assert found.claim + promised + HEADROOM <= (card.gpu.free or 0) + back


@given(asks, worlds())
def test_only_who_may_leave_leaves_and_only_if_nothing_else_would_do(question, cards):
    found = verdict(question, *cards)
    if not isinstance(found, Evict):
        return
    assert question.evicts
    card = next(one for one in cards if one.gpu.uuid == found.uuid)
    for victim in (one for one in card.tenants if one.key in found.victims):
        assert (victim.stage, victim.spared) == ("running", "")
        assert question.ordered or question.rank < victim.rank
    # Without each single one of them there would not be room.
    room = card.room
    gives = {one.key: one.gives for one in card.tenants}
    need = found.claim or LEAST
    for victim in found.victims:
        others = sum(gives[key] for key in found.victims if key != victim)
        assert room + others < need
    # And nobody leaves where there is room on some card already.
    assert not any(isinstance(verdict(question, one), Placed) for one in cards)


@given(asks, worlds())
def test_the_eviction_is_the_cheapest_there_is(question, cards):
    found = verdict(question, *cards)
    costs = []
    for card in cards:
        allowed = not question.spec.devices or str(card.gpu.index) in question.spec.devices
        least = question.spec.min_compute_capability or 0.0
        claim = claim_on(question, card.gpu)
        fits = claim + HEADROOM <= (card.gpu.total or 0) and (card.gpu.capability or 0) >= least
        moving = card.coming or any(one.stage in {"loading", "ending"} for one in card.tenants)
        if not allowed or not fits or moving:
            continue
        free = [
            one
            for one in card.tenants
            if one.stage == "running"
            and not one.spared
            and (question.ordered or question.rank < one.rank)
        ]
        for count in range(1, len(free) + 1):
            for some in itertools.combinations(free, count):
                if card.room + sum(one.gives for one in some) >= (claim or LEAST):
                    costs.append(sum(one.cost for one in some))
    if isinstance(found, Evict):
        assert found.cost == pytest.approx(min(costs))
    elif isinstance(found, Refused) and found.reason.code == "gpu.no_room" and question.evicts:
        assert costs == []


@given(st.lists(tenants, max_size=8, unique_by=lambda one: one.key), st.integers(1, 60 * GIB))
def test_the_cheapest_set_costs_what_a_search_of_all_sets_finds(there, lack):
    costs = [
        sum(one.cost for one in some)
        for count in range(1, len(there) + 1)
        for some in itertools.combinations(there, count)
        if sum(one.gives for one in some) >= lack
    ]
    found = cheapest(there, lack)
    assert (found is None) == (not costs)
    if found is not None:
        assert sum(one.cost for one in found) == pytest.approx(min(costs))


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), min_size=16, max_size=24),
    st.integers(1, 200),
)
@settings(max_examples=40)
def test_two_dozen_candidates_are_searched_completely(drawn, lack):
    """Beside the textbook's table: the least cost of each number of GiB."""
    least = [0.0] + [math.inf] * lack
    for gives, cost in drawn:
        for goal in range(lack, 0, -1):
            least[goal] = min(least[goal], least[max(0, goal - gives)] + cost)
    there = [
        Tenant(ServiceKey(f"s{n}"), holds=gives * GIB, cost=float(cost))
        for n, (gives, cost) in enumerate(drawn)
    ]
    found = cheapest(there, lack * GIB)
    assert (found is None) == math.isinf(least[lack])
    if found is not None:
        assert sum(one.cost for one in found) == least[lack]


class Weighed(Tenant):
    """Counts how often anybody is weighed, and ends a search that would never end."""

    count = 0

    @property
    def gives(self) -> int:
        Weighed.count += 1
        assert Weighed.count < 200_000, "all sets are tried"
        return self.holds + self.grows


@pytest.mark.parametrize("kinds", [1, 7])
def test_of_many_alike_only_sets_that_differ_are_tried(monkeypatch, kinds):
    """Sets of forty are 10**12, but only so many kinds of candidates are among them."""
    monkeypatch.setattr(Weighed, "count", 0)
    there = [Weighed(ServiceKey(f"s{n:02}"), GIB, cost=1.0 + n % kinds / 10) for n in range(40)]
    found = cheapest(there, 11 * GIB + 1)
    assert found is not None
    by_cost = sorted(there, key=lambda one: (one.cost, one.key))
    assert set(found) == set(by_cost[:12])
    assert Weighed.count < 10_000


def test_of_two_sets_that_cost_the_same_the_smaller_goes():
    a, b = (Tenant(ServiceKey(name), GIB, cost=1.0) for name in "ab")
    for holds in (2 * GIB, 3 * GIB):  # looked at after the two, and before them
        large = Tenant(ServiceKey("c"), holds, cost=2.0)
        assert cheapest([a, b, large], 2 * GIB) == (large,)


@pytest.mark.parametrize("seed", range(5))
def test_a_search_among_very_many_ends_with_a_good_set(monkeypatch, seed):
    monkeypatch.setattr(Weighed, "count", 0)
    draw = random.Random(seed)
    there = [
        Weighed(ServiceKey(f"s{n}"), draw.randrange(1, 10 * GIB), cost=draw.uniform(1, 500))
        for n in range(100)
    ]
    lack = sum(one.holds for one in there) // 2
    found = cheapest(there, lack)
    assert found is not None
    assert sum(one.holds for one in found) >= lack
    best_first = sorted(there, key=lambda one: one.cost / one.holds)
    sizes = list(itertools.accumulate(one.holds for one in best_first))
    enough = 1 + next(n for n, size in enumerate(sizes) if size >= lack)
    assert sum(one.cost for one in found) <= sum(one.cost for one in best_first[:enough])
