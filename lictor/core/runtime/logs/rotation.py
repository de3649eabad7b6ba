"""Moves the head of a log into an older file while its service keeps writing to it.

A service has its log open for appending and never goes through the agent, so the file cannot be
renamed away from it: nobody could make it open a new one. Instead whole blocks at the head are
copied into `x.log.1` and taken out of the file, of which the writer notices nothing but a moment's
wait for the file's lock. Concatenating the older files from the oldest, and then the log from its
`head`, gives every byte exactly once, at any moment and after any crash (`state` holds the
journal); an older file begins and ends with whole lines, and readers join the one line that lies
across the seam.

| way | where | what is left behind | risk |
|---|---|---|---|
| `collapse` | ext4, xfs | nothing: the file gets shorter | none; writers wait some milliseconds |
| `punch` | tmpfs, btrfs | a hole: `ls -l` shows all that was ever written, `du` what is there | none |
| `copy` | what can do neither | nothing | lines of the moment between copy and truncation |

(fallocate(2): FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_PUNCH_HOLE.) Which way a file system takes is
found by trying once. On a full disk the oldest files go first, then the head of the log itself,
which is counted. This module never opens a log that is no plain file, and never waits for a
service.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lictor.core.runtime.logs.blocks import (
    CANNOT,
    COLLAPSE,
    FULL,
    PUNCH,
    after_first_line,
    append,
    can,
    count_lines,
    ends_line,
    fallocate,
    hole,
    punch,
    sync_folder,
    unfinished,
)
from lictor.core.runtime.logs.state import (
    LogState,
    Way,
    decode,
    locked,
    older_files,
    open_log,
    part_path,
    size_of,
    write_state,
)

#: A longer line than this stays cut between two older files (readers join it all the same).
_SEAM = 64 * 1024


@dataclass(frozen=True, slots=True)
class Rotated:
    """What one call did. `lost_*`: thrown away unkept because the disk was full."""

    state: LogState
    moved: int = 0
    lost_bytes: int = 0
    lost_lines: int = 0


class Rotation:
    """One log with its older files. Calls take the log's lock; any thread or process may call."""

    def __init__(self, path: Path, max_size: int, keep: int) -> None:
        self.path = path
        self.max_size = max_size
        self.keep = keep

    def rotate(self, halt: Callable[[], bool] = lambda: False) -> Rotated:
        """Move what is above `max_size` into older files, at most `max_size` into each.

        What would be deleted again at once, because a writer filled more than `keep` files since
        the last look, is not copied first. Ends early, in good order, when `halt` says so. Raises
        `OSError` when the disk fails, and `OperationFailed` for what is no plain file.
        """
        with locked(self.path) as side:
            before = after = _recovered(self.path, side)
            fd = open_log(self.path, write=True)
            try:
                mover = _Mover(self, fd, side, before)
                while not halt() and mover.step():
                    pass
                mover.shorten()
                after = mover.state
            finally:
                os.close(fd)
        return Rotated(
            after,
            after.base - before.base,
            after.lost_bytes - before.lost_bytes,
            after.lost_lines - before.lost_lines,
        )


def recover(path: Path) -> LogState:
    """Finish what a dead agent began, and make sure that there is a state.

    A log that was replaced from outside goes on at the offset where the old one began. Waits for a
    rotation that is at work. Raises `FileNotFoundError`, `OSError` and `OperationFailed`.
    """
    with locked(path) as side:
        return _recovered(path, side)


def _recovered(path: Path, side: int) -> LogState:
    fd = open_log(path, write=True)
    try:
        found = os.fstat(fd)
        state = decode(os.pread(side, 4096, 0))
        if state is None or state.ino != found.st_ino or _cut_short(state, found.st_size):
            # New, damaged, or about another file: what lies in the older files came before.
            older = sum(map(size_of, older_files(path)))
            known = 0 if state is None else state.base
            fresh = LogState(
                ino=found.st_ino,
                base=max(older, known),
                head=0 if found.st_size == 0 else hole(fd),
                lost_bytes=0 if state is None else state.lost_bytes,
                lost_lines=0 if state is None else state.lost_lines,
                seq=0 if state is None else state.seq + 1,
            )
            part_path(path).unlink(missing_ok=True)
            write_state(side, fresh, durable=False)
            return fresh
        return _finish(path, fd, side, state)
    finally:
        os.close(fd)


def _cut_short(state: LogState, size: int) -> bool:
    """Whether somebody else truncated the log (a collapse that was interrupted did not)."""
    return state.phase != "collapse" and state.head > size


