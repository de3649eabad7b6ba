"""The list of everything that is wrong with a file, with its place.

People fix a config in one go if they are told everything in one go, so nothing in this package
raises at the first problem: it adds to a `Problems` and goes on as well as it can. It never prints
a value that may be a secret; callers choose what to quote.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from lictor.core.errors import ConfigError, Problem

#: More than anybody reads; a file of garbage must not fill the terminal or the memory.
MOST = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands. Line and column count from 1; line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0


class Problems:
    """Collects problems; the same sentence at the same place counts once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, str], Problem] = {}
        self._places: set[Place] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, where: str, message: str, hint: str = "") -> None:
        """Write one problem down."""
        self._places.add(place)
        self._found.setdefault(
            (place, message),
            Problem(place.file, place.line, place.column, where, message, hint),
        )

    def at(self, place: Place) -> bool:
        """Whether this place is already complained about: what follows from that is noise."""
        return place in self._places

    def sorted(self) -> tuple[Problem, ...]:
        """Everything, in the order of the text."""
        return tuple(sorted(self._found.values(), key=lambda p: (p.line, p.column)))

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with all of them (at most `MOST`), or return."""
        if self._found:
            found = self.sorted()
            if len(found) > MOST:
                more = Problem(found[0].file, 0, 0, "", f"and {len(found) - MOST} more problems")
                found = (*found[:MOST], more)
            raise ConfigError(found)


def suggest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of `known`, or lists them when they are few."""
    options = list(known)
    near = difflib.get_close_matches(word.lower(), options, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    if 0 < len(options) <= 12:
        return "known: " + ", ".join(options)
    return ""


def quote(text: str) -> str:
    """A value as it may be shown in a sentence: quoted, on one line, and short."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:56] + "...'"


def dotted(path: Iterable[str | int]) -> str:
    """`("services", "a", "command", 0)` as people write it: `services.a.command[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
