"""What must hold of every plan, every merge and every set of writes, whatever the world is like."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.desired import DesiredState
from lictor.core.model.names import BadName, ServiceKey, canonical, is_label
from lictor.core.model.plan import Action, Verb
from lictor.core.model.reason import because
from lictor.core.model.registration import (
    OWNER_META,
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SeenCheck,
    SeenService,
    SetStatus,
)
from lictor.core.model.spec import RestartPolicy
from lictor.core.model.state import Exit, Identity, Phase, ServiceState
from lictor.core.planning import lifecycle
from lictor.core.planning.order import instances_of
from lictor.core.planning.overrides import Host, InForce, keep_good, merge
from lictor.core.planning.reconcile import plan
from lictor.core.planning.registration import Owner, after, conflicts, diff
from lictor.core.planning.registration import wanted as entry_of
from lictor.core.planning.restart import Again, decide
from tests.properties import strategies as made

NOW = 100.0
OWNER = Owner("us", "host1")

# --- the plan ---------------------------------------------------------------------------------


@given(made.wanted(), made.actual(), st.sets(made.keys))
def test_a_plan_of_some_services_is_the_full_plan_restricted_to_them(wanted, actual, some):
    full = plan(wanted, actual, NOW).actions
    part = plan(wanted, actual, NOW, only=some).actions
    assert {a.service: a for a in part} == {a.service: a for a in full if a.service in some}


@given(made.wanted(), made.actual())
def test_a_plan_is_the_same_each_time_and_names_each_service_once(wanted, actual):
    first = plan(wanted, actual, NOW)
    assert plan(dict(wanted), dict(actual), NOW) == first
    services = [action.service for action in first.actions]
    assert len(services) == len(set(services))


@given(made.wanted(), made.actual())
def test_nothing_is_started_while_something_it_needs_is_not_ready(wanted, actual):
    for action in plan(wanted, actual, NOW).actions:
        if action.verb is not Verb.START:
            continue
        for need in wanted[action.service].spec.depends_on:
            for key in instances_of(need.name, wanted):
                ready = actual.get(key, ServiceState()).phase is Phase.READY
                assert ready or not need.required, (action, key)


@given(made.wanted(), made.actual())
def test_nothing_is_stopped_before_the_dependents_that_stop_too(wanted, actual):
    stopped = [a.service for a in plan(wanted, actual, NOW).actions if a.verb is Verb.STOP]
    for key in stopped:
        if key not in wanted or wanted[key].state is not DesiredState.STOPPED:
            continue
        for other, want in wanted.items():
            if want.state is DesiredState.STOPPED and any(
                need.name == key.name for need in want.spec.depends_on
            ):
                assert not actual.get(other, ServiceState()).phase.running


@given(made.wanted(), made.actual())
def test_only_what_runs_is_stopped_and_only_what_does_not_run_is_started(wanted, actual):
    for action in plan(wanted, actual, NOW).actions:
        running = actual.get(action.service, ServiceState()).phase.running
        if action.verb in {Verb.STOP, Verb.RESTART}:
            assert running
        else:
            assert not running


@given(made.wanted(), made.actual())
def test_maintenance_and_the_unknown_are_left_alone(wanted, actual):
    for action in plan(wanted, actual, NOW).actions:
        want = wanted.get(action.service)
        assert want is None or want.state is not DesiredState.MAINTENANCE
        phase = actual.get(action.service, ServiceState()).phase
        assert phase not in {Phase.STOPPING, Phase.UNKNOWN}


def _acted(action: Action, wanted, state: ServiceState, now: float) -> ServiceState | None:
    """The state after a step that went well, in a world where everything that starts is fine."""
    want = wanted.get(action.service)
    match action.verb:
        case Verb.FORGET:
            return None
        case Verb.STOP:
            return lifecycle.stopped(state, action.reason, None, now=now)
        case Verb.REST:
            return lifecycle.at_rest(state, action.reason, now=now)
        case Verb.QUEUE:
            return lifecycle.waiting(state, Phase.QUEUED, action.reason, now=now)
        case Verb.BLOCK:
            return lifecycle.waiting(state, Phase.BLOCKED, action.reason, now=now)
    state = replace(state, operator_restart_wall=want.restart_wall)
    if action.verb is Verb.RESTART:
        return lifecycle.stopped(state, action.reason, None, now=now)
    begun = lifecycle.starting(
        state,
        action.reason,
        fingerprint=want.spec.fingerprint(),
        now=now,
        wall=made.WALL + now,
    )
    up = lifecycle.spawned(begun, Identity(1, 1, "b"), want.spec)
    return lifecycle.ready(up, now=now)


#: Without those that somebody else, or nobody, brings to an end. (Drawn so, as most worlds have one.)
_OURS_TO_END = tuple(
    phase for phase in Phase if phase not in {Phase.STARTING, Phase.STOPPING, Phase.UNKNOWN}
)


@given(made.wanted(), made.actual(_OURS_TO_END))
def test_acting_on_plans_comes_to_an_end_where_everything_is_as_wanted(wanted, actual):
    actual = {**{key: ServiceState() for key in wanted}, **actual}
    for step in range(40):
        todo = plan(wanted, actual, 1000.0 + step).actions
        if not todo:
            break
        for action in todo:
            state = _acted(action, wanted, actual[action.service], 1000.0 + step)
            if state is None:
                del actual[action.service]
            else:
                actual[action.service] = state
    assert plan(wanted, actual, 2000.0).actions == ()
    for key, want in wanted.items():
        if want.state is DesiredState.STOPPED:
            assert actual[key].phase is Phase.STOPPED


# --- documents ---------------------------------------------------------------------------------


@given(st.lists(made.snapshots, min_size=1, max_size=4))
def test_a_refused_document_never_takes_effect(snapshots):
    documents = InForce()
    good: set[int] = set()
    for snapshot in snapshots:
        documents = keep_good(documents, snapshot)
        for level in (snapshot.node, snapshot.all_nodes):
            good |= {id(entry.override) for entry in level.values() if entry.override}
        for level, seen in (
            (documents.node, snapshot.node),
            (documents.all_nodes, snapshot.all_nodes),
        ):
            assert level.keys() <= seen.keys()
            assert all(id(override) in good for override in level.values())


@given(made.wanted(), made.snapshots)
def test_a_merge_is_about_the_services_of_the_config_and_no_others(wanted, snapshot):
    specs = [want.spec for want in wanted.values()]
    result = merge(specs, keep_good(InForce(), snapshot), wall=made.WALL, host=Host())
    assert list(result) == [spec.key for spec in specs]
    for spec in specs:
        found = result[spec.key].spec
        assert replace(found, param_values={}) == replace(spec, param_values={})


# --- restarts ------------------------------------------------------------------------------------


@given(
    failures=st.integers(0, 10_000),
    ready_for=st.none() | st.floats(0, 1e9),
    exit_=st.sampled_from([None, Exit(), Exit(code=0), Exit(code=1), Exit(signal=9)]),
    jitter=st.floats(-1, 1),
    backoff=st.floats(0.1, 60),
)
def test_a_restart_is_never_later_than_the_cap_and_never_in_the_past(
    failures, ready_for, exit_, jitter, backoff
):
    policy = RestartPolicy(backoff=backoff, max_backoff=300)
    verdict = decide(policy, failures=failures, ready_for=ready_for, exit_=exit_, jitter=jitter)
    assert isinstance(verdict, Again)
    assert 0 <= verdict.delay <= 330
    assert 1 <= verdict.failures <= failures + 1


# --- registrations -------------------------------------------------------------------------------

owners = st.sampled_from(["us", "them", ""])


@st.composite
def entries(draw):
    wanted = draw(made.wanted())
    found = [
        entry_of(want, draw(made.states(key)), OWNER, lambda reason: reason.code)
        for key, want in wanted.items()
    ]
    return [entry for entry in found if entry is not None]


@st.composite
def views(draw):
    """What a Consul agent may hold: ours, other agents' under our ids, and anybody's."""
    services, checks = {}, {}
    for key in draw(st.lists(made.keys, unique=True)):
        sid = f"lictor:{draw(st.sampled_from(['host1', 'host2']))}:{str(key).replace('@', ':')}"
        owner = draw(owners)
        services[sid] = SeenService(sid, key.name, "127.0.0.1", 0, (), {OWNER_META: owner})
        for kind in draw(st.lists(st.sampled_from(["http", "lictor", "old"]), unique=True)):
            checks[f"{sid}:{kind}"] = SeenCheck(f"{sid}:{kind}", sid, "critical", "out")
        if draw(st.booleans()):
            name = f"_service_maintenance:{sid}"
            checks[name] = SeenCheck(name, sid, "critical", "by hand")
    return RegistryView(services, checks)


def _subject(write) -> str:
    match write:
        case Register(registration):
            return registration.service_id
        case Deregister(service_id):
            return service_id
        case RemoveCheck(check_id) | SetStatus(check_id):
            return check_id


@given(entries(), views())
def test_writes_never_touch_what_is_not_ours(mine, view):
    foreign = {s.service_id for s in view.services.values() if s.meta.get(OWNER_META) != "us"}
    theirs = foreign | {c.check_id for c in view.checks.values() if c.service_id in foreign}
    for write in diff(mine, view, OWNER):
        assert _subject(write) not in theirs
        assert not _subject(write).startswith("_service_maintenance:")
    assert set(conflicts(mine, view, OWNER)) <= foreign


@given(entries(), views())
def test_once_everything_was_written_nothing_differs(mine, view):
    for write in diff(mine, view, OWNER):
        view = after(view, write)
    assert diff(mine, view, OWNER) == []
    held = {s for s, seen in view.services.items() if seen.meta.get(OWNER_META) == "us"}
    wanted = {entry.registration.service_id for entry in mine}
    assert held == wanted - set(conflicts(mine, view, OWNER))


@given(entries(), views())
def test_a_write_done_twice_is_a_write_done_once(mine, view):
    for write in diff(mine, view, OWNER):
        view = after(view, write)
        assert after(view, write) == view


# --- names ------------------------------------------------------------------------------------


@given(st.text() | st.from_regex(r"[ A-Za-z0-9_-]{1,70}", fullmatch=True))
def test_a_name_made_good_stays_as_it_is(raw):
    try:
        name = canonical(raw)
    except BadName:
        return
    assert is_label(name)
    assert canonical(name) == name


@given(st.text(max_size=20))
def test_a_key_that_was_read_is_written_so_that_it_reads_the_same(raw):
    try:
        key = ServiceKey.parse(raw)
    except BadName:
        return
    assert ServiceKey.parse(str(key)) == key


def test_reasons_are_equal_by_what_they_say():
    assert because("a", x=1) == because("a", x=1)
    assert len({because("a", x=1), because("a", x=1), because("a", x=2)}) == 2
