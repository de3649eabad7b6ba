"""`lictor add TEMPLATE` and `lictor install NAME`: from the catalogue to a service that can start.

Both work without an agent and start nothing. `add` shows the entry before it writes it, and writes it
only if the whole file would still check; `install` brings what the service's definition declares.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

import click

from lictor.cli.change_commands import ask_person, at_a_terminal
from lictor.cli.options import command, data_command
from lictor.cli.output import Column, emit, show_table, talk, warn, write
from lictor.cli.paint import clean, color_on, cut, painted, watched
from lictor.cli.words import language, say
from lictor.core.locales import render

_BAR = 30  # cells of a progress bar
_REDRAW = 0.1  # seconds between two pictures of it


@data_command("add")
@click.argument("template", required=False)
@click.option("--name", metavar="NAME", help=say("option.add_name"))
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help=say("option.add_port"))
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
@click.option("-y", "--yes", is_flag=True, help=say("option.add_yes"))
def add(
    template: str | None,
    name: str | None,
    port: int | None,
    config: str | None,
    yes: bool,  # noqa: FBT001 - a flag
    output: str,
) -> int:
    """See `help.add`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    if template is None:
        rows = wiring.catalogue(language())
        emit(rows, output, lambda: _show_catalogue(rows))
        return 0
    hint = say("add.hint", name="{name}", size="{size}")
    proposal = wiring.propose(template, name, port, config, language(), hint)
    data = {"service": proposal.name, "file": str(proposal.path), "entry": proposal.entry}
    emit(data, output, lambda: _show_entry(proposal.entry))
    if not yes and at_a_terminal():
        ask_person(say("add.write", file=proposal.path))
    wiring.commit(proposal)
    for note in proposal.notes:
        warn(note)
    talk(clean(say("add.written", file=proposal.path)))
    key = "add.next_install" if proposal.installs else "add.next_reload"
    talk(say(key, name=proposal.name))
    return 0


def _show_catalogue(rows: list[dict[str, Any]]) -> None:
    columns = [Column("column.template"), Column("column.port", spare=True), Column("column.what")]
    show_table(
        columns,
        [
            [row["template"], str(row["port"]) if row["port"] is not None else "-", row["about"]]
            for row in rows
        ],
    )


def _show_entry(entry: str) -> None:
    color = color_on(sys.stdout)
    for line in entry.splitlines():
        style = "quiet" if line.lstrip().startswith("#") else ""
        write(painted(line, style, color=color))


@command("install")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
def install(names: tuple[str, ...], config: str | None) -> int:
    """See `help.install`."""
    wiring = importlib.import_module("lictor.cli.wiring")
    bar = Bar()

    def told(reason: Any) -> None:
        bar.clear()
        talk(clean(render(reason.code, reason.params, language=language())))

    try:
        wiring.install(names, config, told, bar)
    finally:
        bar.clear()
    talk(say("install.next", names=" ".join(names)))
    return 0


class Bar:
    """One line that shows how far something has come; nothing where nobody watches."""

    def __init__(self) -> None:
        self.live = watched(sys.stderr)
        self._drawn = False
        self._at = 0.0

    def __call__(self, what: str, share: float | None) -> None:
        """Draw it: `share` is 0 to 1, or None where nobody knows."""
        now = time.monotonic()
        if not self.live or (now - self._at < _REDRAW and share != 1.0):
            return
        self._at = now
        full = round(_BAR * min(max(share or 0.0, 0.0), 1.0))
        percent = "" if share is None else f" {share:4.0%}"
        line = cut(f"[{'#' * full}{'.' * (_BAR - full)}]{percent}  {clean(what)}", 78)
        sys.stderr.write(f"\r\x1b[2K{line}")
        sys.stderr.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._drawn = False
