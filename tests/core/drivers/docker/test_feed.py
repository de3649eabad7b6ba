"""Copying output: nothing twice and nothing left out, wherever an agent was cut short.

The engine here is a list of pieces with their times, because the moment between a write and its note
cannot be hit on purpose with a real one (`test_driver` does the rest with a real one).
"""

from __future__ import annotations

import contextlib
import json
import os

import pytest

from lictor.core.drivers.docker.cursor import Cursor, CursorFile
from lictor.core.drivers.docker.feed import LogFeed
from lictor.core.drivers.docker.terms import EngineAway
from lictor.core.model.reason import because
from tests.support.patience import until

PIECES = [
    ("2026-01-01T00:00:00.000000001Z", b"one\n"),
    ("2026-01-01T00:00:00.000000002Z", b"part a,"),
    ("2026-01-01T00:00:00.000000002Z", b"part b,"),
    ("2026-01-01T00:00:00.000000002Z", b"part c\n"),
    ("2026-01-01T00:00:01.000000000Z", b"two\n"),
]
WHOLE = b"".join(said for _, said in PIECES)


class Told:
    """An engine that has printed `PIECES`."""

    def __init__(self) -> None:
        self.since = []

    @contextlib.contextmanager
    def told(self):
        yield

    def new_client(self, _limit):
        return self

    def close(self):
        pass

    def finish(self, _stream):
        pass

    def cut(self, _stream):
        pass

    def logs(self, _client, _container, *, since, follow):
        self.since.append(since)
        return iter([f"{at} ".encode() + said for at, said in PIECES])


async def copied(path, container="c1") -> bytes:
    feed = LogFeed(Told, container, path)
    feed.begin()
    assert await feed.drain(20)
    return path.read_bytes()


async def test_everything_is_copied_without_its_times(tmp_path):
    assert await copied(tmp_path / "x.log") == WHOLE


async def test_a_second_agent_copies_nothing_again(tmp_path):
    await copied(tmp_path / "x.log")
    assert await copied(tmp_path / "x.log") == WHOLE


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
async def test_an_agent_that_was_killed_after_any_byte_leaves_no_gap_and_no_double(tmp_path, cut):
    path = tmp_path / "x.log"
    path.write_bytes(b"earlier\n" + WHOLE[:cut])
    # Noted is what was whole before the piece in which it was killed, or one piece less.
    noted, size = 0, 0
    while noted < len(PIECES) and size + len(PIECES[noted][1]) <= cut:
        size += len(PIECES[noted][1])
        noted += 1
    for known in {noted, max(0, noted - 1)}:
        path.write_bytes(b"earlier\n" + WHOLE[:cut])
        done = PIECES[:known]
        at = done[-1][0] if done else ""
        cursor = Cursor(
            "c1",
            at,
            sum(one == at for one, _ in done),
            path.stat().st_ino,
            len(b"earlier\n") + sum(len(said) for _, said in done),
        )
        marks = CursorFile(tmp_path / ".x.log.docker")
        marks.load("c1")
        marks.save(cursor)
        marks.close()
        assert await copied(path) == b"earlier\n" + WHOLE


async def test_another_container_begins_behind_what_is_there(tmp_path):
    path = tmp_path / "x.log"
    await copied(path)
    assert await copied(path, "c2") == WHOLE * 2


async def test_a_log_that_was_cut_meanwhile_is_gone_on_with(tmp_path):
    path = tmp_path / "x.log"
    await copied(path)
    os.truncate(path, 3)
    assert await copied(path) == WHOLE[:3]


async def test_a_damaged_note_is_no_trouble(tmp_path):
    (tmp_path / ".x.log.docker").write_bytes(b"\xff\0garbage")
    assert await copied(tmp_path / "x.log") == WHOLE
    assert json.loads((tmp_path / ".x.log.docker").read_text())["container"] == "c1"


async def test_a_log_that_is_no_file_costs_a_warning(tmp_path, caplog):
    (tmp_path / "x.log").mkdir()
    feed = LogFeed(Told, "c1", tmp_path / "x.log")
    feed.begin()
    assert await feed.drain(20)
    await until(lambda: "cannot be copied" in caplog.text)


def test_the_moment_to_ask_from_is_never_late():
    assert Cursor("c").since == 0.0
    since = Cursor("c", "2026-01-01T00:00:01.500000000Z").since
    assert 1767225601.4 < since <= 1767225601.5


async def test_an_engine_that_is_away_at_the_end_is_asked_again_and_not_without_a_pause(tmp_path):
    tries = []

    class Away(Told):
        def logs(self, *args, **kwargs):
            tries.append(1)
            if len(tries) < 4:
                raise EngineAway(because("docker.absent", address="x"))
            return super().logs(*args, **kwargs)

    feed = LogFeed(Away, "c1", tmp_path / "x.log")
    feed.begin()
    assert not await feed.drain(0.05)
    assert len(tries) < 4
    assert await feed.drain(20)
    assert (tmp_path / "x.log").read_bytes() == WHOLE
