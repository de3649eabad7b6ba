"""Find config.yml, read it, and make a `Config` of it, or raise `ConfigError` with all that is wrong.

The one entrance of this package for everybody else. It opens the file (and env_files), nothing
more: no network, no user database, no look at what runs. Whatever the file contains, the outcome is
a `Config` or a `ConfigError`; size, depth and the number of values are bounded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from lictor.core.config.agent import (
    Sections,
    agent_settings,
    consul_settings,
    web_settings,
    written,
)
from lictor.core.config.build import Builder, explicit_port
from lictor.core.config.context import LoadContext
from lictor.core.config.crosscheck import crosscheck, note_shared_ports
from lictor.core.config.expand import Scope
from lictor.core.config.notes import note_unused
from lictor.core.config.ports import PortBook
from lictor.core.config.problems import Place, Problems, dotted, suggest
from lictor.core.config.schema import ConfigModel
from lictor.core.config.services import Candidate, candidates, names
from lictor.core.config.settings import AgentSettings, Config
from lictor.core.config.tree import MAX_BYTES, Map, Scalar, describe, parse
from lictor.core.config.validate import keys_of
from lictor.core.errors import ConfigError, Problem
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

__all__ = ["LoadContext", "find", "load"]

SYSTEM_CONFIG = Path("/etc/lictor/config.yml")


def find(explicit: str | None, env: Mapping[str, str]) -> Path:
    """The config file to use: `explicit` (-c), `$LICTOR_CONFIG`, ./config.yml, /etc/lictor/config.yml.

    The first two must exist; of the last two the first that exists is taken. Raises `ConfigError`.
    """
    for named, how in ((explicit, "-c"), (env.get("LICTOR_CONFIG"), "$LICTOR_CONFIG")):
        if named:
            path = Path(named)
            if not path.exists():
                raise ConfigError([Problem(named, 0, 0, "", f"no such file (from {how})")])
            return path
    for path in (Path("config.yml"), SYSTEM_CONFIG):
        if path.exists():
            return path
    hint = f"looked for ./config.yml and {SYSTEM_CONFIG}; name one with -c or $LICTOR_CONFIG"
    raise ConfigError([Problem("config.yml", 0, 0, "", "there is no configuration", hint)])


def load(path: Path, context: LoadContext) -> Config:
    """Read, check and expand a config file. Raises `ConfigError` with every problem in it."""
    problems, notes = Problems(), Problems()
    text = _read(path, context, problems, notes)
    root = _root(text, str(path), problems)
    sections = Sections(root, path.absolute().parent, context, problems)
    agent = agent_settings(sections)
    fixed = {"data_dir": str(agent.data_dir), "python": context.python}
    scope = Scope(context.env, problems, tuple(fixed), lambda name, _path: fixed.get(name))
    consul, web = consul_settings(sections, scope), web_settings(sections, scope)
    found = candidates(root.get("services"), scope, problems)
    ports = _ports(found, agent, context)
    builder = Builder(sections.folder, agent, context, problems, ports)
    built: dict[ServiceKey, ServiceSpec] = {}
    for candidate in found:
        spec = builder.build(candidate)
        if spec is not None:
            built[candidate.key] = spec
    crosscheck(found, built, names(root.get("services")), web, problems)
    problems.raise_if_any()
    note_unused(found, notes)
    note_shared_ports(found, built, notes)
    _note_risks(found, built, context, notes)
    _note_token(path, root, notes)
    return Config(
        path=path.absolute(),
        agent=agent,
        consul=consul,
        web=web,
        services=built,
        notes=notes.sorted(),
        allocated_ports=dict(ports.allocated),
    )


def _read(path: Path, context: LoadContext, problems: Problems, notes: Problems) -> str:
    place = Place(str(path))
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        problems.add(place, "", f"cannot be read: {why}")
        data, status = b"", None
    if context.is_root and status is not None and stat.S_ISREG(status.st_mode):
        if status.st_mode & 0o022:
            message = f"others may write this file (mode {status.st_mode & 0o777:o})"
            problems.add(place, "", message, f"root runs what it says: chmod go-w {path}")
        if status.st_uid != 0:
            message = f"uid {status.st_uid} owns this file, and root runs what it says"
            notes.add(place, "", message, f"chown root {path}")
    if len(data) > MAX_BYTES:
        problems.add(place, "", f"larger than {MAX_BYTES // 1024} KiB")
    problems.raise_if_any()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        problems.add(Place(str(path), line, column), "", "not UTF-8 text")
        problems.raise_if_any()
        raise  # not reached


def _root(text: str, file: str, problems: Problems) -> Map:
    node = parse(text, file, problems)
    if node is None or (isinstance(node, Scalar) and node.null):
        problems.raise_if_any()
        return Map(Place(file, 1, 1))
    if not isinstance(node, Map):
        message = f"expected the sections agent, consul, web, services, got {describe(node)}"
        problems.add(node.place, "", message)
        problems.raise_if_any()
        return Map(node.place)  # not reached
    known = keys_of(ConfigModel)
    for key, entry in node.entries.items():
        if key not in known:
            problems.add(entry.key_place, "", f"unknown key `{key}`", suggest(key, known))
    return node


def _ports(found: Sequence[Candidate], agent: AgentSettings, context: LoadContext) -> PortBook:
    named = (explicit_port(candidate, context.env) for candidate in found)
    taken = [port for port in named if port is not None]
    keys = [candidate.key for candidate in found]
    return PortBook(agent.port_range, taken, context.allocated, keys)


def _note_risks(
    found: Sequence[Candidate],
    built: Mapping[ServiceKey, ServiceSpec],
    context: LoadContext,
    notes: Problems,
) -> None:
    for candidate in found:
        spec, subject = built[candidate.key], candidate.subject
        if context.is_root and spec.driver == "process" and spec.user is None:
            message = "runs as root, because no `user` is named"
            notes.add(subject.place, dotted(subject.where), message, "write user: NAME")
        if spec.driver == "observed" and subject.tree.get("command") is not None:
            message = "never used: an observed service is not started by Lictor"
            notes.add(
                subject.find("command").key_place, dotted((*subject.where, "command")), message
            )


def _note_token(path: Path, root: Map, notes: Problems) -> None:
    token = written(root, "consul", "token")
    if token is None or "${" in token.text:
        return
    try:
        readable = path.stat().st_mode & 0o044
    except OSError:
        return  # it was there a moment ago; who may read it now is nobody's worry
    if readable:
        message = "others may read this file, and with it the token"
        notes.add(token.place, "consul.token", message, "use token_file, or chmod go-r")
