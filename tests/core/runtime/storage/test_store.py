"""The agent's memory on real files: sound, damaged, foreign, taken away, and full."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lictor.core.model.reason import because
from lictor.core.runtime.storage.journal import JournalLine, JournalQuery
from lictor.core.runtime.storage.store import SqliteStore
from tests.support.tools import missing

DEADLINE = 20.0


def until(truth: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + DEADLINE
    while not truth():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def opened(path: Path) -> closing[SqliteStore]:
    return closing(SqliteStore(path, retry=0.05))


def flushed(store: SqliteStore) -> bool:
    return store.flushed().result(timeout=DEADLINE)


def note(store: SqliteStore, subject: str = "piper", kind: str = "verb", at: float = 1.0) -> None:
    reason = because("verb.ordered", what="stop", by="anna")
    store.record(at=at, kind=kind, subject=subject, reason=reason, who="anna", data={})


def lines(store: SqliteStore, **query: object) -> list[JournalLine]:
    return store.events(JournalQuery(**query))


def rows_on_disk(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as file:
        return dict(file.execute("SELECT key, body FROM rows"))


def test_a_row_saved_while_the_disk_refused_an_older_one_is_the_one_that_is_kept(path, monkeypatch):
    written, refused = SqliteStore._written, []

    def refuse_once(store, rows, lines):
        if rows and not refused:
            store.save("services", "piper", {"n": 2})
            refused.append(rows)
            return False
        return written(store, rows, lines)

    monkeypatch.setattr(SqliteStore, "_written", refuse_once)
    with opened(path) as store:
        store.save("services", "piper", {"n": 1})
        until(lambda: refused)
        assert flushed(store)
    assert rows_on_disk(path) == {"piper": '{"n":2}'}


def test_rows_and_lines_are_there_for_the_next_agent(path):
    with opened(path) as store:
        store.save("services", "piper", {"a": 1})
        store.save("services", "gone", {})
        store.save("services", "gone", None)
        note(store)
        assert store.load("services") == {"piper": {"a": 1}}
    with opened(path) as store:
        assert store.load("services") == {"piper": {"a": 1}}
        assert store.load("documents") == {}
        (line,) = lines(store)
        assert (line.subject, line.who, line.reason.code) == ("piper", "anna", "verb.ordered")
        assert store.trouble() is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ids_rise_over_the_life_of_agents(path):
    for _ in range(3):
        with opened(path) as store:
            note(store)
            note(store)
    with opened(path) as store:
        ids = [line.id for line in lines(store)]
    assert len(ids) == 6
    assert ids == sorted(ids, reverse=True)


def test_what_was_flushed_survives_a_death_without_warning(path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from lictor.core.runtime.storage.store import SqliteStore\n"
        f"store = SqliteStore(Path({str(path)!r}))\n"
        "for n in range(50): store.save('holds', f's{n}', {'n': n})\n"
        "assert store.flushed().result(20)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    with opened(path) as store:
        assert len(store.load("holds")) == 50
        assert store.trouble() is None


@pytest.mark.parametrize("junk", [b"", b"not a database at all\n" * 500, os.urandom(9000)])
def test_what_is_no_database_is_set_aside_and_reported(path, junk):
    path.write_bytes(junk)
    with opened(path) as store:
        assert store.load("services") == {}
        store.save("services", "piper", {"a": 1})
        assert flushed(store)
        trouble = store.trouble()
    assert rows_on_disk(path) == {"piper": '{"a":1}'}
    aside = [one for one in path.parent.glob("state.db.damaged-*") if one.stat().st_size]
    if junk:
        assert trouble.code == "store.set_aside"
        assert [one.read_bytes() for one in aside] == [junk]
        assert trouble.params["file"] == aside[0].name
    else:
        assert (trouble, aside) == (None, [])  # an empty file is how SQLite begins


def test_the_database_of_another_program_is_left_whole_under_another_name(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE photos (name TEXT)")
        other.execute("INSERT INTO photos VALUES ('cat')")
        other.commit()
    with opened(path) as store:
        store.save("services", "piper", {})
        assert flushed(store)
        assert store.trouble().code == "store.set_aside"
    (aside,) = path.parent.glob("state.db.damaged-*[0-9]")
    with closing(sqlite3.connect(aside)) as other:
        assert other.execute("SELECT name FROM photos").fetchall() == [("cat",)]


def test_tables_of_another_lictor_are_set_aside_with_the_rows_that_can_be_read(path):
    with opened(path) as store:
        store.save("holds", "piper", {"state": "stopped"})
    with closing(sqlite3.connect(path)) as file:
        file.execute("ALTER TABLE journal ADD COLUMN more TEXT")
        file.commit()
    with opened(path) as store:
        assert store.trouble().code == "store.set_aside"
        assert store.load("holds") == {"piper": {"state": "stopped"}}
        assert flushed(store)
    assert rows_on_disk(path) == {"piper": '{"state":"stopped"}'}


def test_a_file_of_the_first_version_goes_on_as_it_is(path):
    with opened(path) as store:
        store.save("services", "piper", {"a": 1})
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA application_id=0")
        file.execute("DROP INDEX journal_by_subject")
        file.commit()
    with opened(path) as store:
        assert (store.trouble(), dict(store.load("services"))) == (None, {"piper": {"a": 1}})


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_file_never_keeps_the_agent_from_going_on(path, part):
    with opened(path) as store:
        for number in range(300):
            store.save("services", f"s{number}", {"text": "x" * 200})
            note(store)
        assert flushed(store)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with opened(path) as store:
        store.save("services", "after", {"a": 1})
        for _ in range(20):
            note(store, "after")
        assert flushed(store)
        assert store.trouble().code == "store.set_aside"
        assert [line.subject for line in lines(store, subjects=("after",))] == ["after"] * 20
    with opened(path) as store:
        assert store.load("services")["after"] == {"a": 1}


def test_a_file_that_is_damaged_while_it_is_used_is_written_anew_from_memory(path):
    with opened(path) as store:
        for number in range(200):
            store.save("services", f"s{number}", {"text": "x" * 200})
        assert flushed(store)
    with opened(path) as store:
        with path.open("r+b") as file:  # the pages under its feet
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        for number in range(200):
            store.save("services", f"s{number}", {"text": "y"})
        note(store)
        assert flushed(store)
        assert store.trouble().code == "store.set_aside"
    assert set(rows_on_disk(path).values()) == {'{"text":"y"}'}
    with opened(path) as store:
        assert len(store.load("services")) == 200


def test_a_file_that_is_deleted_while_it_is_used_is_written_anew(path):
    with opened(path) as store:
        store.save("services", "old", {"a": 1})
        assert flushed(store)
        for one in path.parent.iterdir():
            one.unlink()
        store.save("services", "new", {"a": 2})
        assert flushed(store)
        assert store.trouble() is None
    assert rows_on_disk(path) == {"old": '{"a":1}', "new": '{"a":2}'}


@pytest.mark.parametrize("body", ["{", "[1]", '"text"', "null", "1" * 5000])
def test_a_row_that_is_no_object_is_ignored_alone(path, body):
    with opened(path) as store:
        store.save("services", "good", {"a": 1})
    with closing(sqlite3.connect(path)) as file:
        file.execute("INSERT INTO rows VALUES ('services', 'bad', ?)", (body,))
        file.commit()
    with opened(path) as store:
        assert store.load("services") == {"good": {"a": 1}}
        assert store.trouble() is None


def test_damaged_files_do_not_pile_up(path):
    for _ in range(6):
        path.write_bytes(b"junk" * 3000)
        with opened(path) as store:
            assert flushed(store)
        time.sleep(0.002)  # a name of its own
    assert len(list(path.parent.glob("state.db.damaged-*[0-9]"))) == 3


def test_somebody_who_holds_the_file_only_delays(path):
    with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.save("services", "piper", {"a": 1})
            until(lambda: store.trouble() is not None, "the lock is noticed")
            assert store.trouble().code == "store.unwritable"
            assert store.load("services") == {"piper": {"a": 1}}
            other.execute("ROLLBACK")
        until(lambda: store.trouble() is None, "it is over")
        assert flushed(store)
        assert "store.writable_again" in [line.reason.code for line in lines(store)]
    assert rows_on_disk(path) == {"piper": '{"a":1}'}


# --- disks that say no -----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, timeout=20
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=20)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return ballast
    raise AssertionError("the disk takes all")


def test_a_full_disk_is_reported_and_nothing_is_lost_when_there_is_room_again(small_disk):
    path = small_disk / "state.db"
    with opened(path) as store:
        store.save("services", "before", {"a": 1})
        assert flushed(store)
        ballast = fill(small_disk)
        for number in range(200):
            store.save("services", f"s{number}", {"text": "x" * 300})
            note(store, f"s{number}")
        assert not flushed(store)
        assert store.trouble().code == "store.unwritable"
        assert len(store.load("services")) == 201
        assert len(lines(store, limit=1000)) == 200
        ballast.unlink()
        until(lambda: store.trouble() is None, "there is room again")
        assert flushed(store)
    with opened(path) as store:
        assert store.trouble() is None
        assert len(store.load("services")) == 201
        assert len(lines(store, kinds=("verb",), limit=1000)) == 200


def test_an_agent_that_begins_on_a_full_disk_knows_what_was_there(small_disk):
    path = small_disk / "state.db"
    with opened(path) as store:
        store.save("holds", "piper", {"state": "stopped"})
    ballast = fill(small_disk)
    with opened(path) as store:
        assert store.load("holds") == {"piper": {"state": "stopped"}}
        store.save("holds", "stt", {"state": "running"})
        for number in range(100):
            store.save("services", f"s{number}", {"text": "x" * 300})
        assert not flushed(store)
        assert store.trouble().code == "store.unwritable"
        ballast.unlink()
        until(lambda: store.trouble() is None, "there is room again")
    with opened(path) as store:
        assert set(store.load("holds")) == {"piper", "stt"}


def killed_after_saving(path: Path) -> None:
    """An agent that died at once after it had saved a hold: it is in the write-ahead log only."""
    code = (
        "import os; from pathlib import Path\n"
        "from lictor.core.runtime.storage.store import SqliteStore\n"
        f"store = SqliteStore(Path({str(path)!r}))\n"
        "store.save('holds', 'piper', {'state': 'stopped'})\n"
        "assert store.flushed().result(20)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    assert path.with_name(f"{path.name}-wal").stat().st_size


def test_on_a_full_disk_the_last_words_of_a_killed_agent_are_known(small_disk):
    path = small_disk / "state.db"
    killed_after_saving(path)
    path.with_name(f"{path.name}-shm").unlink()  # as after a new start of the host
    ballast = fill(small_disk)
    with opened(path) as store:
        assert store.load("holds") == {"piper": {"state": "stopped"}}
        assert store.trouble().code == "store.unwritable"
        ballast.unlink()
        store.save("holds", "stt", {})
        until(lambda: store.trouble() is None, "there is room again")
    with opened(path) as store:
        assert set(store.load("holds")) == {"piper", "stt"}


def test_on_a_disk_that_may_only_be_read_too(small_disk):
    path = small_disk / "state.db"
    killed_after_saving(path)
    path.with_name(f"{path.name}-shm").unlink()
    remount = ["mount", "-o", "remount,size=1m"]
    subprocess.run([*remount, "-o", "ro", small_disk], check=True, timeout=20)
    with opened(path) as store:
        assert store.load("holds") == {"piper": {"state": "stopped"}}
        assert store.trouble().code == "store.unwritable"


def test_a_disk_that_may_only_be_read_is_read_and_reported(small_disk):
    path = small_disk / "state.db"
    with opened(path) as store:
        store.save("holds", "piper", {"state": "stopped"})
        note(store)
    remount = ["mount", "-o", "remount,size=1m"]
    subprocess.run([*remount, "-o", "ro", small_disk], check=True, timeout=20)
    with opened(path) as store:
        assert store.load("holds") == {"piper": {"state": "stopped"}}
        assert store.trouble().code == "store.unwritable"
        store.save("holds", "stt", {})
        assert not flushed(store)
        assert set(store.load("holds")) == {"piper", "stt"}
        assert [line.subject for line in lines(store)] == ["piper"]
        subprocess.run([*remount, "-o", "rw", small_disk], check=True, timeout=20)
        until(lambda: store.trouble() is None, "it may be written again")
        assert flushed(store)
    assert set(rows_on_disk(path)) == {"piper", "stt"}


def test_lines_that_find_no_place_anywhere_are_counted(path, monkeypatch):
    monkeypatch.setattr("lictor.core.runtime.storage.store._UNSAVED", 50)
    monkeypatch.setattr("lictor.core.runtime.storage.store._RECENT", 50)
    with opened(path) as store:
        assert flushed(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(80):
                note(store, f"s{number}")
            until(lambda: store.trouble() is not None)
            other.execute("ROLLBACK")
        until(lambda: store.trouble() is None)
        assert flushed(store)
        again = lines(store, kinds=("store",))
        kept = lines(store, kinds=("verb",), limit=1000)
    assert len(kept) + again[0].reason.params["lost"] == 80
    assert kept[0].subject == "s79"


# --- a system call that fails, of whatever number --------------------------------------------

_SCENE = """
import sys
from pathlib import Path
from lictor.core.model.reason import because
from lictor.core.runtime.storage.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]), retry=0.02)
for number in range(6):
    store.save("holds", f"h{number}", {"n": number})
    store.record(at=1.0, kind="verb", subject="x", reason=because("ready"), who="a", data={})
    done = store.flushed().result(20)
    tries = 0
    while not done and tries < 50:
        tries += 1
        store.save("services", "again", {"n": tries})
        done = store.flushed().result(20)
    assert done, store.trouble()
