"""Check plain data against a schema model, and say what is wrong in words and at its place.

pydantic knows *what* is wrong by a path of keys; the tree knows *where* each key stands. Its
sentences are written for programmers, so the usual ones are said anew: what was expected, what was
there. Values of `env` and tokens are never quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from lictor.core.config.problems import Place, Problems, dotted, quote, suggest
from lictor.core.config.tree import Map, Node, Scalar, Seq

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_SECRET_PARTS = {"env", "token"}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path of keys leads: the key, the value, and how far the tree really goes."""

    key_place: Place
    value_place: Place
    node: Node
    path: tuple[str | int, ...]


def find(node: Node, loc: Iterable[str | int], key_place: Place | None = None) -> Found:
    """Follow a path as far as the tree has it (a list of names is followed by name, too)."""
    found = Found(key_place or node.place, node.place, node, ())
    for part in loc:
        here = found.node
        if isinstance(here, Map) and str(part) in here.entries:
            entry = here.entries[str(part)]
            path = (*found.path, str(part))
            found = Found(entry.key_place, entry.node.place, entry.node, path)
            continue
        if isinstance(here, Seq):
            item = _item(here, part)
            if item is not None:
                found = Found(item.place, item.place, item, (*found.path, part))
                continue
        break
    return found


def _item(node: Seq, part: str | int) -> Node | None:
    if isinstance(part, int):
        return node.items[part] if 0 <= part < len(node.items) else None
    for item in node.items:
        if isinstance(item, Scalar) and item.text == part:
            return item
    return None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is being checked: its tree, the place of its key, and how it is called."""

    tree: Map
    place: Place
    where: tuple[str | int, ...]

    def find(self, *loc: str | int) -> Found:
        """Where a key of it stands."""
        return find(self.tree, loc, self.place)

    def complain(
        self, problems: Problems, loc: Iterable[str | int], message: str, hint: str = ""
    ) -> None:
        """Write a problem down at the value of a key of it (or at the nearest there is)."""
        parts = tuple(loc)
        found = self.find(*parts)
        place = found.value_place if found.path else self.place
        problems.add(place, dotted((*self.where, *parts)), message, hint)


@dataclass(frozen=True, slots=True)
class Checked(Generic[M]):
    """A checked section.

    Not `whole`: keys with problems were left out, so that the rest can still be looked at and all
    problems be told at once; such a model is never put in force.
    """

    model: M
    whole: bool = True


def check(
    model: type[M], data: Mapping[str, object], subject: Subject, problems: Problems
) -> Checked[M] | None:
    """The model made of `data`, after writing down all that is wrong; None if nothing is left."""
    try:
        return Checked(model.model_validate(data))
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _report(detail, model, subject, problems)
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    try:
        rest = {key: value for key, value in data.items() if key not in wrong}
        return Checked(model.model_validate(rest), whole=False)
    except ValidationError:
        return None


def _report(detail: Any, model: type[BaseModel], subject: Subject, problems: Problems) -> None:
    loc: tuple[str | int, ...] = detail["loc"]
    found = subject.find(*loc)
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        key = str(loc[-1])
        known = _keys_at(model, loc[:-1])
        where = dotted((*subject.where, *loc[:-1]))
        problems.add(found.key_place, where, f"unknown key `{key}`", suggest(key, known))
        return
    if kind == "missing":
        place = found.key_place if found.path else subject.place
        problems.add(place, dotted((*subject.where, *found.path)), f"`{loc[-1]}` is missing")
        return
    is_key = bool(loc) and loc[-1] == "[key]"
    place = found.key_place if is_key or not found.path else found.value_place
    if problems.at(place):
        return  # it has been said in other words: an expansion failed there, or a union's branch
    message, hint = _sentence(detail, found, secret=bool(_SECRET_PARTS & set(map(str, loc))))
    problems.add(place, dotted((*subject.where, *found.path)), message, hint)


def _sentence(detail: Any, found: Found, *, secret: bool) -> tuple[str, str]:
    kind: str = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if kind == "lictor":
        return str(context["message"]), str(context["hint"])
    got = _got(detail["input"], found.node, secret=secret)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {got}", _brace_hint(found.node)
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return f"expected {words} {context[name]}, got {got}", ""
    if kind == "literal_error":
        words = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        hint = suggest(str(detail["input"]), words.split(", ")) if not secret else ""
        return f"expected one of {words}; got {got}", hint if hint.startswith("did") else ""
    if kind == "string_too_short":
        return "expected text, got nothing", ""
    return str(detail["msg"]), ""


def _got(value: object, node: Node, *, secret: bool) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict) or isinstance(node, Map):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "text" if secret else quote(str(value))


def _brace_hint(node: Node) -> str:
    if isinstance(node, Map) and len(node.entries) == 1:
        key, entry = next(iter(node.entries.items()))
        if isinstance(entry.node, Scalar) and entry.node.null:
            return f'text that begins with {{ must stand in quotes: "{{{key}}}"'
    return ""


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that a model takes, as they are written."""
    return [info.alias or name for name, info in model.model_fields.items()]


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in loc:
        if current is None:
            return []
        info = {i.alias or n: i for n, i in current.model_fields.items()}.get(str(part))
        if info is not None:
            current = _model_in(info.annotation) or current
    return keys_of(current) if current is not None else []


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        inner = _model_in(argument)
        if inner is not None:
            return inner
    return None
