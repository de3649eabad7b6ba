"""The text file that the NVML stub takes for its driver: written under a lock, replaced whole.

    init CODE            what nvmlInit answers (0 works, 9 no driver, 18 versions differ)
    generation N         a reloaded driver has another number
    hang 0|1             whoever calls the driver does not come back
    card INDEX UUID NAME TOTAL RESERVED HIDDEN MAJOR MINOR UTIL TEMP POWER LIMIT FAN MIG LOST
    proc CARD PID BYTES BUSY STICKY KIND

Sizes are bytes, power milliwatts; -1 is "not supported". HIDDEN is in use by nobody whom the driver
names. KIND is c (computes), g (draws), b (both). Standard library only: fake services import this.
"""

# A fake service imports this, and pathlib would double the time that it takes to come up.
# ruff: noqa: PTH105, PTH110, PTH123

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Any

GIB = 1024**3
_CARD = (
    *("index", "uuid", "name", "total", "reserved", "hidden", "major", "minor"),
    *("util", "temp", "power", "limit", "fan", "mig", "lost"),
)
_USUAL = {
    "name": "NVIDIA_RTX_4090",
    "total": 24 * GIB,
    "reserved": 0,
    "hidden": 0,
    "major": 8,
    "minor": 9,
    "util": 0,
    "temp": 41,
    "power": 31_500,
    "limit": 450_000,
    "fan": 30,
    "mig": 0,
    "lost": 0,
}


class Cards:
    """The driver's state in `path`. Each change is whole, whoever else changes it."""

    def __init__(self, path: os.PathLike[str] | str) -> None:
        self.path = os.fspath(path)
        if not os.path.exists(self.path):
            with self._changed():
                pass

    # --- what a test does to the host -----------------------------------------------------------

    def add(self, **fields: Any) -> str:
        """Put one more card in; returns its UUID."""
        with self._changed() as state:
            index = len(state["cards"])
            card = {**_USUAL, "index": index, "uuid": f"GPU-stub-{index}", **fields}
            state["cards"].append(card)
            return str(card["uuid"])

    def change(self, index: int = 0, **fields: Any) -> None:
        """Change figures of one card."""
        with self._changed() as state:
            state["cards"][index].update(fields)

    def driver(self, **fields: int) -> None:
        """`init`, `generation`, `hang`."""
        with self._changed() as state:
            state.update(fields)

    def hold(
        self, pid: int, memory: int, *, card: int = 0, busy: int = 0, sticky: bool = False, kind="c"
    ) -> None:
        """Let a process have so much of a card from now on."""
        with self._changed() as state:
            state["procs"] = [one for one in state["procs"] if one[:2] != [str(card), str(pid)]]
            state["procs"].append([str(x) for x in (card, pid, memory, busy, int(sticky), kind)])

    def free_all(self, pid: int) -> None:
        """What a process had, or left behind, is free."""
        with self._changed() as state:
            state["procs"] = [one for one in state["procs"] if one[1] != str(pid)]

    # --- what a fake service does ---------------------------------------------------------------

    def take(self, pid: int, uuid: str, memory: int) -> bool:
        """Take memory as a program would; False: there is not so much free (CUDA's out of memory)."""
        with self._changed() as state:
            card = next(one for one in state["cards"] if one["uuid"] == uuid)
            index = str(card["index"])
            mine = [one for one in state["procs"] if one[:2] == [index, str(pid)]]
            others = [one for one in state["procs"] if one not in mine]
            used = sum(int(one[2]) for one in others if one[0] == index and _there(one))
            room = int(card["total"]) - int(card["reserved"]) - int(card["hidden"]) - used
            if memory > room:
                return False
            state["procs"] = [*others, [index, str(pid), str(memory), "0", "0", "c"]]
            return True

    def leak(self, pid: int) -> None:
        """What this process has stays taken when it is gone."""
        with self._changed() as state:
            for one in state["procs"]:
                if one[1] == str(pid):
                    one[4] = "1"

    # --- within -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._read()
            yield state
            new = f"{self.path}.new"
            with open(new, "w", encoding="ascii") as file:
                file.write(_text(state))
            os.replace(new, self.path)
        finally:
            os.close(lock)

    def _read(self) -> dict[str, Any]:
        state: dict[str, Any] = {"init": 0, "generation": 1, "hang": 0, "cards": [], "procs": []}
        try:
            with open(self.path, encoding="ascii") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return state
        for line in lines:
            word, *rest = line.split()
            if word == "card":
                state["cards"].append(_card(rest))
            elif word == "proc":
                state["procs"].append(rest)
            else:
                state[word] = int(rest[0])
        return state


def _card(values: list[str]) -> dict[str, Any]:
    card: dict[str, Any] = dict(zip(_CARD, values, strict=True))
    return {name: value if name in {"uuid", "name"} else int(value) for name, value in card.items()}


def _text(state: dict[str, Any]) -> str:
    lines = [f"{name} {state[name]}" for name in ("init", "generation", "hang")]
    lines += ["card " + " ".join(str(one[name]) for name in _CARD) for one in state["cards"]]
    lines += ["proc " + " ".join(one) for one in state["procs"]]
    return "\n".join(lines) + "\n"


def _there(one: list[str]) -> bool:
    """Whether the process of a line is alive, or its line stays all the same."""
    if one[4] == "1":
        return True
    try:
        with open(f"/proc/{one[1]}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False
