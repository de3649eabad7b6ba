"""Rotation under a writer that never stops: no byte lost, none twice, no line cut, in order.

Real files, real writers in processes of their own, and a rotating process that is killed. Each way
of letting go of a head is tried where it runs here: `collapse` and `punch` by the file systems that
are found (the temporary folder, /dev/shm), `copy` by telling the state that nothing else works.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lictor.core.errors import OperationFailed
from lictor.core.runtime.logs import rotation
from lictor.core.runtime.logs.follow import follow
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.logs.reading import lines_between, search, tail, window
from lictor.core.runtime.logs.rotation import Rotation, recover
from lictor.core.runtime.logs.state import (
    LogState,
    decode,
    encode,
    older_files,
    part_path,
    read_state,
    state_path,
)
from tests.core.runtime.numbered import LINE, check, line, text, write, writer

KIB, MIB = 1024, 1024 * 1024
ROTATING = """
import sys, time
from pathlib import Path
from lictor.core.runtime.logs.rotation import Rotation
log = Rotation(Path(sys.argv[1]), int(sys.argv[2]), 100_000)
while True:
    log.rotate()
    time.sleep(0.001)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "x.log").touch()
    return tmp_path / "x.log"


@pytest.fixture(params=["disk", "memory"])
def any_log(request, tmp_path, tmp_path_factory) -> Path:
    """A log in the temporary folder, and one on a file system in memory."""
    if request.param == "disk":
        folder = tmp_path
    else:
        shm = Path("/dev/shm")
        if not os.access(shm, os.W_OK):
            pytest.skip("no file system in memory")
        folder = shm / f"lictor-{os.getpid()}-{random.randrange(10**9)}"
        folder.mkdir()
    (folder / "x.log").touch()
    yield folder / "x.log"
    if folder != tmp_path:
        for item in folder.iterdir():
            item.unlink()
        folder.rmdir()


def raw(log: Path) -> bytes:
    """Every byte that is left, read past all of Lictor's readers, as the docs tell people to."""
    state = read_state(log)
    head = state.head if state else 0
    return b"".join(
        [*(item.read_bytes() for item in reversed(older_files(log))), log.read_bytes()[head:]]
    )


def seen(log: Path) -> list[str]:
    reader = LogReader(log)
    return list(lines_between(reader, *window(reader, None, None)))


def force_copy(log: Path) -> None:
    """As if the file system could neither collapse nor punch."""
    state = recover(log)
    state_path(log).write_bytes(encode(LogState(ino=state.ino, way="copy")))


# --- one rotation -----------------------------------------------------------------------------


def test_a_log_within_its_size_is_left_alone(log):
    log.write_bytes(b"".join(map(line, range(10))))
    assert Rotation(log, 2000, 5).rotate().moved == 0
    assert older_files(log) == []
    assert check(raw(log)) == 9


def test_the_head_moves_into_an_older_file_and_nothing_is_lost(any_log):
    any_log.write_bytes(b"".join(map(line, range(1000))))
    done = Rotation(any_log, 40 * KIB, 5).rotate()
    assert done.moved >= 50 * KIB
    assert [item.name for item in older_files(any_log)] == ["x.log.1", "x.log.2"]
    assert check(raw(any_log)) == 999
    assert seen(any_log) == [text(n) for n in range(1000)]
    assert tail(any_log, 700) == [text(n) for n in range(300, 1000)]


def test_older_files_begin_and_end_with_whole_lines(log):
    for n in range(6):
        with log.open("ab") as file:
            file.write(b"".join(map(line, range(n * 500, n * 500 + 500))))
        Rotation(log, 16 * KIB, 100).rotate()
    assert len(older_files(log)) > 10
    for item in older_files(log)[1:]:
        check(item.read_bytes(), first=None)
    assert check(raw(log)) == 2999


def test_only_so_many_older_files_are_kept(log):
    with log.open("ab") as file:
        for _ in range(20):
            write(file.fileno(), 200, 200, 0)
            Rotation(log, 16 * KIB, 3).rotate()
            assert len(older_files(log)) <= 3
    assert sum(item.stat().st_size for item in older_files(log)) < 3 * 20 * KIB


def test_none_are_kept_where_none_are_wanted(any_log):
    any_log.write_bytes(b"".join(map(line, range(1000))))
    done = Rotation(any_log, 16 * KIB, 0).rotate()
    assert older_files(any_log) == []
    assert done.lost_lines == 0
    assert seen(any_log)[-1] == text(999)
    assert seen(any_log)[0] in {text(n) for n in range(1000)}, "a cut line is shown"


