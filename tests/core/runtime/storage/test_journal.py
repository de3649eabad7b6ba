"""What is asked of the journal, page by page and live."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from lictor.core.model.reason import Reason, because
from lictor.core.runtime.storage import store as store_module
from lictor.core.runtime.storage.journal import JournalQuery, shown, stream_events
from lictor.core.runtime.storage.store import SqliteStore

WHEN = 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(tmp_path / "state.db")) as one:
        yield one


def note(store, subject="piper", kind="verb", at=WHEN, reason: Reason | None = None, **data):
    reason = reason or because("verb.ordered", what="stop", by="anna")
    store.record(at=at, kind=kind, subject=subject, reason=reason, who="anna", data=data)


def ask(store, **query):
    return [line.subject for line in store.events(JournalQuery(**query))]


@pytest.fixture(params=["on disk", "in memory", "both"])
def filled(store, request, monkeypatch) -> SqliteStore:
    """Lines about several services, wherever they lie at that moment."""
    if request.param == "on disk":
        monkeypatch.setattr(store, "_recent", [])
    if request.param == "both":
        monkeypatch.setattr(store, "_recent", store_module.deque(maxlen=3))
    for number, subject in enumerate(
        ("piper", "piper@a", "piper@b", "piper-two", "pipe", "piperb", "")
    ):
        note(store, subject, kind="phase" if number % 2 else "verb", at=WHEN + number)
    if request.param != "in memory":
        assert store.flushed().result(20)
    return store


def test_a_service_means_its_instances_and_no_other_name(filled):
    assert ask(filled, subjects=("piper",)) == ["piper@b", "piper@a", "piper"]
    assert ask(filled, subjects=("piper@a",)) == ["piper@a"]
    assert ask(filled, subjects=("pipe", "piper-two")) == ["pipe", "piper-two"]


def test_kind_and_time_narrow_it(filled):
    assert ask(filled, kinds=("phase",)) == ["piperb", "piper-two", "piper@a"]
    assert ask(filled, since=WHEN + 5) == ["", "piperb"]
    assert ask(filled, since=WHEN + 3, kinds=("verb",), subjects=("pipe",)) == ["pipe"]


def test_pages_join_without_a_gap_and_without_a_double(filled):
    seen, before = [], None
    while page := filled.events(JournalQuery(before=before, limit=2)):
        assert len(page) <= 2
        seen += [line.subject for line in page]
        before = page[-1].id
    assert seen == ["", "piperb", "pipe", "piper-two", "piper@b", "piper@a", "piper"]


def test_the_oldest_lines_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_KEEP_LINES", 50)
    monkeypatch.setattr(store_module, "_TRIM_EVERY", 1)
    monkeypatch.setattr(store_module, "_RECENT", 10)
    with contextlib.closing(SqliteStore(tmp_path / "state.db")) as store:
        for number in range(200):
            note(store, f"s{number}")
        assert store.flushed().result(20)
        note(store, "last")
        assert store.flushed().result(20)
        kept = ask(store, limit=1000)
    assert kept == ["last", *(f"s{number}" for number in range(199, 150, -1))]


def test_a_line_is_shown_with_its_sentence_and_its_moment():
    line = store_module.JournalLine(
        7, WHEN, "phase", "", because("exit.code", code=3), "lictor", {"phase": "backoff"}
    )
    assert shown(line) == {
        "id": 7,
        "at": "2023-11-14T22:13:20.000Z",
        "kind": "phase",
        "service": None,
        "who": "lictor",
        "phase": "backoff",
        "outcome": None,
        "sentence": "It ended with exit code 3.",
        "reason": "exit.code",
        "reason_params": {"code": 3},
    }


async def test_who_follows_gets_each_new_line_once_and_in_order(store):
    note(store, "old")
    got: list[str] = []

    async def emit(item) -> None:
        got.append(item["service"])

    query = JournalQuery(kinds=("verb",), limit=5)
    following = asyncio.ensure_future(stream_events(store, query, follow=True, emit=emit))
    for number in range(40):
        note(store, f"s{number}")
        note(store, "phase", kind="phase")
        if number % 7 == 0:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while len(got) < 5 or got[-1] != "s39":
            await asyncio.sleep(0.02)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    new = [name for name in got if name != "old"]
    first = int(new[0].removeprefix("s"))  # up to five lines before the first look, then every one
    assert new == [f"s{number}" for number in range(first, 40)]
    assert not store._listeners


async def test_what_is_no_line_of_ours_is_left_out(store, tmp_path):
    note(store)
    assert store.flushed().result(20)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as file:
        file.execute("INSERT INTO journal VALUES (5, 1.0, 'verb', 'x', 'a.b', '{', 'w', '{}')")
        file.execute("INSERT INTO journal VALUES (6, 1.0, 'verb', 'y', 'a.b', '3', 'w', '{}')")
        file.execute("INSERT INTO journal VALUES (7, 1.0, 'verb', 'z', 'a.b', '{}', 'w', '{}')")
        file.commit()
    assert ask(store) == ["piper", "z"]
