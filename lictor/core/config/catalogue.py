"""What ships as a ready service, and the lines that `lictor add` writes for it.

A template says two things for people that are no keys of a service: `about`, a sentence in each
language, and `entry`, lines that are worth having in config.yml below `template:` (comments mostly).
This module reads those; what the keys of a service mean is the loader's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from lictor.core.config.problems import Problems
from lictor.core.config.services import template_names, template_text
from lictor.core.config.tree import Map, Scalar, parse
from lictor.core.config.units import parse_size

#: `5000`, or `${NAME:-5000}`.
_PORT = re.compile(r"(\$\{\w+:-)?([0-9]+)\}?")


@dataclass(frozen=True, slots=True)
class Template:
    """One entry of the catalogue. `port` None: it has none; `port_variable`: a variable may change it.

    `installs`: Lictor can bring what it needs, and `size` is about how many bytes that is.
    """

    name: str
    about: Mapping[str, str]
    entry: str
    driver: str
    port: int | None
    port_variable: bool
    gpu: bool
    installs: bool
    size: int | None


def all_templates() -> tuple[Template, ...]:
    """The whole catalogue, by name."""
    return tuple(template(name) for name in template_names())


@cache
def template(name: str) -> Template:
    """One of them. Raises `KeyError` when there is none of that name."""
    found = template_text(name)
    if found is None:
        raise KeyError(name)
    problems = Problems()
    tree = parse(found[1], found[0], problems)
    problems.raise_if_any()
    if not isinstance(tree, Map):
        raise KeyError(name)
    about, install = tree.get("about"), tree.get("install")
    driver = _text(tree, "driver") or "process"
    size = _text(install, "size") if isinstance(install, Map) else ""
    return Template(
        name=name,
        about={
            language: entry.node.text
            for language, entry in (about.entries.items() if isinstance(about, Map) else ())
            if isinstance(entry.node, Scalar)
        },
        entry=_text(tree, "entry"),
        driver=driver,
        port=int(found_port[2]) if (found_port := _PORT.fullmatch(_text(tree, "port"))) else None,
        port_variable=bool(found_port and found_port[1]),
        gpu=isinstance(tree.get("gpu"), Map),
        installs=isinstance(install, Map) or driver in {"docker", "auto"},
        size=parse_size(size) if size else None,
    )


def _text(tree: Map, key: str) -> str:
    node = tree.get(key)
    return node.text if isinstance(node, Scalar) else ""


def entry_lines(
    found: Template, name: str, port: int | None, language: str, hint: str = ""
) -> list[str]:
    """The lines of a new service, without the indentation of the section.

    `hint` is a comment that says how to bring what it needs; empty: none.
    """
    about = found.about.get(language) or found.about.get("en", "")
    chosen = port if port is not None or found.port_variable else found.port
    lines = [f"# {about}", f"{name}:", f"  template: {found.name}"]
    if chosen is not None:
        lines.append(f"  port: {chosen}")
    if hint:
        lines.append(f"  # {hint}")
    lines += [f"  {line}".rstrip() for line in found.entry.splitlines()]
    return lines