def _finish(path: Path, fd: int, side: int, state: LogState) -> LogState:
    """Go through to the end of what the journal says was begun. Every step may be done twice."""
    if state.phase == "move":
        state = _moved(path, fd, side, state)
    elif state.phase == "collapse":
        # What is left of the hole is what is left to do: it was made before the first collapse.
        state = _collapsed(fd, side, state, min(hole(fd), state.length))
    elif state.phase == "truncate":
        state = _truncated(path, fd, side, state)
    return state


# --- the three journaled steps --------------------------------------------------------------------


def _moved(path: Path, fd: int, side: int, state: LogState) -> LogState:
    """The part becomes the newest older file, and the log lets go of what is in it."""
    _take_part(path, state)
    punch(fd, state.head, state.length)
    done = replace(
        state,
        base=state.base + state.length,
        head=state.head + state.length,
        phase="",
        length=0,
        cut=-1,
        seq=state.seq + 1,
    )
    write_state(side, done, durable=False)
    return done


def _take_part(path: Path, state: LogState) -> None:
    """Give the part its number; it is still there only if that was not done before."""
    part, newest = part_path(path), _newest(path)
    if not part.exists():
        return
    if state.cut >= 0:
        with suppress(FileNotFoundError):
            fd = open_log(newest, write=True)
            try:
                os.ftruncate(fd, state.cut)
            finally:
                os.close(fd)
    _shift(path)
    part.rename(newest)
    sync_folder(path.parent)


