"""What the next agent reads is what this one wrote; rows of other versions are nobody's."""

from __future__ import annotations

import pytest

from lictor.core.model.desired import DesiredState, Override
from lictor.core.model.reason import because
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState
from lictor.core.runtime.storage.codec import override_from, override_row, state_from, state_row
from lictor.core.runtime.storage.store import SqliteStore

FULL = ServiceState(
    phase=Phase.BACKOFF,
    reason=because("exit.signal", signal="SEGV"),
    since=12.5,
    identity=Identity(42, 7, "boot", container_id="c"),
    fingerprint="f",
    started=1.0,
    started_wall=2.0,
    ready_since=3.0,
    restarts=4,
    failures=5,
    next_start=6.0,
    last_exit=Exit(signal=11, oom=True),
    last_error="CUDA out of memory — 内存不足",
    health=Health.CRITICAL,
    health_output="503",
    failing_since=7.0,
    operator_restart_wall=8.0,
    done=True,
    unregistered=True,
    adopted=True,
)


@pytest.fixture
def reopen(tmp_path):
    """Open the store of this test, as the next agent would; all are closed at the end."""
    made: list[SqliteStore] = []

    def open_(path=tmp_path / "state.db"):
        if made:
            made[-1].close()
        made.append(SqliteStore(path))
        return made[-1]

    yield open_
    made[-1].close()


def test_every_state_comes_back_as_it_was(reopen):
    store = reopen()
    store.save("services", "piper", state_row(FULL))
    store.save("services", "fresh", state_row(ServiceState()))
    rows = reopen().load("services")
    assert state_from(rows["piper"]) == FULL
    assert state_from(rows["fresh"]) == ServiceState()


@pytest.mark.parametrize(
    "override",
    [
        Override(),
        Override(DesiredState.STOPPED, {"a": 1, "b": 1.5, "c": True, "d": "x"}, 1.0, 2.0, "b", "r"),
    ],
)
def test_every_document_comes_back_as_it_was(reopen, override):
    reopen().save("documents", "node/piper", override_row(override))
    assert override_from(reopen().load("documents")["node/piper"]) == override


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"phase": "ready"},
        {**state_row(FULL), "phase": "dancing"},
        {**state_row(FULL), "from_the_future": 1},
        {**state_row(FULL), "identity": {"pid": 1}},
        {**state_row(FULL), "reason": None},
    ],
)
def test_a_row_that_is_no_state_of_this_version_is_none(row):
    assert state_from(row) is None


@pytest.mark.parametrize("row", [{}, {"state": "asleep"}, {"state": None, "colour": "red"}])
def test_a_row_that_is_no_document_of_this_version_is_none(row):
    assert override_from(row) is None
