"""Keys that are accepted and have no effect yet: one table.

A config may already say what a later version will do (`activation`, `idle_timeout`), and must not be
refused for it, nor be left believing that it works. Each row is a key and a sentence; whoever
builds the capability deletes its row. Warnings about risks are not here but where they are seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lictor.core.config.problems import Place, Problems, dotted
from lictor.core.config.services import Candidate
from lictor.core.config.tree import Map, Node, Scalar


@dataclass(frozen=True, slots=True)
class Row:
    """A key (`*` stands for any), the value that has no effect (None: any), and the sentence."""

    key: tuple[str, ...]
    says: str
    value: str | None = None


SERVICE = (
    Row(("activation",), "not started by a request yet: start it by hand", "on-demand"),
    Row(("idle_timeout",), "an idle service is not stopped yet"),
)

NO_EFFECT = "accepted, without effect in this version"


def note_unused(found: Iterable[Candidate], notes: Problems) -> None:
    """Write down every key of the file that has no effect yet."""
    for candidate in found:
        subject = candidate.subject
        for row in SERVICE:
            _look(subject.tree, subject.place, row, row.key, subject.where, notes)


def _look(
    node: Node,
    place: Place,
    row: Row,
    rest: tuple[str, ...],
    where: tuple[str | int, ...],
    notes: Problems,
) -> None:
    if not rest:
        if row.value is None or (isinstance(node, Scalar) and node.text == row.value):
            notes.add(place, dotted(where), row.says, NO_EFFECT)
        return
    if not isinstance(node, Map):
        return
    for key in node.entries if rest[0] == "*" else rest[:1]:
        below = node.get(key)
        if below is not None:
            entry_place = node.entries[key].key_place
            _look(below, entry_place, row, rest[1:], (*where, key), notes)