def test_a_flood_is_not_copied_only_to_be_deleted(log):
    with log.open("ab") as file:
        write(file.fileno(), 200_000, 1000, 0)
    done = Rotation(log, 256 * KIB, 3).rotate()
    assert done.moved > 19 * MIB
    assert sum(item.stat().st_blocks * 512 for item in log.parent.iterdir()) < 2 * MIB
    shown = seen(log)
    assert shown == [text(n) for n in range(200_000 - len(shown), 200_000)]
    assert len(shown) * LINE > 512 * KIB


def test_an_endless_line_is_rotated_too(log):
    log.write_bytes(b"z" * MIB + b"\nend\n")
    Rotation(log, 100 * KIB, 100).rotate()
    assert len(older_files(log)) > 5
    assert raw(log) == b"z" * MIB + b"\nend\n"
    first, last = seen(log)
    assert first.endswith("bytes cut]")
    assert last == "end"


def test_older_files_belong_to_whom_the_log_belongs(log):
    log.write_bytes(b"".join(map(line, range(1000))))
    log.chmod(0o604)
    Rotation(log, 40 * KIB, 5).rotate()
    assert {item.stat().st_mode & 0o777 for item in older_files(log)} == {0o604}


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
def test_only_plain_files_are_rotated(log, kind):
    log.unlink()
    if kind == "link":
        (log.parent / "secret").write_bytes(b"x" * 100_000)
        log.symlink_to(log.parent / "secret")
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    with pytest.raises((OperationFailed, FileNotFoundError)):
        Rotation(log, KIB, 5).rotate()
    if kind == "link":
        assert (log.parent / "secret").read_bytes() == b"x" * 100_000


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.binary(max_size=3000), max_size=12), st.integers(1, 20_000)),
        min_size=1,
        max_size=8,
    )
)
def test_the_files_together_are_what_was_written_whatever_it_was(tmp_path_factory, rounds):
    log = tmp_path_factory.mktemp("logs") / "x.log"
    written = b""
    for blocks, size in rounds:
        with log.open("ab") as file:
            file.write(b"".join(blocks))
        written += b"".join(blocks)
        Rotation(log, size, 10_000).rotate()
        assert raw(log) == written
    reader = LogReader(log)
    assert (reader.row().begin, reader.row().end) == (0, len(written))
    for at in range(0, len(written), 1711):
        assert reader.span(at, at + 99) == written[at : at + 99]


# --- the writer goes on -----------------------------------------------------------------------


def rotating(log: Path, size: int, until: subprocess.Popen[bytes], leash: int) -> int:
    """Rotate as often as it is needed until the writer has ended; how often that was.

    The writer gets at most `leash` bytes ahead of what was moved when this looked last. So no
    rotation moves more than that, and only so much is left at the end: of `total` bytes there are
    at least `total / leash - 1` rotations, on the busiest machine.
    """
    mover, count, base, told = Rotation(log, size, 1000), 0, 0, -1
    assert until.stdin is not None
    with suppress(BrokenPipeError), until.stdin as allowed:
        while until.poll() is None:
            if base > told:
                allowed.write(b"%d\n" % (base + leash))
                allowed.flush()
                told = base
            if log.stat().st_size - (read_state(log) or LogState()).head > size:
                done = mover.rotate()
                count, base = count + (done.moved > 0), done.state.base
            time.sleep(0.002)
    assert until.wait(20) == 0
    return count


