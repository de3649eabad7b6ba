"""YAML as a tree that remembers where every key and value stands.

PyYAML's constructors throw places away, resolve `no` to False and `1:30` to 90, and expand aliases
without end; its composer recurses, so deep nesting ends in a crash of the interpreter instead of an
error. So this module reads the *event* stream (the C parser where there is one), builds its own
small tree without recursion, keeps each scalar's text as typed, and counts depth and nodes, aliases
included, as it goes. It never builds any object but the three kinds of node below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from lictor.core.config.problems import Place, Problems

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 200_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BARE_PLACEHOLDER = re.compile(
    r"""(^|[\s\[,:])\{(host|port|data_dir|name|instance|python|param\.\w+)\}"""
)


@dataclass(slots=True)
class Scalar:
    """One value as typed. `plain`: it stood without quotes, so it may mean a number or nothing."""

    place: Place
    text: str
    plain: bool = False

    @property
    def null(self) -> bool:
        """Whether nothing was written: empty, `~` or `null`, unquoted."""
        return self.plain and _NULL.fullmatch(self.text) is not None


@dataclass(slots=True)
class Entry:
    """One `key: value` of a mapping."""

    key_place: Place
    node: Node


@dataclass(slots=True)
class Map:
    """A mapping, in the order of the file."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)

    def get(self, key: str) -> Node | None:
        """The value of a key, or None if it is not there or nothing was written after it."""
        entry = self.entries.get(key)
        if entry is None or (isinstance(entry.node, Scalar) and entry.node.null):
            return None
        return entry.node


@dataclass(slots=True)
class Seq:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list)


Node: TypeAlias = Scalar | Map | Seq


def typed(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means in YAML 1.2: only `true` and `false` are booleans."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if len(text) < 300 and _INT.fullmatch(text):
        return int(text)
    if len(text) < 300 and _FLOAT.fullmatch(text):
        return float(text)
    return text


def describe(node: Node) -> str:
    """What kind of thing a node is, for `expected ..., got ...`."""
    if isinstance(node, Map):
        return "a mapping"
    return "a list" if isinstance(node, Seq) else "text"


def parse(text: str, file: str, problems: Problems) -> Node | None:
    """The tree of one YAML document, or None for an empty file or one that cannot be read at all."""
    builder = _Builder(file, problems)
    try:
        for event in _events(text):
            builder.take(event)
            if builder.stopped:
                return None
    except yaml.MarkedYAMLError as error:
        problems.add(*_syntax(error, text, file))
        return None
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        problems.add(Place(file, line, column), "", "a character that YAML does not allow")
        return None
    except yaml.YAMLError as error:
        problems.add(Place(file), "", f"not valid YAML: {error}")
        return None
    return builder.root


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_LOADER)


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> tuple[Place, str, str, str]:
    mark = error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
    message = f"not valid YAML: {error.problem or error.context or 'it ends too early'}"
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        hint = "indent with spaces, not tabs"
    elif _BARE_PLACEHOLDER.search(line):
        hint = 'text that begins with { must stand in quotes: "{port}"'
    elif "${" in line:
        hint = 'between { } or [ ], text with ${...} must stand in quotes: "${NAME}"'
    return place, "", message, hint


@dataclass(slots=True)
class _Frame:
    """A mapping or list under construction."""

    node: Map | Seq
    anchor: str | None
    size: int = 1
    key: tuple[str, Place] | None = None
    merges: list[tuple[Place, Node]] = field(default_factory=list)


class _Builder:
    """Puts events together. `stopped` once a limit is passed: going on would help nobody."""

    def __init__(self, file: str, problems: Problems) -> None:
        self.root: Node | None = None
        self.stopped = False
        self._file = file
        self._problems = problems
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        place = Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, place)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor or "", place)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._tag(event.tag, place)
            node = Map(place) if isinstance(event, yaml.MappingStartEvent) else Seq(place)
            self._stack.append(_Frame(node, event.anchor))
            if len(self._stack) > MAX_DEPTH:
                self._stop(place, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(place, "a second YAML document; one file holds one configuration")

    def _stop(self, place: Place, message: str) -> None:
        self._problems.add(place, "", message)
        self.stopped = True

    def _tag(self, tag: str | None, place: Place) -> None:
        if tag not in {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", *_CORE_TAGS}:
            self._problems.add(place, "", f"the YAML tag {tag} is not allowed here")

    def _scalar(self, event: Any, place: Place) -> None:
        self._tag(event.tag, place)
        if "\0" in event.value:
            self._problems.add(place, "", "a NUL character is not allowed")
        node = Scalar(place, event.value, plain=bool(event.implicit[0]) and not event.style)
        if event.anchor:
            self._anchors[event.anchor] = (node, 1)
        self._place(node, 1)

    def _alias(self, anchor: str, place: Place) -> None:
        known = self._anchors.get(anchor)
        if known is None:
            self._problems.add(place, "", f"the alias *{anchor} stands for nothing defined before")
            known = (Scalar(place, "", plain=True), 1)
        self._place(known[0], known[1], place)

    def _end(self) -> None:
        frame = self._stack.pop()
        if isinstance(frame.node, Map):
            for place, source in frame.merges:
                self._merge(frame.node, source, place)
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.node, frame.size)
        self._place(frame.node, frame.size)

    def _place(self, node: Node, size: int, alias: Place | None = None) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.size += size
        if frame.size > MAX_NODES:
            self._stop(alias or node.place, f"more than {MAX_NODES} values, aliases included")
        if isinstance(frame.node, Seq):
            frame.node.items.append(node)
        elif frame.key is None:
            frame.key = self._key(node, alias)
        else:
            (key, place), frame.key = frame.key, None
            self._entry(frame, key, place, node)

    def _key(self, node: Node, alias: Place | None) -> tuple[str, Place]:
        place = alias or node.place
        if not isinstance(node, Scalar):
            self._problems.add(place, "", f"{describe(node)} cannot be a key")
            return "", place
        return node.text, place

    def _entry(self, frame: _Frame, key: str, place: Place, node: Node) -> None:
        mapping = frame.node
        if not isinstance(mapping, Map):  # the caller has looked; this tells the type checker
            return
        if key == "<<":
            frame.merges.append((place, node))
            return
        first = mapping.entries.get(key)
        if first is not None:
            line = first.key_place.line
            self._problems.add(place, key, f"`{key}` is given twice (first on line {line})")
            return
        mapping.entries[key] = Entry(place, node)

    def _merge(self, target: Map, source: Node, place: Place) -> None:
        parts = source.items if isinstance(source, Seq) else [source]
        for part in parts:
            if not isinstance(part, Map):
                self._problems.add(place, "<<", "a merge key takes a mapping or a list of them")
                continue
            for key, entry in part.entries.items():
                target.entries.setdefault(key, entry)
