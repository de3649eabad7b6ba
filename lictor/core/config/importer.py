"""The users' older `astra_services.json` as a config.yml.

That file maps a name to `cmd`, `cwd`, `env`, `optional`, `health_check` (`url`, `timeout`) and
`restart_policy` (`max_restarts`, `backoff_seconds`). The result is a text for people: commented,
in the order of the source, and accepted by `load`. Nothing of the source is lost in silence: what
has no counterpart becomes a comment, what is wrong is an error with its line and column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlsplit

from lictor.core.config.fields import url_problem
from lictor.core.config.jsontree import parse_json
from lictor.core.config.problems import Place, Problems
from lictor.core.config.settings import WebSettings
from lictor.core.config.tree import Map, Node, Scalar, Seq, describe, typed
from lictor.core.config.units import format_duration
from lictor.core.model.names import RESERVED, BadName, canonical

_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.:-]*[A-Za-z0-9_/]|[A-Za-z/]")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KNOWN = ("name", "cmd", "cwd", "env", "optional", "health_check", "restart_policy")
_HEADER = """\
# Made by `lictor config import` from {source}. Check it with `lictor config check`.
#
# Two things differ from the program that read the older file:
#  - a service gets only PATH HOME LANG TZ USER TMPDIR and its own `env`; name further variables of
#    the agent under `inherit_env: [NAME]`
#  - relative `cwd`s count from the folder of this file