@pytest.mark.parametrize(("count", "batch"), [(1_500_000, 640), (400_000, 1)])
def test_a_writer_at_full_speed_loses_and_cuts_nothing(any_log, count, batch):
    with writer(any_log, count, batch, leashed=True) as process:
        rotations = rotating(any_log, 2 * MIB, process, count * LINE // 4)
    assert rotations >= 3
    assert len(older_files(any_log)) >= 3
    assert check(raw(any_log)) == count - 1


def test_readers_see_every_line_once_while_it_is_rotated(log):
    count, problems = 60_000, []

    def read() -> None:
        try:
            while process.poll() is None:
                shown = tail(log, 500)
                assert shown == sorted(shown)
                assert all(len(item) == LINE - 1 for item in shown[:-1])
                numbers = [int(item[:12]) for item in shown[:-1]]
                assert not numbers or numbers == list(range(numbers[0], numbers[-1] + 1))
                assert search(log, f"{7:012}", 5) in ([], [text(7)])
        except BaseException as error:  # noqa: BLE001 - to be raised where the test sees it
            problems.append(error)

    with writer(log, count, 10, 4e6, leashed=True) as process:
        thread = threading.Thread(target=read)
        thread.start()
        rotations = rotating(log, 128 * KIB, process, count * LINE // 11)
        thread.join()
    assert rotations >= 10
    assert problems == []
    assert search(log, "", 10_000, max_bytes=10 * MIB)[-1] == text(count - 1)


async def test_following_goes_on_across_rotations(log):
    import asyncio

    count, got = 30_000, []

    async def read() -> None:
        async for shown in follow(log, 0):
            got.append(shown)
            if len(got) == count:
                return

    with writer(log, count, 7, 3e6, leashed=True) as process:
        reading = asyncio.create_task(read())
        leash = count * LINE // 11
        rotations = await asyncio.to_thread(rotating, log, 64 * KIB, process, leash)
        async with asyncio.timeout(30):
            await reading
    assert rotations >= 10
    assert got == [text(n) for n in range(count)]


def test_a_logical_offset_stays_what_it_is(log):
    with log.open("ab") as file:
        for n in range(0, 3000, 300):
            file.write(b"".join(map(line, range(n, n + 300))))
            file.flush()
            Rotation(log, 16 * KIB, 1000).rotate()
            for number in range(0, n, 97):
                assert LogReader(log).span(number * LINE, (number + 1) * LINE) == line(number)


# --- the agent dies ---------------------------------------------------------------------------


def test_a_rotating_process_killed_at_any_moment_loses_nothing(log):
    chance = random.Random(7)
    with writer(log, 400_000, 20, 8e6) as process:
        for attempt in range(60):
            argv = [sys.executable, "-c", ROTATING, str(log), str(64 * KIB)]
            # The longer it takes the more it lives: on a busy machine Python is not up by then.
            patience = 0.12 + chance.random() * 0.08 + 0.02 * max(0, attempt - 20)
            with subprocess.Popen(argv) as mover:
                time.sleep(patience)
                mover.send_signal(signal.SIGKILL)
            if attempt >= 30 and len(older_files(log)) >= 3:
                break
        process.terminate()
    recover(log)
    state = read_state(log)
    assert state is not None
    assert state.phase == ""
    assert len(older_files(log)) >= 3
    whole = raw(log)
    # (the writer itself was ended, maybe in the middle of a block)
    check(whole[: whole.rfind(b"\n") + 1])
    assert state.base == sum(item.stat().st_size for item in older_files(log))


@pytest.mark.parametrize("way", ["collapse", "punch", "copy"])
def test_a_rotation_that_ends_before_any_one_of_its_steps_is_finished_later(
    any_log, way, monkeypatch
):
    """Every call that changes something is, in turn, the one that was never reached."""

    class Killed(BaseException):
        pass

    def dying(real, counter, fatal):
        def call(*args, **words):
            counter.append(real)
            if len(counter) == fatal:
                raise Killed
            return real(*args, **words)

        return call

    steps = 0
    for fatal in range(1, 200):
        for item in [any_log, part_path(any_log), state_path(any_log), *older_files(any_log)]:
            item.unlink(missing_ok=True)
        any_log.write_bytes(b"".join(map(line, range(700))))
        if way == "copy":
            force_copy(any_log)
        Rotation(any_log, 48 * KIB, 9).rotate()
        if (read_state(any_log) or LogState()).way != way:
            pytest.skip(f"this file system does not {way}")
        with any_log.open("ab") as file:
            file.write(b"".join(map(line, range(700, 1400))))
        reached: list[object] = []
        with monkeypatch.context() as patch:
            for name in ["pwrite", "fsync", "ftruncate", "fdatasync"]:
                patch.setattr(os, name, dying(getattr(os, name), reached, fatal))
            patch.setattr(Path, "rename", dying(Path.rename, reached, fatal))
            patch.setattr(Path, "unlink", dying(Path.unlink, reached, fatal))
            for name in ["fallocate", "punch"]:
                patch.setattr(rotation, name, dying(getattr(rotation, name), reached, fatal))
            try:
                Rotation(any_log, 48 * KIB, 9).rotate()
            except Killed:
                steps += 1
        with any_log.open("ab") as file:
            file.write(b"".join(map(line, range(1400, 1500))))
        assert seen(any_log) == [text(n) for n in range(1500)], f"step {fatal}: {reached[-1:]}"
        assert check(raw(any_log)) == 1499
        if len(reached) < fatal:
            break
    assert steps > 5


# --- the disk is full, the file is somebody else's ---------------------------------------------


def full_after(monkeypatch, room: list[int]) -> None:
    """Copies fail for want of room unless `room` bytes are left; deleting gives room back."""
    real_append, real_unlink = rotation.append, Path.unlink

    def append(source: int, to: int, begin: int, length: int) -> int:
        if length > room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= length
        return real_append(source, to, begin, length)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.exists() and not path.name.endswith(".part"):
            room[0] += path.stat().st_size
        real_unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(rotation, "append", append)
    monkeypatch.setattr(Path, "unlink", unlink)


def test_on_a_full_disk_the_oldest_go_first(log, monkeypatch):
    with log.open("ab") as file:
        write(file.fileno(), 1000, 100, 0)
    Rotation(log, 16 * KIB, 100).rotate()
    before = seen(log)
    oldest = older_files(log)[-1].stat().st_size
    full_after(monkeypatch, [0])
    with log.open("ab") as file:
        file.write(b"".join(map(line, range(1000, 1200))))
    done = Rotation(log, 16 * KIB, 100).rotate()
    assert (done.lost_bytes, done.lost_lines) == (0, 0)
    shown = seen(log)
    assert shown == [text(n) for n in range(1200 - len(shown), 1200)]
    assert len(before) - 2 * oldest // LINE < len(shown) < 1200


def test_on_a_full_disk_with_nothing_to_delete_the_head_goes_and_is_counted(any_log, monkeypatch):
    full_after(monkeypatch, [-(10**9)])
    with any_log.open("ab") as file:
        write(file.fileno(), 1000, 100, 0)
    done = Rotation(any_log, 16 * KIB, 5).rotate()
    shown = seen(any_log)
    assert shown == [text(n) for n in range(1000 - len(shown), 1000)]
    assert len(shown) * LINE <= 16 * KIB
    assert 990 - len(shown) <= done.lost_lines <= 1000 - len(shown)
    assert done.lost_bytes == done.state.lost_bytes >= done.lost_lines * LINE


@pytest.mark.parametrize("damage", [b"", b"\0" * 512, b"deadbeef {}", b'{"base": 5}'])
def test_a_damaged_state_is_made_anew_and_no_line_is_lost(log, damage):
    log.write_bytes(b"".join(map(line, range(1000))))
    Rotation(log, 16 * KIB, 100).rotate()
    state_path(log).write_bytes(damage)
    assert seen(log) == [text(n) for n in range(1000)]
    assert recover(log).base == sum(item.stat().st_size for item in older_files(log))
    assert seen(log) == [text(n) for n in range(1000)]


def test_a_log_truncated_or_replaced_from_outside_goes_on(any_log):
    any_log.write_bytes(b"".join(map(line, range(1000))))
    Rotation(any_log, 16 * KIB, 100).rotate()
    os.truncate(any_log, 0)
    with any_log.open("ab") as file:
        file.write(b"after\n")
    # (what the older file ends with is the beginning of a line whose rest is gone)
    assert seen(any_log)[-1].endswith("after")
    any_log.unlink()
    any_log.write_bytes(b"new\n")
    assert seen(any_log)[-1].endswith("new")
    Rotation(any_log, 16 * KIB, 100).rotate()
    assert seen(any_log)[-1].endswith("new")


@given(
    st.builds(
        LogState,
        ino=st.integers(0, 2**63),
        base=st.integers(0, 2**63),
        head=st.integers(0, 2**63),
        phase=st.sampled_from(["", "move", "collapse", "truncate"]),
        length=st.integers(0, 2**63),
        cut=st.integers(-1, 2**63),
        torn=st.booleans(),
        way=st.sampled_from(["", "collapse", "punch", "copy"]),
        lost_bytes=st.integers(0, 2**63),
        lost_lines=st.integers(0, 2**63),
        seq=st.integers(0, 2**63),
    ),
    st.integers(0, 511),
)
def test_a_state_is_read_as_it_was_written_or_not_at_all(state, at):
    whole = encode(state)
    assert len(whole) == 512
    assert decode(whole) == state
    broken = bytearray(whole)
    broken[at] ^= 0x15
    assert decode(bytes(broken)) in {None, state}
