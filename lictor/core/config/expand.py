"""`${VAR:-default}` and `{port}`: filled in once, while loading, in one pass over each text.

What was filled in is never looked at again, so a variable's value cannot smuggle in a placeholder.
`$$`, `{{` and `}}` are a literal `$`, `{` and `}`. Unknown names are errors, because a service that
starts with an empty argument fails later and worse. `{param.x}` alone is not filled in here (it may
change while the agent runs): it becomes a marker text that `build` turns into a `ParamRef`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lictor.core.config.problems import Problems, dotted, suggest
from lictor.core.config.tree import Map, Node, Scalar, typed

Path: TypeAlias = tuple[str | int, ...]
#: Gives a placeholder's text for a place in the service, or None when it does not exist there.
Lookup: TypeAlias = Callable[[str, Path], str | None]

#: NUL cannot stand in a config file (see `tree`), so no text of a user looks like this.
PARAM_MARK = "\0param\0"

_TOKEN = re.compile(
    r"\$(?P<literal>\$\{(?!\{)[^{}]*\})|\$\$|\$\{(?P<var>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|\$\{"
    r"|\{\{|\}\}|\{(?P<name>[^{}]*)\}|\{|\}"
)
_LITERAL = {"$$": "$", "{{": "{", "}}": "}"}
_BRACES = "write {{ and }} for literal braces"


@dataclass(frozen=True, slots=True)
class Scope:
    """What the texts of one section may refer to."""

    env: Mapping[str, str]
    problems: Problems
    names: tuple[str, ...] = ()
    lookup: Lookup = lambda _name, _path: None
    params: frozenset[str] = frozenset()
    #: Whether this is a service: then `params`, `command` and `env` have rules of their own.
    service: bool = False

    def text(self, node: Scalar, where: Path, path: Path) -> str:
        """The text with everything filled in; problems are written down at the node."""
        if "$" not in node.text and "{" not in node.text and "}" not in node.text:
            return node.text
        if self.service and node.text.startswith("{param.") and node.text.endswith("}"):
            return self._param(node, where, path)

        def fill(match: re.Match[str]) -> str:
            return self._token(match, node, where, path)

        return _TOKEN.sub(fill, node.text)

    def _token(self, match: re.Match[str], node: Scalar, where: Path, path: Path) -> str:
        found = match[0]
        if match["literal"]:  # $${A} is ${A}: the braces belong to the dollar
            return match["literal"]
        if found in _LITERAL:
            return _LITERAL[found]
        if match["var"]:
            return self._variable(match["var"], match["default"], node, where)
        name = match["name"]
        message, hint = f"a lone {found} in the text", _BRACES
        if found == "${":
            message, hint = "${ is not followed by NAME} or NAME:-default}", "write $$ for a $"
        elif name is not None:
            value = self.lookup(name, path) if name in self.names else None
            if value is not None:
                return value
            message, hint = self._unknown(name)
        self.problems.add(node.place, dotted(where), message, hint)
        return ""

    def _variable(self, name: str, default: str | None, node: Scalar, where: Path) -> str:
        value = self.env.get(name)
        if default is not None:
            return value or default
        if value is None:
            hint = f"set it, or write ${{{name}:-default}}"
            message = f"the environment has no variable {name}"
            self.problems.add(node.place, dotted(where), message, hint)
        return value or ""

    def _unknown(self, name: str) -> tuple[str, str]:
        if name.startswith("param.") and self.service:
            return (
                f"{{{name}}} must be a whole argument (not the program) or a whole env value",
                "KV can set a parameter, so it may not become part of another text",
            )
        if name in self.names:
            return f"{{{name}}} has no value here", "" if name != "instance" else "no instances"
        near = suggest(name, self.names) if re.fullmatch(r"[\w.]+", name) else ""
        return f"unknown placeholder {{{name[:40]}}}", near or _BRACES

    def _param(self, node: Scalar, where: Path, path: Path) -> str:
        name = node.text[len("{param.") : -1]
        if not _takes_param(path):
            message, hint = self._unknown(f"param.{name}")
        elif name in self.params:
            return PARAM_MARK + name
        else:
            message = f"unknown parameter {{param.{name[:40]}}}"
            hint = suggest(name, sorted(self.params)) or "define it under `params`"
        self.problems.add(node.place, dotted(where), message, hint)
        return ""


def plain(node: Node, scope: Scope, where: Path = (), path: Path = ()) -> object:
    """The node as plain data with every text filled in, as the schema takes it.

    A key after which nothing is written counts as not written, but for the mappings in which an
    empty value is a statement (`env`, `meta`, `depends_on`).
    """
    if isinstance(node, Map):
        return mapping(node, scope, where, path)
    if isinstance(node, Scalar):
        return _scalar(node, scope, where, path)
    return [
        plain(item, scope, (*where, index), (*path, index)) for index, item in enumerate(node.items)
    ]


def mapping(node: Map, scope: Scope, where: Path, path: Path = ()) -> dict[str, object]:
    """`plain` for a mapping."""
    keeps = scope.service and path in {("env",), ("meta",), ("depends_on",)}
    result: dict[str, object] = {}
    for key, entry in node.entries.items():
        value = plain(entry.node, scope, (*where, key), (*path, key))
        if not keeps and (value is None or (value == "" and _was_text(entry.node))):
            continue
        result[key] = value
    return result


def _scalar(node: Scalar, scope: Scope, where: Path, path: Path) -> object:
    if node.null:
        return None
    if scope.service and len(path) >= 3 and path[0] == "params":
        if path[2] == "pattern":  # full of braces and dollars that mean something else there
            return node.text
        text = scope.text(node, where, path)
        return typed(text) if node.plain else text
    return scope.text(node, where, path)


def _was_text(node: Node) -> bool:
    """Whether an empty value was not typed, but came out of a variable."""
    return isinstance(node, Scalar) and node.text != ""


def _takes_param(path: Path) -> bool:
    if len(path) == 2 and path[0] == "env":
        return True
    if path[:2] == ("docker", "command"):  # the program is the image's
        return len(path) == 3
    in_argv = (len(path) == 2 and path[0] == "command") or (len(path) == 3 and path[0] == "before")
    return in_argv and path[-1] != 0
