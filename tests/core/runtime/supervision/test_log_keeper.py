"""The keeper of logs: rests while nothing is written, wakes for a write, keeps every log small."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import LogSpec
from lictor.core.runtime.clock import SystemClock
from lictor.core.runtime.logs import rotation
from lictor.core.runtime.logs.index import entries
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.logs.reading import lines_between, window
from lictor.core.runtime.logs.state import older_files, read_state, state_path
from lictor.core.runtime.logs.watch import FileWatch
from lictor.core.runtime.logs.watched import WatchedLog
from lictor.core.runtime.supervision import log_keeper
from lictor.core.runtime.supervision.log_keeper import LogKeeper, _Rounds
from tests.core.runtime.numbered import line, text, writer

KIB = 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


class Kept:
    """A keeper of some logs, as the agent runs it."""

    def __init__(self, folder: Path, names: list[str], spec: LogSpec) -> None:
        self.said: list[tuple[str, str, object]] = []
        self.runners = [
            SimpleNamespace(
                key=ServiceKey(name),
                spec=SimpleNamespace(log=spec),
                log_path=lambda name=name: folder / f"{name}.log",
            )
            for name in names
        ]
        keeper = LogKeeper(
            SystemClock(), lambda: self.runners, lambda *what: self.said.append(what)
        )
        self.task = asyncio.create_task(keeper.attend())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def keep(folder, monkeypatch):
    monkeypatch.setattr(log_keeper, "_FIRST", 0.0)
    kept: list[Kept] = []

    def begin(*names: str, **limits: int) -> Kept:
        kept.append(Kept(folder, list(names), LogSpec(**limits)))
        return kept[-1]

    yield begin
    for item in kept:
        await item.end()


async def until(truth, what: str = "") -> None:
    async with asyncio.timeout(20):
        while not truth():
            await asyncio.sleep(0.02)


def seen(log: Path) -> list[str]:
    reader = LogReader(log)
    return list(lines_between(reader, *window(reader, None, None)))


async def test_a_log_that_comes_and_grows_is_rotated_while_it_is_written(folder, keep):
    keep("a", "b", max_size=256 * KIB, keep=100)
    await asyncio.sleep(0.2)
    log = folder / "a.log"
    with await asyncio.to_thread(writer, log, 40_000, 20, 4e6) as process:
        await until(lambda: len(older_files(log)) >= 3)
        await asyncio.to_thread(process.wait)
    await until(lambda: log.stat().st_size <= 257 * KIB)
    assert await asyncio.to_thread(seen, log) == [text(n) for n in range(40_000)]
    assert not (folder / "b.log").exists()


async def test_a_log_that_grew_without_an_agent_is_put_right(folder, keep):
    log = folder / "a.log"
    log.write_bytes(b"".join(map(line, range(20_000))))
    keep("a", max_size=256 * KIB, keep=3)
    await until(lambda: older_files(log) and log.stat().st_size <= 256 * KIB)
    got = await asyncio.to_thread(seen, log)
    assert got == [text(n) for n in range(20_000 - len(got), 20_000)]


async def test_growth_is_noted_with_its_time(folder, keep):
    log = folder / "a.log"
    before = time.time()
    keep("a", max_size=256 * KIB, keep=3)
    await asyncio.sleep(0.2)
    log.write_bytes(b"one\n")
    await until(lambda: entries(log))
    *born, (at, offset) = entries(log)
    assert before - 1 <= at <= time.time()
    assert offset == 4
    assert all(before - 1 <= made <= at and first == 0 for made, first in born)


async def test_a_log_that_is_no_plain_file_hurts_nobody_else(folder, keep):
    (folder / "a.log").symlink_to("/etc/passwd")
    os.mkfifo(folder / "b.log")
    keep("a", "b", "c", max_size=64 * KIB, keep=100)
    log = folder / "c.log"
    log.write_bytes(b"".join(map(line, range(5000))))
    await until(lambda: older_files(log))
    assert not state_path(folder / "a.log").exists() or (folder / "a.log").is_symlink()
    assert older_files(folder / "a.log") == older_files(folder / "b.log") == []


async def test_lines_lost_to_a_full_disk_are_written_down_once(folder, keep, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rotation, "append", full)
    log = folder / "a.log"
    kept = keep("a", max_size=64 * KIB, keep=5)
    for _ in range(3):
        with log.open("ab") as file:
            file.write(b"".join(map(line, range(2000))))
        await until(lambda: (folder / "a.log").stat().st_size <= 64 * KIB)
    await until(lambda: kept.said)
    ((kind, subject, reason),) = kept.said
    assert (kind, subject, reason.code) == ("store", "a", "log.lost")
    assert 1300 < reason.params["lines"] <= 6000
    assert read_state(log).lost_lines >= reason.params["lines"]


async def test_a_service_that_goes_while_its_lines_are_lost_ends_no_keeping(
    folder, keep, monkeypatch
):
    """What was taken out of the config is remembered by the rounds until their next sweep."""

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rotation, "append", full)
    monkeypatch.setattr(log_keeper, "_SWEEP", 3600.0)
    log = folder / "a.log"
    log.write_bytes(b"begun\n")
    kept = keep("a", "b", max_size=64 * KIB, keep=5)
    await until(lambda: entries(log))
    del kept.runners[0]
    await asyncio.sleep(0.2)
    with log.open("ab") as file:
        file.write(b"".join(map(line, range(2000))))
    await until(lambda: kept.task.done() or log.stat().st_size <= 64 * KIB)
    await until(lambda: kept.task.done() or kept.said)
    ((kind, subject, reason),) = kept.said
    assert (kind, subject, reason.code) == ("store", "a", "log.lost")


async def test_without_watches_of_the_kernel_logs_are_kept_all_the_same(folder, keep, monkeypatch):
    monkeypatch.setattr(FileWatch, "_add", lambda *_: -1)
    log = folder / "a.log"
    log.touch()
    keep("a", max_size=64 * KIB, keep=100)
    await asyncio.sleep(0.3)
    log.write_bytes(b"".join(map(line, range(5000))))
    await until(lambda: older_files(log))


def test_five_hundred_quiet_logs_are_not_even_looked_at(folder, monkeypatch):
    wanted = {folder / f"{n}.log": LogSpec() for n in range(500)}
    for path in wanted:
        path.write_bytes(b"begun\n")
    rounds, looks = _Rounds(), []
    real = WatchedLog.look
    monkeypatch.setattr(WatchedLog, "look", lambda log, wall: looks.append(log) or real(log, wall))
    try:
        rounds.go(wanted, 1.0, [])
        assert len(looks) == 500
        time.sleep(1.1)
        rounds.go(wanted, 2.0, [])  # not grown since: all of them rest now
        looks.clear()
        assert rounds.go(wanted, 3.0, []) > 10
        assert looks == []
        with (folder / "7.log").open("ab") as file:
            file.write(b"more\n")
        assert rounds.go(wanted, 4.0, []) <= 1.0
        assert [item.path.name for item in looks] == ["7.log"]
    finally:
        rounds.watch.close()


def test_the_kernel_tells_of_the_next_write_and_of_names_that_come(tmp_path):
    watch = FileWatch()
    try:
        (tmp_path / "a").touch()
        assert watch.watch_folder(tmp_path)
        assert watch.watch(tmp_path / "a")
        assert not watch.watch(tmp_path / "missing")
        assert watch.stirred() == set()
        (tmp_path / "a").write_text("x")
        (tmp_path / "b").touch()
        assert watch.stirred() == {tmp_path / "a", tmp_path / "b"}
        (tmp_path / "a").write_text("y")
        assert watch.stirred() == set()
        assert watch.watch(tmp_path / "a")
        (tmp_path / "a").unlink()
        assert watch.stirred() == set()
    finally:
        watch.close()
