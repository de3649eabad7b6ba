"""The catalogue at work: what can be added, config.yml with one service more, and installing.

None of it needs an agent. config.yml is replaced whole or not at all, after the new text was
checked as the agent would check it, and only if nobody changed it meanwhile.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lictor.cli.usage import translated
from lictor.cli.wiring.configured import find_config, read_config
from lictor.core.config import catalogue
from lictor.core.config.adding import insert
from lictor.core.config.context import LoadContext
from lictor.core.config.load import SYSTEM_CONFIG, load
from lictor.core.config.services import template_names
from lictor.core.config.settings import Config
from lictor.core.drivers.docker.images import EnginePuller
from lictor.core.errors import ConfigError, NoSuchService, OperationFailed, Problem, UsageError
from lictor.core.locales import size
from lictor.core.model.install import InstallSpec
from lictor.core.model.names import BadName, canonical
from lictor.core.model.reason import Reason, because
from lictor.core.runtime.host.installing import Surround, install, nothing_to_install
from lictor.core.runtime.storage.datadir import write_atomically
from lictor.core.worded import worded


def rows(language: str) -> list[dict[str, Any]]:
    """The catalogue, for `lictor add` alone."""
    return [
        {
            "template": found.name,
            "about": found.about.get(language) or found.about.get("en", ""),
            "driver": found.driver,
            "port": found.port,
            "gpu": found.gpu,
            "installs": found.installs,
            "size": found.size,
        }
        for found in catalogue.all_templates()
    ]


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry that can be written: the file, how it is, how it would be, and the entry alone."""

    path: Path
    name: str
    before: bytes | None
    after: str
    entry: str
    installs: bool
    notes: tuple[str, ...]


def propose(
    template: str, name: str | None, port: int | None, config: str | None, language: str, hint: str
) -> Proposal:
    """Make the entry and check the whole. Raises `ConfigError`, `Refused`, `UsageError`.

    `hint` is the comment about installing, with `{name}` and `{size}` to fill in.
    """
    if template not in template_names():
        none = because("catalogue.none", template=template)
        raise worded(NoSuchService, none, hint=because("next.catalogue_it"))
    found = catalogue.template(template)
    try:
        chosen = canonical(name or template)
    except BadName as error:
        raise UsageError(translated(str(error))) from error
    brings = found.size is not None
    told = hint.format(name=chosen, size=size(found.size or 0)) if brings else ""
    lines = catalogue.entry_lines(found, chosen, port, language, told)
    path, before = _file(config)
    text = before.decode("utf-8-sig") if before is not None else ""
    after = insert(text, str(path), chosen, lines)
    notes = _checked(path, after, chosen)
    return Proposal(path, chosen, before, after, "\n".join(lines), found.installs, notes)


def _file(explicit: str | None) -> tuple[Path, bytes | None]:
    """The config file; where there is none, the one that will be made, with None."""
    named = explicit or os.environ.get("LICTOR_CONFIG")
    if named and not Path(named).exists():
        return Path(named).absolute(), None
    if not named and not Path("config.yml").exists() and not SYSTEM_CONFIG.exists():
        return Path("config.yml").absolute(), None
    path = find_config(explicit)
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}")]
        ) from error


def _checked(path: Path, text: str, name: str) -> tuple[str, ...]:
    """What is to be noted of the new service; raises `ConfigError` if the whole does not check.

    The text is checked in a file beside the real one, because paths in it count from there.
    """
    try:
        handle, beside = tempfile.mkstemp(prefix=".config.", suffix=".yml", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        checked = read_config(Path(beside))
    except ConfigError as error:
        raise ConfigError([_at(problem, beside, path) for problem in error.problems]) from None
    finally:
        Path(beside).unlink(missing_ok=True)
    about = f"services.{name}"
    notes = (_at(note, beside, path) for note in checked.notes)
    return tuple(str(note) for note in notes if f"{note.where}.".startswith(f"{about}."))


def _at(problem: Problem, beside: str, path: Path) -> Problem:
    return replace(problem, file=str(path)) if problem.file == beside else problem


def commit(proposal: Proposal) -> None:
    """Replace the file. Raises `OperationFailed` if it changed meanwhile or cannot be written."""
    path = proposal.path
    try:
        now = path.read_bytes() if path.exists() else None
        if now != proposal.before:
            changed = because("file.changed", path=str(path))
            raise worded(OperationFailed, changed, hint=because("next.once_more"))
        status = path.stat() if now is not None else None
        write_atomically(path, proposal.after, (status.st_mode & 0o777) if status else 0o644)
        if status is not None and status.st_uid != os.geteuid():
            os.chown(path, status.st_uid, status.st_gid)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OperationFailed:
    why = error.strerror or str(error)
    return worded(OperationFailed, because("install.os_error", path=str(path), error=why))


# --- installing ----------------------------------------------------------------------------------


def install_services(
    names: Sequence[str],
    config: str | None,
    told: Callable[[Reason], None],
    progress: Callable[[str, float | None], None],
    *,
    bar: bool,
) -> None:
    """`lictor install`: services of config.yml by name, or templates of the catalogue."""
    wanted = [(name, *_wanted(name, config)) for name in names]
    for name, spec, data_dir in wanted:
        if nothing_to_install(spec):
            told(because("install.nothing", name=name))
            continue
        sys.stderr.flush()
        around = Surround(
            data_dir=data_dir,
            python=os.environ.get("PYTHON") or sys.executable,
            told=told,
            output=2,
            bar=bar,
            progress=progress,
            puller=EnginePuller(),
        )
        changed = install(name, spec, around)
        told(
            because("install.done", name=name) if changed else because("install.already", name=name)
        )


def _wanted(name: str, config: str | None) -> tuple[InstallSpec, Path]:
    """What `name` declares, and the data_dir it goes to."""
    found = _config(config)
    service = canonical(name.partition("@")[0])
    if found is not None:
        for key, spec in found.services.items():
            if key.name == service:
                return spec.install, found.agent.data_dir
    if service not in template_names():
        nowhere = because("catalogue.nowhere", name=name)
        raise worded(NoSuchService, nowhere, hint=because("next.catalogue"))
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "config.yml"
        alone.write_text(f"services:\n  {service}: {{template: {service}}}\n", encoding="utf-8")
        data_dir = found.agent.data_dir if found is not None else None
        fresh = load(alone, LoadContext.current(data_dir=data_dir))
    return next(iter(fresh.services.values())).install, fresh.agent.data_dir


def _config(explicit: str | None) -> Config | None:
    _, before = _file(explicit)
    if before is None and explicit is None:
        return None
    return read_config(find_config(explicit))
