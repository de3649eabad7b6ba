"""From the section `services:` to one merged tree per service or instance.

Templates lie under a service's keys and the service lies under its instances' keys: mappings are
merged key by key, everything else is replaced. Trees are merged, not values, so that a problem is
reported where the person wrote it, be it in the config or in the template. Names are checked here,
because what a thing is called decides what it is merged with; what the keys mean is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lictor.core.config.expand import Scope
from lictor.core.config.problems import Place, Problems, dotted, suggest
from lictor.core.config.schema_service import PROBE_KINDS, PROTOCOL_KINDS
from lictor.core.config.tree import Entry, Map, Node, Scalar, describe, parse
from lictor.core.config.validate import Subject
from lictor.core.model.names import RESERVED, BadName, ServiceKey, canonical

#: More than one host can use; it bounds the time of a load and of a plan.
MAX_SERVICES = 1000

_KINDS = (*PROBE_KINDS, *PROTOCOL_KINDS)
_ONE_OF = {
    "health": _KINDS,
    "checks": _KINDS,
    "params": ("choices", "pattern"),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service or instance to be. `values` are an instance's values for its parameters."""

    key: ServiceKey
    display_name: str
    subject: Subject
    values: Map | None = None


def candidates(node: Node | None, scope: Scope, problems: Problems) -> list[Candidate]:
    """Every service and instance of the section, in the order of the file."""
    if node is None:
        return []
    if not isinstance(node, Map):
        problems.add(node.place, "services", f"expected services by name, got {describe(node)}")
        return []
    result: list[Candidate] = []
    seen: dict[str, str] = {}
    for raw, entry in node.entries.items():
        where = ("services", raw)
        name = _name(raw, entry.key_place, where, seen, problems)
        if name in RESERVED:
            message = f"the name `{name}` is taken in Consul: it is {_holder(name)}"
            problems.add(entry.key_place, dotted(where), message)
        tree = _with_template(entry, where, scope, problems)
        if name is not None and tree is not None:
            result += _instances(name, raw, Subject(tree, entry.key_place, where), problems)
    if len(result) > MAX_SERVICES:
        message = f"{len(result)} services, and a host can have at most {MAX_SERVICES}"
        problems.add(node.place, "services", message)
        return []
    return result


def names(node: Node | None) -> list[str]:
    """The names of all services, also of those whose definition is wrong."""
    result: list[str] = []
    for raw in node.entries if isinstance(node, Map) else ():
        with suppress(BadName):
            result.append(canonical(raw))
    return result


def _holder(name: str) -> str:
    return "Consul's own service" if name == "consul" else "Lictor itself"


def _name(
    raw: str, place: Place, where: tuple[str, ...], seen: dict[str, str], problems: Problems
) -> str | None:
    try:
        name = canonical(raw)
    except BadName as error:
        problems.add(place, dotted(where[:-1]), str(error))
        return None
    if name in seen:
        message = f"`{raw}` and `{seen[name]}` are both `{name}` in DNS"
        problems.add(place, dotted(where), message, "rename one of them")
        return None
    seen[name] = raw
    return name


# --- templates -------------------------------------------------------------------------------


#: Keys of a template that say something about it and are no keys of a service: a sentence by
#: language, and the lines that `lictor add` writes below `template:`.
FOR_PEOPLE = ("about", "entry")


def template_text(name: str) -> tuple[str, str] | None:
    """Where a template stands, and its text; None if there is none of that name."""
    return _template_texts().get(name)


def template_names() -> tuple[str, ...]:
    """The templates that ship with Lictor."""
    return tuple(sorted(_template_texts()))


@cache
def _template_texts() -> Mapping[str, tuple[str, str]]:
    # A folder, not an import: `lictor.templates` stands above this room (pyproject, import-linter).
    folder = files("lictor").joinpath("templates", "services")
    if not folder.is_dir():
        return {}
    return {
        item.name.removesuffix(".yml"): (str(item), item.read_text(encoding="utf-8"))
        for item in folder.iterdir()
        if item.name.endswith(".yml")
    }


