"""`ports.Store`: what one agent saves the next one loads, on disk and in memory."""

from __future__ import annotations

import pytest

from lictor.core.model.reason import because
from lictor.core.runtime.storage.store import SqliteStore
from lictor.core.testing import MemoryStore


@pytest.fixture(params=["real", "fake"])
def reopen(request, tmp_path):
    """The next agent's store."""
    made = []

    def open_():
        if request.param == "fake":
            made.append(MemoryStore(made[-1] if made else None))
        else:
            if made:
                made[-1].close()
            made.append(SqliteStore(tmp_path / "state.db"))
        return made[-1]

    yield open_
    if request.param == "real":
        made[-1].close()


def test_a_new_store_is_empty_and_well(reopen):
    store = reopen()
    assert store.load("services") == {}
    assert store.trouble() is None


def test_rows_are_kept_by_table_and_key(reopen):
    store = reopen()
    row = {"text": "голос 语音", "number": 1.5, "none": None, "list": [1, {"a": True}]}
    store.save("services", "piper", row)
    store.save("pending", "piper", {"other": 1})
    store.save("services", "redis", {})
    store = reopen()
    assert store.load("services") == {"piper": row, "redis": {}}
    assert store.load("pending") == {"piper": {"other": 1}}


def test_the_last_write_counts_and_none_forgets(reopen):
    store = reopen()
    for row in ({"a": 1}, None, {"a": 2}):
        store.save("services", "piper", row)
    store.save("services", "redis", {"a": 3})
    store.save("services", "redis", None)
    store.save("services", "never-there", None)
    assert reopen().load("services") == {"piper": {"a": 2}}


def test_a_saved_row_is_a_copy(reopen):
    store = reopen()
    row = {"list": [1]}
    store.save("services", "piper", row)
    row["list"].append(2)
    assert reopen().load("services") == {"piper": {"list": [1]}}


def test_an_event_can_be_recorded(reopen):
    store = reopen()
    reason = because("exit.code", code=1)
    store.record(at=1.0, kind="phase", subject="piper", reason=reason, who="x", data={"n": None})
    assert reopen().trouble() is None
