"""What must hold of a group whatever happens to its members, and of the writes that follow."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import (
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SeenCheck,
    SetStatus,
)
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning.groups import (
    GROUP_META,
    STANDBY,
    Member,
    Standing,
    group_entry,
    judge,
    look_again,
    member,
    promote_first,
)
from lictor.core.planning.registration import Owner, Wanted, after, diff, service_of, wanted
from tests.core.build import HTTP, want
from tests.core.build import now_in as state_in

OWNER = Owner("us", "host1")
NAMES = ("xtts", "openvoice", "piper")

#: What happens: seconds that pass, and then who works.
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0, 6.0, 40.0, 700.0]), st.lists(st.booleans(), min_size=3)
    ),
    max_size=25,
)
ranks = st.lists(st.integers(-2, 2), min_size=3, max_size=3)


def members(rank_of, fit, hold_down=5.0):
    return [
        Member(ServiceKey(name), rank, works, hold_down)
        for name, rank, works in zip(NAMES, rank_of, fit, strict=False)
    ]


def history(rank_of, told):
    """Every moment: time, members, what stood before and what stands after."""
    now, standing = 0.0, Standing()
    for passed, fit in told:
        now += passed
        present = members(rank_of, fit)
        before, standing = standing, judge(standing, present, now)
        yield now, present, before, standing


@given(ranks, steps)
def test_while_anybody_works_the_place_is_held_by_somebody_who_works(rank_of, told):
    for _, present, _, standing in history(rank_of, told):
        working = {each.key for each in present if each.fit}
        assert not working or standing.best in working


@given(ranks, steps)
def test_the_place_is_taken_only_from_who_failed_or_by_who_is_better(rank_of, told):
    for _, present, before, standing in history(rank_of, told):
        by_key = {each.key: each for each in present}
        if before.best is None or standing.best == before.best:
            continue
        assert standing.best is not None
        lost, won = by_key[before.best], by_key[standing.best]
        assert not lost.fit or won.rank < lost.rank


@given(ranks, steps)
def test_who_was_lost_takes_the_place_of_a_working_one_only_after_its_hold_down(rank_of, told):
    lost_at: dict[ServiceKey, float] = {}
    for now, present, before, standing in history(rank_of, told):
        by_key = {each.key: each for each in present}
        taken = standing.best is not None and standing.best != before.best
        if taken and before.best is not None and by_key[before.best].fit:
            assert now - lost_at.get(standing.best, -1000.0) >= 5.0 - 0.01
        for each in present:
            worked = before.forms.get(each.key)
            if not each.fit and worked is not None and worked.fit_since is not None:
                lost_at[each.key] = now


@given(ranks, steps)
def test_left_alone_the_best_that_works_has_the_place_in_the_end(rank_of, told):
    now, present, standing = 0.0, [], Standing()
    for now, present, _, standing in history(rank_of, told):  # noqa: B007
        pass
    for _ in range(5):
        again = look_again(standing, present, now)
        if again is None:
            break
        assert again > now  # a timer that is due now would never stop ringing
        now, standing = again, judge(standing, present, again)
    working = [each for each in present if each.fit]
    if working:
        best = next(each for each in working if each.key == standing.best)
        assert best.rank == min(each.rank for each in working)


@given(ranks, steps)
def test_nothing_changes_by_looking_twice(rank_of, told):
    for now, present, _, standing in history(rank_of, told):
        assert judge(standing, present, now) == standing


# --- the writes -----------------------------------------------------------------------------------

phases = st.sampled_from(["ready", "starting", "backoff", "stopping", "stopped", "unhealthy"])
worlds = st.lists(st.tuples(phases, st.booleans()), min_size=3, max_size=3)


def entries(
    world, standing: Standing, view: RegistryView, now: float
) -> tuple[list[Wanted], Standing]:
    wishes = [
        want(name, probe=HTTP, port=5000 + place, voice_group="voice", rank=10 + place)
        for place, name in enumerate(NAMES)
    ]
    states = [
        replace(
            state_in(phase, wish.spec), failing_since=now if failing and phase == "ready" else None
        )
        for wish, (phase, failing) in zip(wishes, world, strict=True)
    ]
    own = [wanted(w, s, OWNER, lambda r: r.code) for w, s in zip(wishes, states, strict=True)]
    there = [(w, s, o) for w, s, o in zip(wishes, states, own, strict=True) if o is not None]
    present = [member(w, s, proven=_works(view, o.registration.service_id)) for w, s, o in there]
    standing = judge(standing, present, now)
    return [
        *(o for _, _, o in there),
        *(group_entry(w, o, OWNER, standby=w.spec.key != standing.best) for w, _, o in there),
    ], standing


def answering(view: RegistryView) -> set[str]:
    """Who the group's query would give: no `standby`, and no critical check of the member's own.

    The alias repeats the checks of the member's own entry.
    """
    return {
        service_id
        for service_id, service in view.services.items()
        if GROUP_META in service.meta
        and STANDBY not in service.tags
        and _works(view, service_id.replace(":voice:", ":"))
    }


def _works(view: RegistryView, own_id: str) -> bool:
    checks = [check for check in view.checks.values() if check.service_id == own_id]
    return bool(checks) and all(check.status == "passing" for check in checks)


def consul_asks(view: RegistryView, world, before) -> RegistryView:
    """Consul's own checks have caught up with what is so, of those that were ready `before` too.

    What just became ready may wait for the next interval; that something fails, we have from Consul.
    """
    checks = dict(view.checks)
    for name, (phase, failing), (was, _) in zip(NAMES, world, before, strict=True):
        check_id = f"lictor:host1:{name}:http"
        if check_id in checks and {was, phase} <= {"ready", "unhealthy"}:
            status = "passing" if phase == "ready" and not failing else "critical"
            checks[check_id] = SeenCheck(check_id, f"lictor:host1:{name}", status)
    return RegistryView(view.services, checks)


@given(st.lists(worlds, min_size=1, max_size=6), st.data())
def test_in_whatever_order_consul_carries_writes_a_working_group_never_falls_silent(told, data):
    view, standing, now = RegistryView(), Standing(), 0.0
    for before, world in zip([told[0], *told], told, strict=False):
        now += 10.0
        view = consul_asks(view, world, before)
        had = answering(view)
        present, standing = entries(world, standing, view, now)
        well = {
            n
            for n, (phase, failing) in zip(NAMES, world, strict=True)
            if phase == "ready" and not failing
        }
        best = str(standing.best)
        proven = best in well and _works(view, f"lictor:host1:{best}")
        first, rest, _ = promote_first(diff(present, view, OWNER), view)
        for part in (first, rest):
            # Writes about one entry keep their order; those about several have none.
            turns = data.draw(st.permutations([service_of(write) for write in part]))
            for turn in turns:
                write = next(write for write in part if service_of(write) == turn)
                part.remove(write)
                view = after(view, write)
                # Whoever was answering, somebody goes on answering at every moment.
                assert answering(view) or not (had and proven), (write, world)
        view = consul_asks(view, world, world)
        if well:
            assert len(answering(view)) == 1


@given(worlds)
def test_writes_lose_nothing_by_being_put_in_order(world):
    present, _ = entries(world, Standing(), RegistryView(), 1.0)
    writes = diff(present, RegistryView(), OWNER)
    first, rest, awaited = promote_first(writes, RegistryView())
    assert sorted(map(repr, [*first, *rest])) == sorted(map(repr, writes))
    assert not awaited or (first and rest)
    for write in rest:
        assert isinstance(write, Register | Deregister | RemoveCheck | SetStatus)


def test_a_state_that_was_never_seen_working_is_not_fit():
    assert not member(want("xtts"), ServiceState(phase=Phase.STARTING, health=Health.PASSING)).fit
