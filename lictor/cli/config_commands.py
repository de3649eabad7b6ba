"""`lictor config check|show|schema|import`: config.yml without an agent.

This module is the only one of the command line that touches `core.config`, and imports it when a
command is called. Nothing here changes a running agent: that is `lictor reload`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from lictor.cli.options import (
    Localised,
    LocalisedGroup,
    color_option,
    help_if_alone,
    output_option,
)
from lictor.cli.output import as_yaml, emit, warn, write
from lictor.cli.paint import clean
from lictor.cli.words import say
from lictor.core.errors import ConfigError, OperationFailed

_config_file = click.option("-c", "--config", metavar="FILE", help=say("option.config"))


@click.group("config", cls=LocalisedGroup, help=say("help.config"), invoke_without_command=True)
@click.pass_context
def config(ctx: click.Context) -> int:
    """See `help.config`."""
    return help_if_alone(ctx)


@config.command("check", cls=Localised, help=say("help.config.check"))
@click.argument("file", required=False)
@_config_file
@output_option()
@color_option
def check(file: str | None, config: str | None, output: str) -> int:
    """See `help.config.check`. Problems are an answer too, so JSON lists them on stdout."""
    path = Path(file or config or "config.yml")
    try:
        path = _find(file or config)
        loaded = _load(path)
    except ConfigError as error:
        if output == "table":
            raise
        problems = [_problem(problem) for problem in error.problems]
        emit({"file": str(path), "valid": False, "problems": problems}, output, lambda: None)
        return error.exit_code
    names = [str(key) for key in loaded.services]
    told = say("config.valid", file=path, count=len(names))
    notes = [_problem(note) for note in loaded.notes]
    data = {"file": str(path), "valid": True, "problems": [], "notes": notes, "services": names}
    if output == "table":
        for note in loaded.notes:
            warn(str(note))
    emit(data, output, lambda: write(clean(told)))
    return 0


@config.command("show", cls=Localised, help=say("help.config.show"))
@_config_file
@output_option()
@color_option
def show(config: str | None, output: str) -> int:
    """See `help.config.show`. For people it is YAML, the language of the file."""
    from lictor.core.config.show import as_plain

    plain = as_plain(_load(_find(config)))
    emit(plain, output, lambda: write(as_yaml(plain)))
    return 0


@config.command("schema", cls=Localised, help=say("help.config.schema"))
@output_option("json")
def schema(output: str) -> int:
    """See `help.config.schema`."""
    from lictor.core.config.schema import json_schema

    data = json_schema()
    emit(data, output, lambda: write(json.dumps(data, indent=2)))
    return 0


@config.command("import", cls=Localised, help=say("help.config.import"))
@click.argument("file", metavar="FILE")
def import_file(file: str) -> int:
    """See `help.config.import`. `-` reads standard input."""
    from lictor.core.config.importer import import_seed

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise OperationFailed(say("error.cannot_read", file=file, why=why)) from error
    write(import_seed(text, source=file).removesuffix("\n"))
    return 0


def _find(explicit: str | None) -> Path:
    from lictor.core.config import load

    return load.find(explicit, os.environ)


def _load(path: Path) -> Any:
    """As the agent reads it: ports that Lictor chose for this data_dir stay what they are."""
    return importlib.import_module("lictor.cli.wiring.configured").read_config(path)


def _problem(problem: Any) -> dict[str, object]:
    fields = ("file", "line", "column", "where", "message", "hint")
    return {name: getattr(problem, name) for name in fields}
