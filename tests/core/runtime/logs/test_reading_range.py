"""From the clock to a place in a log: the index, what people write for a moment, and the answer."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.errors import UsageError
from lictor.core.runtime.logs.index import (
    MOST_ENTRIES,
    entries,
    index_path,
    moment,
    note,
    offsets,
)
from lictor.core.runtime.logs.rotation import Rotation
from lictor.core.runtime.logs.view import Wanted, stream_logs
from tests.core.runtime.numbered import LINE, line, text

NOW = datetime(2026, 11, 21, 10, 30, 15).astimezone().timestamp()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "x.log"


def nothing_is_gone() -> int:
    return 0


# --- the index --------------------------------------------------------------------------------


def test_a_range_is_the_stretch_between_two_notes(log):
    note(log, (100.0, 0), (110.0, 500), (200.0, 500), (210.0, 900), oldest=nothing_is_gone)
    assert offsets(log, 150, 205) == (500, 900)
    assert offsets(log, 105, 150) == (0, 500)
    assert offsets(log, 50, None) == (None, None)
    assert offsets(log, 300, None) == (900, None)
    assert offsets(log, None, 50) == (None, 0)
    assert offsets(log, None, 300) == (None, None)


def test_without_notes_nothing_is_left_out(log):
    assert offsets(log, 1, 2) == (None, None)
    index_path(log).write_bytes(b"half an ent")
    assert offsets(log, 1, 2) == (None, None)
    log.write_text("written now\n")
    assert offsets(log, time.time() - 3600, None) == (None, None)
    assert offsets(log, None, time.time() + 3600) == (None, None)
    note(log, (5.0, 7), oldest=nothing_is_gone)
    assert entries(log) == [(5.0, 7)]


steps = st.lists(
    st.tuples(st.integers(-50, 50), st.integers(0, 1000), st.integers(0, 1000)), max_size=30
)


@given(steps, st.integers(0, 1000), st.integers(0, 1000))
def test_nothing_written_in_the_range_is_left_out_whatever_the_clock_did(
    tmp_path_factory, moves, since, until
):
    """Each step: the clock goes on (or back), bytes are written at that time, and noted or not."""
    log = tmp_path_factory.mktemp("logs") / "x.log"
    wall, end, written = 500.0, 0, []
    for go, size, noted in moves:
        wall += go
        written.append((wall, end, end + size))
        end += size
        if noted % 2:
            note(log, (wall + 0.5, end), oldest=nothing_is_gone)
            wall += 1
    begin, stop = offsets(log, since, until)
    # A clock that only goes forward: all of it is there.
    if all(go >= 0 for go, _, _ in moves):
        for at, first, last in written:
            if since <= at <= until and first < last:
                assert begin is None or begin <= first
                assert stop is None or stop >= last


def test_the_index_stays_small_and_forgets_what_was_deleted(log):
    for n in range(3 * MOST_ENTRIES):
        note(log, (float(n), n * 10), oldest=lambda: 100_000)
    found = entries(log)
    assert len(found) <= MOST_ENTRIES
    assert found[-1] == (3 * MOST_ENTRIES - 1.0, (3 * MOST_ENTRIES - 1) * 10)
    assert found == sorted(found)
    assert found[1][1] >= 100_000
    assert index_path(log).stat().st_size <= 16 * MOST_ENTRIES


def test_a_log_that_was_truncated_from_outside_is_noted_anew(log):
    note(log, (1.0, 100), (2.0, 900), oldest=nothing_is_gone)
    note(log, (3.0, 50), (4.0, 400), oldest=nothing_is_gone)
    assert entries(log) == [(3.0, 50), (4.0, 400)]


# --- moments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "ago"),
    [
        ("10m", 600),
        ("1h30m", 5400),
        ("90", 90),
        ("10:30", 15),
        ("9:30:15", 3600),
        ("2026-11-21T10:00", 1815),
        ("2026-11-21 10:00:15", 1800),
        ("2026-11-21", 37815),
        ("20261121", 37815),
    ],
)
def test_a_moment_may_be_written_in_many_ways(said, ago):
    assert moment(said, NOW) == pytest.approx(NOW - ago)


def test_a_moment_with_a_zone_is_that_moment():
    utc = datetime.fromtimestamp(NOW).astimezone() - timedelta(hours=1)
    assert moment(utc.isoformat(), NOW) == pytest.approx(NOW - 3600)
    assert moment("2026-11-21T10:00:00Z", NOW) == pytest.approx(1795255200)


@pytest.mark.parametrize(
    "said", ["", "soon", "25:00", "2026-13-01", "10 parsecs", "-5m", "9" * 400]
)
def test_what_is_no_moment_is_refused_with_an_example(said):
    with pytest.raises(UsageError) as caught:
        moment(said, NOW)
    assert "10m" in caught.value.hint


@pytest.mark.parametrize(
    "args",
    [
        {"since": "5m", "until": "10m"},
        {"until": "5m", "follow": True},
        {"lines": "many"},
        {"since": "whenever"},
    ],
)
def test_a_range_that_cannot_be_is_refused(args):
    with pytest.raises(UsageError):
        Wanted.of(args)


# --- the answer -------------------------------------------------------------------------------


async def shown(log: Path, **wanted) -> list[str]:
    got: list[str] = []

    async def emit(item):
        got.append(item["line"])

    await stream_logs({"x": log}, Wanted(**wanted), emit)
    return got


async def test_a_range_gives_all_of_its_lines_over_rotated_files(log):
    now = time.time()
    for n in range(20):
        with log.open("ab") as file:
            file.write(b"".join(map(line, range(n * 1000, n * 1000 + 1000))))
        note(log, (now + n, (n + 1) * 1000 * LINE), oldest=nothing_is_gone)
        Rotation(log, 64 * 1024, 1000).rotate()
    got = await shown(log, since=now + 4.5, until=now + 16.5)
    assert got == [text(n) for n in range(5000, 18_000)]
    assert await shown(log, since=now + 4.5, lines=2) == [text(19_998), text(19_999)]
    assert await shown(log, since=now + 4.5, grep="00123") == [
        text(n) for n in range(5000, 20_000) if "00123" in text(n)
    ]
    assert await shown(log, since=now + 4.5, until=now + 5.5, lines=1, grep="005") == [text(6005)]
    assert await shown(log) == [text(n) for n in range(19_900, 20_000)]
    assert await shown(log, lines=0) == []


async def test_the_answer_names_what_is_empty_and_what_was_lost(log, monkeypatch):
    async def emit(item):
        raise AssertionError(item)

    answer = await stream_logs({"x": log}, Wanted(), emit)
    assert answer == {"empty": {"x": str(log)}, "lost": {}}


async def test_a_line_being_written_is_given_once_and_whole_to_who_follows(log):
    import asyncio

    log.write_text("one\ntw")
    got: list[str] = []

    async def emit(item):
        got.append(item["line"])

    reading = asyncio.create_task(stream_logs({"x": log}, Wanted(follow=True), emit))
    try:
        async with asyncio.timeout(15):
            while got != ["one"]:
                await asyncio.sleep(0.02)
            with log.open("a") as file:
                file.write("o\nthree\n")
            while len(got) < 3:
                await asyncio.sleep(0.02)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert got == ["one", "two", "three"]
