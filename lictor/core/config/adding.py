"""Writes a new service into the text of config.yml, and nothing else into it.

The file belongs to a person: comments, order, blank lines and line ends stay as they are, so the
entry is put in as text, behind the last service. Whether that was right is not hoped but looked at:
the new text is read again, and but for the new service it must say exactly what the old one said.
This module changes texts; it opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lictor.core.config.problems import Place, Problems
from lictor.core.config.services import names
from lictor.core.config.tree import Map, Node, Scalar, Seq, parse
from lictor.core.errors import ConfigError, Refused
from lictor.core.model.names import BadName, canonical
from lictor.core.model.reason import because
from lictor.core.worded import worded


def insert(text: str, file: str, name: str, entry: Sequence[str]) -> str:
    """The text with one service more. Raises `ConfigError` or `Refused`."""
    root = _read(text, file)
    section = root.get("services")
    if name in names(section):
        exists = because("add.exists", file=file, name=name)
        raise worded(Refused, exists, hint=because("next.other_name"), code="add.exists")
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):  # another system's line ends
        return insert(text.replace("\r\n", "\n"), file, name, entry).replace("\n", "\r\n")
    # Not splitlines: a lone CR stays where it is.
    lines = text.removesuffix("\n").split("\n") if text else []
    if "services" not in root.entries:
        new = [*lines, *([""] if lines else []), "services:", *_indented(entry, 2)]
    else:
        new = _into(lines, root, section, entry, file)
    result = "\n".join(new) + "\n"
    try:
        after = _read(result, file)
    except ConfigError as error:
        raise _unclear(file) from error
    if _without(after, name) != _without(root, name) or name not in names(after.get("services")):
        raise _unclear(file)
    return result


def _read(text: str, file: str) -> Map:
    problems = Problems()
    node = parse(text, file, problems)
    problems.raise_if_any()
    if node is None or (isinstance(node, Scalar) and node.null):
        return Map(Place(file))
    if not isinstance(node, Map):
        raise _unclear(file)
    return node


def _into(
    lines: list[str], root: Map, section: Node | None, entry: Sequence[str], file: str
) -> list[str]:
    at = root.entries["services"].key_place
    if section is not None and not isinstance(section, Map):
        raise _unclear(file)
    if section is None or not section.entries:
        head = re.fullmatch(r"services:\s*(?:\{\s*\}|~|null)?\s*(#.*)?", lines[at.line - 1])
        if head is None or at.column != 1:
            raise _unclear(file)
        lines = [*lines]
        lines[at.line - 1] = "services:" + (f"  {head[1]}" if head[1] else "")
        return [*lines[: at.line], *_indented(entry, 2), *_apart(lines[at.line :])]
    first = next(iter(section.entries.values())).key_place
    if first.line == at.line or first.column < 2:
        raise _unclear(file)
    # From the line where the last value begins, its service goes on while lines are indented deeper:
    # comments, too, if they stand below its keys.
    indent = first.column - 1
    stop = max(node.place.line for node in _nodes(section))
    for number in range(stop, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        if line.strip():
            stop = number + 1
    return [*lines[:stop], "", *_indented(entry, indent), *_apart(lines[stop:])]


def _apart(rest: list[str]) -> list[str]:
    """A blank line before whatever follows, unless there is one or nothing follows."""
    return ["", *rest] if rest and rest[0].strip() else rest


def _indented(entry: Sequence[str], by: int) -> list[str]:
    return [(" " * by + line) if line else "" for line in entry]


def _nodes(node: Node) -> Iterator[Node]:
    stack: list[Node] = [node]
    while stack:
        one = stack.pop()
        yield one
        if isinstance(one, Map):
            stack += [entry.node for entry in one.entries.values()]
        elif isinstance(one, Seq):
            stack += one.items


def _without(root: Map, name: str) -> object:
    """What a tree says, without places and without one service."""
    plain = _plain(root)
    if isinstance(plain, dict):
        services = plain.get("services")
        kept = (
            {key: value for key, value in services.items() if _canonical(key) != name}
            if isinstance(services, dict)
            else {}
        )
        plain = {**plain, "services": kept}
    return plain


def _canonical(key: str) -> str:
    try:
        return canonical(key)
    except BadName:  # the loader says so in better words
        return key


def _plain(node: Node) -> object:
    if isinstance(node, Map):
        return {key: _plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Seq):
        return [_plain(item) for item in node.items]
    return (node.text, node.plain)


def _unclear(file: str) -> Refused:
    unclear = because("add.unclear", file=file)
    return worded(Refused, unclear, hint=because("next.put_in_yourself"), code="add.unclear")