services:
"""


def import_seed(text: str, *, source: str) -> str:
    """The text of a config.yml with the same services. Raises `ConfigError` with all problems."""
    problems = Problems()
    root = parse_json(text, source, problems)
    problems.raise_if_any()
    wrapped = root.get("services") if isinstance(root, Map) and len(root.entries) == 1 else None
    if isinstance(wrapped, Map) and "cmd" not in wrapped.entries:
        root = wrapped
    if not isinstance(root, Map) or not root.entries:
        place = root.place if root is not None else Place(source)
        problems.add(place, "", "expected an object that maps names to services")
        problems.raise_if_any()
        return ""  # not reached
    seen: dict[str, str] = {}
    ports: dict[int, str] = {WebSettings().port: "lictor"}
    lines: list[str] = []
    for name, entry in root.entries.items():
        _check_name(name, entry.key_place, seen, problems)
        service = _Service(name, problems, ports)
        lines += [*service.lines(entry.node, entry.key_place), ""]
    problems.raise_if_any()
    shown = "".join(c if c.isprintable() else "?" for c in source)
    return _HEADER.format(source=shown) + "\n".join(lines)


def _check_name(name: str, place: Place, seen: dict[str, str], problems: Problems) -> None:
    try:
        label = canonical(name)
    except BadName as error:
        problems.add(place, name, str(error))
        return
    if label in RESERVED:
        problems.add(place, name, f"the name `{label}` is taken in Consul")
    if label in seen:
        problems.add(place, name, f"`{name}` and `{seen[label]}` are both `{label}` in DNS")
    seen[label] = name


def scalar(text: str, *, expand: bool = True) -> str:
    """A text as YAML, quoted when it must be, and protected from expansion."""
    if expand:
        text = text.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    if _PLAIN.fullmatch(text) and isinstance(typed(text), str) and ": " not in text:
        return text if text.lower() not in {"yes", "no", "on", "off", "y", "n"} else f'"{text}"'
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


@dataclass(slots=True)
class _Service:
    """One service of the source on its way into lines of YAML."""

    name: str
    problems: Problems
    ports: dict[int, str]
    comments: list[str] = field(default_factory=list)

    def lines(self, node: Node, key_place: Place) -> list[str]:
        body = [f"  {scalar(self.name, expand=False)}:"]
        if not isinstance(node, Map):
            self._wrong(node, "", "an object")
            return body
        if "cmd" not in node.entries:
            self.problems.add(key_place, self.name, "`cmd` is missing")
        for key, entry in node.entries.items():
            value = entry.node
            if key == "name" and isinstance(value, Scalar) and value.text != self.name:
                self.comments.append(f"the source calls it {json.dumps(value.text)} inside")
            elif key not in _KNOWN:
                self.comments.append(f"not imported: {json.dumps(key)}")
            elif key != "name" and not (isinstance(value, Scalar) and value.null):
                body += getattr(self, f"_{key}")(value)
        return [body[0], *(f"    # {comment}" for comment in self.comments), *body[1:]]

    def _wrong(self, node: Node, key: str, expected: str) -> None:
        where = f"{self.name}.{key}" if key else self.name
        kind = describe(node).replace("a mapping", "an object")
        got = f"{node.text[:40]!r}" if isinstance(node, Scalar) else kind
        self.problems.add(node.place, where, f"expected {expected}, got {got}")

    def _words(self, node: Node, key: str) -> Iterator[str]:
        items = node.items if isinstance(node, Seq) else []
        for item in items:
            if isinstance(item, Scalar) and not item.null:
                yield item.text
            else:
                self._wrong(item, key, "text")

    def _cmd(self, node: Node) -> list[str]:
        if not isinstance(node, Seq) or not node.items:
            self._wrong(node, "cmd", "a list of words (no shell is used)")
            return []
        words = list(self._words(node, "cmd"))
        if words and not words[0]:
            self._wrong(node.items[0], "cmd", "the program's name")
        lines = [f"    command: [{', '.join(map(scalar, words))}]"]
        for option, value in pairwise(words):
            if option == "--host" and value in {"0.0.0.0", "::"}:  # noqa: S104 - recognised only
                lines.append(f'    host: "{value}"')
                break
        return lines

    def _cwd(self, node: Node) -> list[str]:
        if not isinstance(node, Scalar) or not node.text:
            self._wrong(node, "cwd", "a folder")
            return []
        return [f"    cwd: {scalar(node.text)}"]

    def _env(self, node: Node) -> list[str]:
        if not isinstance(node, Map):
            self._wrong(node, "env", "an object")
            return []
        lines = ["    env:"] if node.entries else []
        for name, entry in node.entries.items():
            if not _ENV_NAME.fullmatch(name):
                message = f"{name[:40]!r} cannot be the name of an environment variable"
                self.problems.add(entry.key_place, f"{self.name}.env", message)
            elif not isinstance(entry.node, Scalar) or entry.node.null:
                self.problems.add(entry.node.place, f"{self.name}.env.{name}", "expected text")
            else:
                lines.append(f"      {name}: {scalar(entry.node.text)}")
        return lines

    def _optional(self, node: Node) -> list[str]:
        if not isinstance(node, Scalar) or node.text not in {"true", "false"}:
            self._wrong(node, "optional", "true or false")
            return []
        return ["    optional: true"] if node.text == "true" else []

    def _health_check(self, node: Node) -> list[str]:
        if not isinstance(node, Map):
            self._wrong(node, "health_check", "an object")
            return []
        self._unknown(node, "health_check", ("url", "timeout"))
        url = node.get("url")
        if not isinstance(url, Scalar):
            self._wrong(url or node, "health_check", "a `url`")
            return []
        problem = url_problem(url.text)
        if problem:
            self.problems.add(url.place, f"{self.name}.health_check.url", problem)
            return []
        lines = [*self._port(url.text), "    health:", f"      http: {scalar(url.text)}"]
        seconds = self._seconds(node, "health_check", "timeout", least=0.01)
        return [*lines, f"      timeout: {seconds}"] if seconds else lines

    def _port(self, url: str) -> list[str]:
        """The registered port: the one that is asked, if it is on this host."""
        parts = urlsplit(url)
        if parts.port is None or parts.hostname not in {"localhost", "127.0.0.1", "::1", "0.0.0.0"}:  # noqa: S104
            return []
        if parts.port in self.ports:
            other = self.ports[parts.port]
            return [f"    # port: {parts.port}   # is that of {scalar(other)} already"]
        self.ports[parts.port] = self.name
        return [f"    port: {parts.port}"]

    def _restart_policy(self, node: Node) -> list[str]:
        if not isinstance(node, Map):
            self._wrong(node, "restart_policy", "an object")
            return []
        self._unknown(node, "restart_policy", ("max_restarts", "backoff_seconds"))
        lines: list[str] = []
        most = node.get("max_restarts")
        if isinstance(most, Scalar) and re.fullmatch(r"[0-9]{1,9}", most.text):
            lines.append(f"      max_restarts: {int(most.text)}")
        elif most is not None:
            self._wrong(most, "restart_policy.max_restarts", "a whole number")
        seconds = self._seconds(node, "restart_policy", "backoff_seconds", least=0)
        if seconds:
            lines.append(f"      backoff: {seconds}")
        return ["    restart:", *lines] if lines else []

    def _seconds(self, node: Map, section: str, key: str, *, least: float) -> str:
        value = node.get(key)
        if value is None:
            return ""
        number = typed(value.text) if isinstance(value, Scalar) and value.plain else None
        if isinstance(number, (int, float)) and least <= number <= 86400:
            return format_duration(number)
        self._wrong(value, f"{section}.{key}", f"a number of seconds from {least:g} to 86400")
        return ""

    def _unknown(self, node: Map, section: str, known: tuple[str, ...]) -> None:
        self.comments += [
            f"not imported: {json.dumps(f'{section}.{key}')}"
            for key in node.entries
            if key not in known
        ]
