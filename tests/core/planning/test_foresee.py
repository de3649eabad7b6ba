"""The look ahead: the same deeds that the reconciler would come to, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Verb
from lictor.core.model.spec import Dependency, ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning.foresee import foresee, ordered
from tests.properties import strategies

NOW, WALL = 1_000.0, 2_000_000_000.0


def world(**needs: tuple[str, ...]):
    desired, actual = {}, {}
    for name, others in needs.items():
        spec = ServiceSpec(
            key=ServiceKey(name), depends_on=tuple(Dependency(other) for other in others)
        )
        desired[spec.key] = DesiredService(spec=spec, state=DesiredState.RUNNING)
        actual[spec.key] = ServiceState(
            phase=Phase.READY,
            identity=Identity(pid=7, start_time=7, boot_id="b"),
            started_wall=WALL - 60,
            fingerprint=spec.fingerprint(),
        )
    return desired, actual


def deeds(desired, actual, keys, verb):
    after = ordered(desired, keys, verb, by="anna", wall=WALL)
    return [(step.verb, step.service.name) for step in foresee(after, actual, NOW, wall=WALL)]


def test_all_are_stopped_with_those_that_need_others_first():
    desired, actual = world(redis=(), brain=("redis",), bot=("brain",))
    assert deeds(desired, actual, desired, "stop") == [
        (Verb.STOP, "bot"),
        (Verb.STOP, "brain"),
        (Verb.STOP, "redis"),
    ]


def test_all_are_started_with_those_that_others_need_first():
    desired, actual = world(bot=("brain",), brain=("redis",), redis=())
    stopped = dict.fromkeys(actual, ServiceState())
    assert deeds(desired, stopped, desired, "start") == [
        (Verb.START, "redis"),
        (Verb.START, "brain"),
        (Verb.START, "bot"),
    ]


def test_a_restart_is_one_deed():
    desired, actual = world(redis=(), brain=("redis",))
    redis = ServiceKey("redis")
    assert deeds(desired, actual, [redis], "restart") == [(Verb.RESTART, "redis")]


def test_what_is_so_already_needs_nothing():
    desired, actual = world(redis=(), brain=("redis",))
    assert deeds(desired, actual, desired, "start") == []


def test_nothing_can_be_ordered_of_what_is_no_longer_defined():
    desired, actual = world(redis=(), gone=())
    gone = ServiceKey("gone")
    del desired[gone]
    for verb in ("start", "restart"):
        assert deeds(desired, actual, [gone], verb) == [(Verb.STOP, "gone"), (Verb.FORGET, "gone")]


@given(strategies.wanted(), strategies.actual(), st.sampled_from(["start", "stop", "restart"]))
def test_it_ends_and_looking_ahead_changes_nothing(desired, actual, verb):
    before = (dict(desired), dict(actual))
    after = ordered(desired, desired, verb, by="anna", wall=WALL)
    steps = foresee(after, actual, NOW, wall=WALL)
    assert (desired, actual) == before
    assert all(step.verb not in {Verb.QUEUE, Verb.REST} for step in steps)
    if verb == "stop":
        assert not [step for step in steps if step.verb in {Verb.START, Verb.RESTART}]
    for key in desired:
        starts = [step for step in steps if step.service == key and step.verb is Verb.START]
        assert len(starts) <= 1
