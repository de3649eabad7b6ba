"""What nobody can say is no reason to do anything, in Consul neither."""

from __future__ import annotations

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Health, Identity, Phase
from lictor.core.planning import lifecycle
from lictor.core.planning.registration import Owner, wanted
from tests.core.build import NOW, desired, now_in, steps, want

SPEC = ServiceSpec(key=ServiceKey("piper"))

OWNER = Owner(uuid="u", node="n")
MUTE = because("docker.unreachable", address="a", why="w")


def doubted(phase: str, **fields):
    return lifecycle.in_doubt(now_in(phase, **fields), MUTE, now=NOW)


def entry(state, **fields):
    return wanted(want(**fields), state, OWNER, lambda reason: reason.code)


def test_an_entry_of_what_is_unknown_stays_with_a_warning():
    found = entry(doubted("ready"))
    assert (found.status.status, found.status.output) == (Health.WARNING, "docker.unreachable")


def test_what_had_never_been_ready_does_not_begin_to_pass():
    assert entry(doubted("starting")).status.status is Health.CRITICAL


def test_a_start_without_an_answer_makes_no_entry_and_after_failures_takes_none_out():
    assert entry(doubted("queued", identity=None)) is None
    assert entry(doubted("backoff", failures=2)).status.status is Health.CRITICAL


@pytest.mark.parametrize("state", ["running", "stopped", "maintenance"])
def test_nothing_is_planned_for_it_whatever_is_wanted(state):
    assert steps(desired(want(state=state)), {"piper": doubted("ready")}) == {}


def test_it_is_again_what_it_was_or_what_is_known_tells():
    before = (Phase.UNHEALTHY, because("unhealthy", output="x"))
    again = lifecycle.out_of_doubt(doubted("unhealthy"), SPEC, now=NOW, before=before)
    assert (again.phase, again.reason) == before
    for phase, found in (("ready", "ready"), ("starting", "starting")):
        assert lifecycle.out_of_doubt(doubted(phase), SPEC, now=NOW).phase.value == found
    lost = lifecycle.out_of_doubt(doubted("queued"), SPEC, now=NOW)
    assert (lost.phase, lost.reason.code) == (Phase.STOPPED, "stopped.start_unknown")
    assert lost.identity is None
    assert doubted("ready").identity == Identity(42, 7, "boot")
