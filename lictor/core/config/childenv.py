"""The environment of a service's processes, complete but for what the driver adds (`LICTOR_*`).

A child gets a handful of variables of the agent, the lines of its `env_file`, its `env`, and the
agent's variables that `inherit_env` names; of two values, the one written nearest to the service
wins (`env`, then `inherit_env`, then `env_file`). It never gets the agent's Consul token by
inheritance: whoever holds that token can register and deregister everything on this host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lictor.core.config.problems import Place, Problems
from lictor.core.config.tree import MAX_BYTES

#: What every program may expect to find.
ALWAYS = ("PATH", "HOME", "LANG", "TZ", "USER", "TMPDIR")
#: How the agent itself is let into Consul.
OUR_TOKENS = frozenset({"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"})

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def child_env(
    agent: Mapping[str, str],
    from_file: Mapping[str, str],
    own: Mapping[str, str],
    inherit: Iterable[str],
) -> dict[str, str]:
    """All variables of one service, in the order in which they were decided."""
    result = {name: agent[name] for name in ALWAYS if name in agent}
    result.update(from_file)
    result.update((name, agent[name]) for name in inherit if name in agent)
    result.update(own)
    return result


def read_env_file(path: Path, problems: Problems) -> dict[str, str]:
    r"""The variables of a file of `KEY=VALUE` lines; raises OSError if it cannot be read.

    Comments (`#` at the start, or after a blank), `export `, single quotes (literal) and double
    quotes (with `\n`, `\t`, `\"`, `\\`) are understood; nothing is expanded, no shell is used.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    name = str(path)
    if len(data) > MAX_BYTES:
        problems.add(Place(name), "", f"larger than {MAX_BYTES // 1024} KiB")
        return {}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.add(Place(name), "", "not UTF-8 text")
        return {}
    result: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        value = _value(match["value"]) if match else None
        if match is None or value is None or "\0" in value:
            column = len(line) - len(line.lstrip()) + 1
            message = "expected KEY=VALUE, with any quotes closed"
            problems.add(Place(name, number, column), "", message)
        else:
            result[match["name"]] = value
    return result


def _value(text: str) -> str | None:
    if text.startswith("'"):
        single = _SINGLE.fullmatch(text)
        return single[1] if single else None
    if text.startswith('"'):
        double = _DOUBLE.fullmatch(text)
        if double is None:
            return None
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), double[1])
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