def _with_template(
    entry: Entry, where: tuple[str, ...], scope: Scope, problems: Problems
) -> Map | None:
    node = entry.node
    if isinstance(node, Scalar) and node.null:
        node = Map(entry.key_place)
    if not isinstance(node, Map):
        message = f"expected a mapping (key: value), got {describe(node)}"
        problems.add(node.place, dotted(where), message)
        return None
    chosen = node.get("template")
    if chosen is None:
        return _without(node, "template")
    at = dotted((*where, "template"))
    if not isinstance(chosen, Scalar):
        problems.add(chosen.place, at, f"expected a template's name, got {describe(chosen)}")
        return None
    name = scope.text(chosen, (*where, "template"), ("template",))
    found = _template_texts().get(name)
    if found is None:
        hint = suggest(name, template_names())
        message = f"no template `{name[:60]}`; there are: {', '.join(template_names())}"
        problems.add(chosen.place, at, message, hint if hint.startswith("did") else "")
        return None
    base = parse(found[1], found[0], problems)
    if not isinstance(base, Map):
        return None
    return merge(_without(base, *FOR_PEOPLE), _without(node, "template"))


def _without(node: Map, *keys: str) -> Map:
    kept = {key: entry for key, entry in node.entries.items() if key not in keys}
    return Map(node.place, kept)


def merge(base: Map, over: Map, path: tuple[str, ...] = ()) -> Map:
    """`over` on top of `base`: mappings key by key, everything else replaced.

    Of keys that exclude each other (`http` and `tcp` of one check) only those of `over` stay.
    """
    entries = dict(base.entries)
    rivals = (
        _ONE_OF.get(path[0], ()) if path and len(path) == (1 if path[0] == "health" else 2) else ()
    )
    if any(rival in over.entries for rival in rivals):
        for rival in rivals:
            entries.pop(rival, None)
    for key, entry in over.entries.items():
        below = entries.get(key)
        if below is not None and isinstance(below.node, Map) and isinstance(entry.node, Map):
            both = merge(below.node, entry.node, (*path, key))
            entries[key] = Entry(entry.key_place, both)
        else:
            entries[key] = entry
    return Map(over.place, entries)


# --- instances -------------------------------------------------------------------------------


def _instances(name: str, raw: str, whole: Subject, problems: Problems) -> list[Candidate]:
    section = whole.tree.get("instances")
    base = _without(whole.tree, "instances")
    if section is None or (isinstance(section, Map) and not section.entries):
        return [Candidate(ServiceKey(name), raw, Subject(base, whole.place, whole.where))]
    where = (*whole.where, "instances")
    if not isinstance(section, Map):
        message = f"expected instances by name, got {describe(section)}"
        problems.add(section.place, dotted(where), message)
        return []
    result: list[Candidate] = []
    seen: dict[str, str] = {}
    for label, entry in section.entries.items():
        at = (*where, label)
        instance = _name(label, entry.key_place, tuple(map(str, at)), seen, problems)
        own = _instance_tree(entry, at, problems)
        if instance is None or own is None:
            continue
        values = own.get("params")
        if values is not None and not isinstance(values, Map):
            message = f"expected values by parameter, got {describe(values)}"
            problems.add(values.place, dotted((*at, "params")), message)
            values = None
        tree = merge(base, _without(own, "params"))
        subject = Subject(tree, entry.key_place, whole.where)
        result.append(Candidate(ServiceKey(name, instance), f"{raw}@{label}", subject, values))
    return result


def _instance_tree(entry: Entry, at: tuple[str | int, ...], problems: Problems) -> Map | None:
    node = entry.node
    if isinstance(node, Scalar) and node.null:
        return Map(entry.key_place)
    if not isinstance(node, Map):
        message = f"expected a mapping (key: value), got {describe(node)}"
        problems.add(node.place, dotted(at), message)
        return None
    for key in ("template", "instances"):
        if key in node.entries:
            message = f"`{key}` belongs to the service, not to one of its instances"
            problems.add(node.entries[key].key_place, dotted(at), message)
    return _without(node, "template", "instances")
