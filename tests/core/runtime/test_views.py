"""What people are told of a service."""

from __future__ import annotations

from lictor.core.model.state import Identity
from lictor.core.planning import lifecycle
from lictor.core.runtime import views
from tests.core.build import NOW, now_in, spec, want


def test_a_loading_service_says_once_how_long_it_may_and_how_long_it_has_been():
    loading = lifecycle.spawned(now_in("starting", started=NOW), Identity(1, 1, "b"), spec())
    found = views.parts(loading, want(), now=NOW + 12)
    assert " ".join(views.say(part) for part in found) == (
        "It runs and is loading (it has 3 min for that); its health check has not passed yet."
        " 12 s so far."
    )
