"""Reading logs: the right lines, harmless, in bounded memory, and only from plain files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tracemalloc
import unicodedata
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lictor.core.errors import OperationFailed
from lictor.core.runtime.logs.follow import follow
from lictor.core.runtime.logs.reading import (
    LINE_LIMIT,
    Lines,
    last_lines,
    rotated,
    safe_line,
    search,
    tail,
)

BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "piper.log"


# --- lines -----------------------------------------------------------------------------------


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_no_line_holds_a_control_character_whatever_was_printed(raw):
    line = safe_line(raw)
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in BIDI for c in line)


def test_escapes_lone_returns_and_broken_utf8_are_shown():
    assert safe_line(b"\x1b[31mred\x1b[0m\r\n") == "\\x1b[31mred\\x1b[0m"
    assert safe_line(b"10%\r99%\n") == "10%\\x0d99%"
    assert safe_line(b"\xc3\n") == "\ufffd"
    assert safe_line("привет, 世界 🎤\n") == "привет, 世界 🎤"


def test_a_line_that_is_too_long_is_cut_and_says_how_much_is_missing():
    line = safe_line(b"x" * (LINE_LIMIT + 7) + b"\n")
    assert line == "x" * LINE_LIMIT + " … [7 bytes cut]"
    assert safe_line(b"x" * LINE_LIMIT) == "x" * LINE_LIMIT


@given(st.lists(st.binary(max_size=60)), st.integers(1, 50))
def test_lines_are_the_same_however_the_blocks_were_cut(pieces, step):
    data = b"\n".join(pieces)
    cutter = Lines()
    got = [line for at in range(0, len(data), step) for line in cutter.feed(data[at : at + step])]
    got += cutter.end()
    expected = [safe_line(piece) for piece in data.split(b"\n")]
    # (what follows the last line end is a line only if there is something)
    assert got == (expected if data.split(b"\n")[-1] else expected[:-1])


# --- tail ------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.text("abc\r é", max_size=30), max_size=30), st.integers(0, 40), st.booleans())
def test_tail_gives_exactly_the_last_lines(tmp_path_factory, lines, count, ended):
    path = tmp_path_factory.mktemp("logs") / "x.log"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() + (b"" if ended else b"end"))
    everything = [safe_line(line) for line in lines] + ([] if ended else ["end"])
    assert tail(path, count) == (everything[-count:] if count else [])


def test_tail_reads_over_its_blocks(log):
    log.write_text("".join(f"line {n} {'x' * (n % 997)}\n" for n in range(3000)))
    got = tail(log, 2500, 4_000_000)
    assert [line.split()[1] for line in got] == [str(n) for n in range(500, 3000)]


def test_tail_stays_within_its_bytes_and_begins_with_a_whole_line(log):
    log.write_text("".join(f"line {n:06}\n" for n in range(10_000)))
    assert tail(log, 5000, 100) == [f"line {n:06}" for n in range(9992, 10_000)]


def test_a_file_that_is_one_long_line_still_has_a_tail(log):
    log.write_bytes(b"x" * 3_000_000)
    (line,) = tail(log, 10)
    assert line.startswith("xxx")
    assert line.endswith("bytes cut]")


def test_a_log_that_is_not_there_is_empty(log):
    assert tail(log, 10) == []
    assert search(log, "x", 10) == []
    assert last_lines(log, 3) == []
    assert rotated(log) == []


def test_the_last_words_of_a_child_are_the_lines_that_say_something(log):
    log.write_text("starting\nTraceback\nMemoryError: no room\n\n  \n")
    assert last_lines(log, 1) == ["MemoryError: no room"]
    assert last_lines(log, 2) == ["Traceback", "MemoryError: no room"]
    assert last_lines(log, 0) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
async def test_only_plain_files_are_read(log, tmp_path, kind):
    if kind == "link":
        (tmp_path / "secret").write_text("root:x\n")
        log.symlink_to(tmp_path / "secret")
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    else:
        log = Path("/dev/zero")
    for read in (lambda: tail(log, 5), lambda: search([log], "root", 5)):
        with pytest.raises(OperationFailed) as caught:
            read()
        assert caught.value.code == "log.refused"
        assert "root:x" not in str(caught.value)
    assert last_lines(log, 5) == []
    with pytest.raises(OperationFailed):
        await anext(follow(log))


# --- search ----------------------------------------------------------------------------------


def test_search_finds_the_newest_lines_in_all_rotated_files(log):
    for n, name in enumerate(["piper.log.2", "piper.log.1", "piper.log"]):
        log.with_name(name).write_text("".join(f"{n}:{i} error\n{n}:{i} fine\n" for i in range(3)))
    (log.parent / "piper.log.txt").write_text("error in another file\n")
    assert [path.name for path in rotated(log)] == ["piper.log.2", "piper.log.1", "piper.log"]
    assert search(log, "error", 4) == ["1:2 error", "2:0 error", "2:1 error", "2:2 error"]
    assert len(search(log, "error", 100)) == 9
    assert search([log], "error", 100) == ["2:0 error", "2:1 error", "2:2 error"]
    assert search(log, "error", 0) == []


def test_ten_rotated_files_are_ordered_by_number_and_not_by_letter(log):
    for n in range(1, 12):
        log.with_name(f"piper.log.{n}").write_text(f"{n}\n")
    assert [path.suffix for path in rotated(log)] == [f".{n}" for n in range(11, 0, -1)]


def test_a_search_is_a_plain_substring_and_sees_what_is_shown(log):
    log.write_bytes(b"(a+)+$ \x1b[31m\nERROR\naaaa\n")
    assert search(log, "(a+)+$", 5) == ["(a+)+$ \\x1b[31m"]
    assert search(log, "\\x1b", 5) == ["(a+)+$ \\x1b[31m"]
    assert search(log, "error", 5) == []
    assert search(log, "error", 5, ignore_case=True) == ["ERROR"]


def test_a_search_returns_no_more_than_its_bytes(log):
    log.write_text(("x" * 99 + "\n") * 1000)
    assert len(search(log, "x", 1000, max_bytes=5000)) == 50


def test_a_large_file_is_read_in_little_memory(log):
    block = b"".join(b"%06d some words of a service that talks a lot\n" % n for n in range(20_000))
    with log.open("wb") as file:
        for _ in range(50):
            file.write(block)
        file.write(b"y" * 5_000_000 + b"\nthe needle\n")
    assert log.stat().st_size > 50_000_000
    tracemalloc.start()
    try:
        assert tail(log, 1) == ["the needle"]
        assert search(log, "the needle", 10) == ["the needle"]
        assert len(tail(log, 10**9)) <= 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


# --- follow ----------------------------------------------------------------------------------


class Reader:
    """Follows a log in the background and keeps what came."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self.got: list[str] = []
        self._task = asyncio.create_task(self._read(lines))

    async def _read(self, lines: AsyncIterator[str]) -> None:
        async for line in lines:
            self.got.append(line)

    async def until(self, expected: list[str]) -> None:
        async with asyncio.timeout(15):
            while len(self.got) < len(expected):
                await asyncio.sleep(0.02)
        assert self.got == expected

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def reading():
    readers: list[Reader] = []

    def begin(lines: AsyncIterator[str]) -> Reader:
        readers.append(Reader(lines))
        return readers[-1]

    yield begin
    for reader in readers:
        await reader.close()


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def test_new_lines_come_as_they_are_written_and_halves_wait(log, reading):
    log.write_text("old\n")
    reader = reading(follow(log))
    await asyncio.sleep(0.1)
    append(log, "one\ntw")
    await reader.until(["one"])
    append(log, "o\nthree\n")
    await reader.until(["one", "two", "three"])