def _newest(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _shift(path: Path) -> None:
    """Rename `.1` to `.2` and so on, up to the first number that is free.

    From the top, so that after a crash the free number shows how far it got.
    """
    numbers = {int(item.name.rpartition(".")[2]) for item in older_files(path)}
    free = 1
    while free in numbers:
        free += 1
    for number in range(free, 1, -1):
        path.with_name(f"{path.name}.{number - 1}").rename(path.with_name(f"{path.name}.{number}"))


def _collapsed(fd: int, side: int, state: LogState, left: int) -> LogState:
    """Take the hole at the head out of the file, where that can be done."""
    done = replace(state, head=0, phase="", length=0, seq=state.seq + 1)
    try:
        if left:
            fallocate(fd, COLLAPSE, 0, left)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        done = replace(done, head=left, way="punch")
    write_state(side, done, durable=False)
    return done


def _truncated(path: Path, fd: int, side: int, state: LogState) -> LogState:
    """The copy becomes the newest older file, the log becomes empty."""
    _take_part(path, state)
    newest, length = _newest(path), state.length
    size = os.fstat(fd).st_size
    if size >= length:
        # What came since the copy still comes along; what comes now, is lost.
        with newest.open("ab") as file:
            length += append(fd, file.fileno(), length, size - length)
        os.ftruncate(fd, 0)
    done = replace(
        state, base=state.base + length, head=0, phase="", length=0, cut=-1, seq=state.seq + 1
    )
    write_state(side, done, durable=False)
    return done


# --- deciding and copying -------------------------------------------------------------------------


class _Mover:
    """The steps of one rotation, with the log open and its lock held."""

    def __init__(self, log: Rotation, fd: int, side: int, state: LogState) -> None:
        self.log, self.path, self.fd, self.side, self.state = log, log.path, fd, side, state
        self.block = max(512, os.fstat(fd).st_blksize)

    def step(self) -> bool:
        """Move one piece, if there is too much; False when there is not."""
        size = os.fstat(self.fd).st_size
        # At least one byte must stay: a collapse may not reach the end of the file.
        most = (size - 1 - self.state.head) // self.block * self.block
        if size - self.state.head <= self.log.max_size or most <= 0:
            return False
        way = self.state.way or self._find_way()
        if way == "copy":
            self._copy_all(size)
            return False
        if self.log.keep <= 0:
            self._drop(most, count=False)
            return True
        room = (self.log.keep + 1) * self.log.max_size
        if size - self.state.head > 2 * room:
            excess = (size - self.state.head - room) // self.block * self.block
            self._drop(min(most, excess), count=False)
            return True
        self._move(min(most, max(self.block, self.log.max_size // self.block * self.block)))
        return True

    def shorten(self) -> None:
        """Take the hole at the head out of the file, where that can be done."""
        state = self.state
        if not state.head or state.way != "collapse" or os.fstat(self.fd).st_size <= state.head:
            return
        # Whatever is dirty is written under the writer's lock by a collapse: better before.
        punch(self.fd, 0, state.head)
        os.fdatasync(self.fd)
        begun = self._write(phase="collapse", length=state.head)
        self.state = _collapsed(self.fd, self.side, begun, state.head)

    def _find_way(self) -> Way:
        """Try on a scratch file in the same folder."""
        trial = part_path(self.path)
        trial.unlink(missing_ok=True)
        fd = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x" * (2 * self.block))
            way: Way = "copy"
            if can(fd, COLLAPSE, 0, self.block):
                way = "collapse"
            elif can(fd, PUNCH, 0, self.block):
                way = "punch"
            self._write(way=way)
        except OSError as error:
            if error.errno not in FULL:
                raise
            # Too full even for that; behind its end the log has nothing to lose.
            end = (os.fstat(self.fd).st_size // self.block + 1024) * self.block
            return "punch" if can(self.fd, PUNCH, end, self.block) else "copy"
        finally:
            os.close(fd)
            trial.unlink(missing_ok=True)
        return way

    def _move(self, length: int) -> None:
        cut = self._make_part(length)
        if cut is None:
            self._drop(length, count=True)
            return
        begun = self._write(phase="move", length=length, cut=cut, torn=False)
        self.state = _moved(self.path, self.fd, self.side, begun)
        self._trim()

    def _copy_all(self, size: int) -> None:
        cut = self._make_part(size) if self.log.keep > 0 else None
        if cut is None:
            lines = count_lines(self.fd, 0, size) if self.log.keep > 0 else 0
            self._write(
                base=self.state.base + size,
                lost_bytes=self.state.lost_bytes + (size if self.log.keep > 0 else 0),
                lost_lines=self.state.lost_lines + lines,
            )
            os.ftruncate(self.fd, 0)
            return
        begun = self._write(phase="truncate", length=size, cut=cut)
        self.state = _truncated(self.path, self.fd, self.side, begun)
        self._trim()

    def _make_part(self, length: int) -> int | None:
        """Copy the head, after the unfinished line of the newest older file; None: no room.

        Gives the size to which that file must be cut. Older files are deleted, the oldest first,
        until there is room.
        """
        while True:
            try:
                return self._try_part(length)
            except OSError as error:
                part_path(self.path).unlink(missing_ok=True)
                if error.errno not in FULL:
                    raise
                older = older_files(self.path)
                if not older:
                    return None
                older[-1].unlink(missing_ok=True)

    def _try_part(self, length: int) -> int:
        part, about = part_path(self.path), os.fstat(self.fd)
        part.unlink(missing_ok=True)
        to = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            cut = self._carry(to)
            begin = self.state.head
            if self.state.torn and not older_files(self.path):
                begin += after_first_line(self.fd, begin, min(length, _SEAM))
            append(self.fd, to, begin, self.state.head + length - begin)
            os.fchmod(to, about.st_mode & 0o777)
            with suppress(PermissionError):
                os.fchown(to, about.st_uid, about.st_gid)
            os.fdatasync(to)
        finally:
            os.close(to)
        return cut

    def _carry(self, to: int) -> int:
        """Begin with the unfinished line of the newest older file; gives where that is cut, or -1."""
        try:
            fd = open_log(_newest(self.path))
        except FileNotFoundError:
            return -1
        try:
            carried = unfinished(fd, _SEAM)
            os.write(to, carried)
            return os.fstat(fd).st_size - len(carried) if carried else -1
        finally:
            os.close(fd)

    def _drop(self, length: int, *, count: bool) -> None:
        """Throw the head away, and with it the older files, which are older still."""
        for item in reversed(older_files(self.path)):
            item.unlink(missing_ok=True)
        part_path(self.path).unlink(missing_ok=True)
        lines = count_lines(self.fd, self.state.head, length) if count else 0
        begun = self._write(
            phase="move",
            length=length,
            cut=-1,
            torn=not ends_line(self.fd, self.state.head + length),
            lost_bytes=self.state.lost_bytes + (length if count else 0),
            lost_lines=self.state.lost_lines + lines,
        )
        self.state = _moved(self.path, self.fd, self.side, begun)

    def _trim(self) -> None:
        for item in older_files(self.path)[self.log.keep :]:
            item.unlink(missing_ok=True)

    def _write(self, **changes: object) -> LogState:
        """Journal; before anything is taken out of the log it must be on the disk."""
        self.state = replace(self.state, seq=self.state.seq + 1, **changes)  # type: ignore[arg-type]
        write_state(self.side, self.state, durable=bool(self.state.phase))
        return self.state
