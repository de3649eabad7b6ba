"""The agent's memory on disk, and what it does with a disk that is broken."""

from __future__ import annotations

import sqlite3
import time

import pytest

from lictor.core.model.desired import DesiredState, Override
from lictor.core.model.reason import because
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState
from lictor.core.runtime.codec import override_from, override_row, state_from, state_row
from lictor.core.runtime.store import SqliteStore

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


def trouble_of(store, *, seconds=10.0) -> str | None:
    """The code of the trouble, once the writer has met it."""
    deadline = time.monotonic() + seconds
    while store.trouble() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return store.trouble().code if store.trouble() else None


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


def test_the_last_of_many_writes_counts(reopen):
    store = reopen()
    for number in range(2_000):
        store.save("services", "piper", {"number": number})
    assert reopen().load("services") == {"piper": {"number": 1_999}}


def test_a_row_that_is_not_json_is_left_out(reopen, tmp_path):
    reopen().save("services", "good", {"a": 1})
    store = reopen()
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("INSERT INTO rows VALUES ('services', 'torn', '{\"a\":')")
        other.execute("INSERT INTO rows VALUES ('services', 'list', '[1]')")
    other.close()
    assert store.load("services") == {"good": {"a": 1}}


@pytest.mark.parametrize("garbage", [b"this is no database" * 500, b"\0" * 8192])
def test_a_file_that_is_no_database_is_set_aside_and_said(reopen, tmp_path, garbage):
    path = tmp_path / "state.db"
    path.write_bytes(garbage)
    store = reopen()
    assert store.trouble().code == "store.set_aside"
    (aside,) = tmp_path.glob("state.db.damaged-*")
    assert aside.read_bytes() == garbage
    store.save("services", "piper", {"a": 1})
    assert reopen().load("services") == {"piper": {"a": 1}}


def test_an_empty_file_is_a_new_database(reopen, tmp_path):
    (tmp_path / "state.db").touch()
    assert reopen().trouble() is None


def test_a_place_that_cannot_be_written_is_reported_and_raises_nothing(reopen, tmp_path):
    store = reopen(tmp_path / "missing" / "state.db")
    store.save("services", "piper", {"a": 1})
    store.record(at=1.0, kind="k", subject="s", reason=because("r"), who="w", data={})
    assert store.load("services") == {}
    assert store.trouble().code == "store.unwritable"


def test_a_disk_that_breaks_later_is_reported_and_its_recovery_too(reopen, tmp_path):
    store = reopen()
    store.save("services", "piper", {"a": 0})
    deadline = time.monotonic() + 10
    while not store.load("services") and time.monotonic() < deadline:
        time.sleep(0.01)
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("ALTER TABLE rows RENAME TO elsewhere")
    store.save("services", "piper", {"a": 1})
    assert trouble_of(store) == "store.unwritable"
    with sqlite3.connect(tmp_path / "state.db") as again:
        again.execute("DROP TABLE IF EXISTS rows")
        again.execute("ALTER TABLE elsewhere RENAME TO rows")
    other.close()
    again.close()
    store.save("services", "piper", {"a": 2})
    assert reopen().load("services") == {"piper": {"a": 2}}
    assert store.trouble() is None


def test_the_database_is_for_its_owner_only(reopen, tmp_path):
    reopen()
    assert (tmp_path / "state.db").stat().st_mode & 0o077 == 0


def test_the_journal_keeps_order_reason_and_data(reopen, tmp_path):
    store = reopen()
    for number in range(3):
        store.record(
            at=float(number),
            kind="phase",
            subject="piper",
            reason=because("exit.code", code=number),
            who="lictor",
            data={"phase": "backoff"},
        )
    store.close()
    with sqlite3.connect(tmp_path / "state.db") as other:
        rows = other.execute("SELECT at, code, params, data FROM journal ORDER BY id").fetchall()
    other.close()
    assert rows == [
        (float(n), "exit.code", f'{{"code": {n}}}', '{"phase": "backoff"}') for n in range(3)
    ]