async def test_following_can_begin_at_any_byte(log, reading):
    log.write_text("old\nnew\n")
    await reading(follow(log, 4)).until(["new"])
    await reading(follow(log, 0)).until(["old", "new"])
    await reading(follow(log, -5)).until(["old", "new"])


async def test_an_offset_beyond_the_end_begins_again(log, reading):
    log.write_text("a\n")
    await reading(follow(log, 10**9)).until(["a"])


async def test_rotation_loses_no_line_and_doubles_none(log, reading):
    log.write_text("")
    reader = reading(follow(log, 0))
    writer = log.open("a")
    # Three rotations, faster than a quiet file is looked at.
    for n in range(3):
        writer.write(f"{n}a\n")
        writer.flush()
        await asyncio.sleep(0.25)
        log.rename(log.with_name(f"piper.log.{3 - n}"))
        writer.write(f"{n}b\n")
        writer.close()
        writer = log.open("a")
    writer.write("3a\n")
    writer.close()
    await reader.until(["0a", "0b", "1a", "1b", "2a", "2b", "3a"])


async def test_a_half_line_of_a_file_that_is_over_is_not_lost(log, reading):
    log.write_text("")
    reader = reading(follow(log))
    await asyncio.sleep(0.1)
    append(log, "last words")
    await asyncio.sleep(0.3)
    assert reader.got == []
    log.rename(log.with_name("piper.log.1"))
    log.write_text("next\n")
    await reader.until(["last words", "next"])


async def test_truncation_begins_again_at_the_top(log, reading):
    log.write_text("long enough to be seen as shorter afterwards\n")
    reader = reading(follow(log))
    await asyncio.sleep(0.1)
    log.write_text("fresh\n")
    await reader.until(["fresh"])


async def test_a_file_that_comes_later_and_goes_and_comes_again_is_followed(log, reading):
    reader = reading(follow(log))
    await asyncio.sleep(0.1)
    log.write_text("first\n")
    await reader.until(["first"])
    log.unlink()
    await asyncio.sleep(0.3)
    log.write_text("second\n")
    await reader.until(["first", "second"])


async def test_a_file_replaced_by_a_link_ends_the_stream(log, tmp_path):
    log.write_text("")
    lines = follow(log)
    waiting = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0.1)
    log.unlink()
    log.symlink_to("/etc/passwd")
    with pytest.raises(OperationFailed):
        await asyncio.wait_for(waiting, 15)


async def test_an_endless_line_is_followed_in_little_memory(log, reading):
    log.write_text("")
    reader = reading(follow(log))
    await asyncio.sleep(0.05)
    with log.open("ab") as file:
        for _ in range(40):
            file.write(b"z" * 500_000)
        file.write(b"\nend\n")
    async with asyncio.timeout(20):
        while len(reader.got) < 2:
            await asyncio.sleep(0.02)
    assert reader.got == ["z" * LINE_LIMIT + f" … [{20_000_000 - LINE_LIMIT} bytes cut]", "end"]


def open_links() -> Counter[str]:
    """What this process has open, and how often."""
    found = Counter()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found[str(each.readlink())] += 1
    return found


async def test_a_stream_that_is_closed_keeps_no_descriptor(log):
    log.write_text("a\n")
    before = open_links()
    lines = follow(log, 0)
    assert await anext(lines) == "a"
    await lines.aclose()
    assert open_links() - before == Counter()  # (others may close theirs)
