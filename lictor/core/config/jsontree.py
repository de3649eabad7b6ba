"""JSON as the tree of `tree`: the same nodes, with the same places.

The standard library's decoder says whether a text is JSON, and where it is not; it does not say
where a value stood. So the text is decoded once for correctness and walked once for places. The
walk trusts nothing but a text that the decoder has accepted.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right

from lictor.core.config.problems import Place, Problems
from lictor.core.config.tree import MAX_BYTES, MAX_DEPTH, Entry, Map, Node, Scalar, Seq

_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"[^\s,\]}]+")
_DECODER = json.JSONDecoder()


def parse_json(text: str, file: str, problems: Problems) -> Node | None:
    """The tree of a JSON text, or None after writing down why there is none."""
    if len(text) > MAX_BYTES:
        problems.add(Place(file), "", f"larger than {MAX_BYTES // 1024} KiB")
        return None
    text = text.removeprefix("\ufeff")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        place = Place(file, error.lineno, error.colno)
        problems.add(place, "", f"not valid JSON: {error.msg}")
        return None
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        problems.add(Place(file), "", "not a JSON file of services: too deep, or a huge number")
        return None
    return _Walk(text, file, problems).node(_skip(text, 0), 0)[0]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


class _Walk:
    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._text = text
        self._file = file
        self._problems = problems
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def _place(self, at: int) -> Place:
        line = bisect_right(self._lines, at)
        return Place(self._file, line, at - self._lines[line - 1] + 1)

    def node(self, at: int, depth: int) -> tuple[Node | None, int]:
        """The node that begins at `at`, and where it ends. None: nested too deep, given up."""
        place = self._place(at)
        if depth > MAX_DEPTH:
            self._problems.add(place, "", f"nested deeper than {MAX_DEPTH} levels")
            return None, len(self._text)
        if self._text[at] == "{":
            return self._map(at + 1, place, depth)
        if self._text[at] == "[":
            return self._seq(at + 1, place, depth)
        if self._text[at] == '"':
            value, end = self._string(at)
            return Scalar(place, value), end
        match = _WORD.match(self._text, at)
        word = match[0] if match else ""
        return Scalar(place, word, plain=True), at + len(word)

    def _string(self, at: int) -> tuple[str, int]:
        value, end = _DECODER.raw_decode(self._text, at)
        if re.search(r"[\0\ud800-\udfff]", value):
            self._problems.add(self._place(at), "", "a NUL or half a character is not allowed")
        return str(value), end

    def _map(self, at: int, place: Place, depth: int) -> tuple[Node | None, int]:
        result = Map(place)
        at = _skip(self._text, at)
        while at < len(self._text) and self._text[at] != "}":
            key_place = self._place(at)
            key, at = self._string(at)
            at = _skip(self._text, _skip(self._text, at) + 1)  # the colon
            node, at = self.node(at, depth + 1)
            if node is None:
                return None, at
            if key in result.entries:
                first = result.entries[key].key_place.line
                message = f"`{key}` is given twice (first on line {first})"
                self._problems.add(key_place, key, message)
            result.entries[key] = Entry(key_place, node)
            at = _skip(self._text, at)
            if at < len(self._text) and self._text[at] == ",":
                at = _skip(self._text, at + 1)
        return result, at + 1

    def _seq(self, at: int, place: Place, depth: int) -> tuple[Node | None, int]:
        result = Seq(place)
        at = _skip(self._text, at)
        while at < len(self._text) and self._text[at] != "]":
            node, at = self.node(at, depth + 1)
            if node is None:
                return None, at
            result.items.append(node)
            at = _skip(self._text, at)
            if at < len(self._text) and self._text[at] == ",":
                at = _skip(self._text, at + 1)
        return result, at + 1