print(len(store.load("holds")), store.trouble() and store.trouble().code)
store.close()
"""


def strace() -> str:
    found = subprocess.run(["which", "strace"], capture_output=True, text=True, check=False)
    if found.returncode:
        missing("strace")
    return found.stdout.strip()


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    ("call", "number"),
    [
        *(("pwrite64", n) for n in (1, 3, 6, 9)),
        *(("fsync,fdatasync", n) for n in (1, 2, 4)),
    ],
)
def test_one_failing_call_costs_nothing_that_was_said_to_be_saved(path, call, number, error):
    with opened(path) as store:
        store.save("holds", "old", {"n": -1})
        assert flushed(store)
    trace = path.with_name("trace")
    asked = f"inject={call}:error={error}:when={number}"
    # -P keeps the fault to the database's own files.
    files = [word for name in ("", "-wal", "-shm") for word in ("-P", f"{path}{name}")]
    tracer = [strace(), "-f", "-qq", "-o", trace, "-e", f"trace={call}", "-e", asked, *files]
    done = subprocess.run(
        [*tracer, sys.executable, "-c", _SCENE, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "7"
    assert "(INJECTED)" in trace.read_text()
    with opened(path) as store:
        assert sorted(store.load("holds")) == ["h0", "h1", "h2", "h3", "h4", "h5", "old"]
        assert len(lines(store, kinds=("verb",))) == 6
