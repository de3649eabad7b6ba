"""Write a config, load it, or get its problems as short texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lictor.core.config.context import LoadContext
from lictor.core.config.load import load
from lictor.core.config.settings import Config
from lictor.core.errors import ConfigError, Problem
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

ENV = {"PATH": "/usr/bin:/bin", "HOME": "/home/anna"}


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def context(env: Mapping[str, str] | None = None, **more) -> LoadContext:
    return LoadContext(env=ENV | dict(env or {}), python="/opt/python", **more)


def accepted(folder: Path, text: str, env: Mapping[str, str] | None = None, **more) -> Config:
    return load(write(folder, text), context(env, **more))


def one(folder: Path, text: str, env: Mapping[str, str] | None = None, **more) -> ServiceSpec:
    """The service `a` of a config whose section `services` holds `text` (one service, flow style)."""
    return accepted(folder, f"services:\n  a: {text}\n", env, **more).services[ServiceKey("a")]


def problems(
    folder: Path, text: str, env: Mapping[str, str] | None = None, **more
) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text), context(env, **more))
    return caught.value.problems


def refused(
    folder: Path, text: str, env: Mapping[str, str] | None = None, **more
) -> list[tuple[int, int, str]]:
    """(line, column, "where: message (hint)") of every problem."""
    return [
        (p.line, p.column, f"{p.where}: {p.message}" + (f" ({p.hint})" if p.hint else ""))
        for p in problems(folder, text, env, **more)
    ]


def refused_one(
    folder: Path, text: str, env: Mapping[str, str] | None = None, **more
) -> tuple[int, int, str]:
    """The only problem of a config."""
    found = refused(folder, text, env, **more)
    assert len(found) == 1, found
    return found[0]
