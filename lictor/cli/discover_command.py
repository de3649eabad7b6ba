"""`lictor discover`: who offers a service, how they are, and why somebody is left out.

With an agent its answer is shown, which is there while Consul is away too; without one the
composition root asks Consul. `--watch` always watches Consul itself: redrawn on a terminal, one line
for each change elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from lictor.cli.agent_commands import wiring
from lictor.cli.client import Row, ask, no_agent, rows_of
from lictor.cli.options import data_command
from lictor.cli.output import (
    Column,
    as_json,
    as_yaml,
    emit,
    rich_console,
    rich_table,
    show_table,
    talk,
    warn,
    write,
)
from lictor.cli.paint import Cell, clean, state, watched
from lictor.cli.registry_commands import (
    CONSUL_SILENCE,
    EXIT_NOT_PASSING,
    first_found,
    place,
    spellings,
)
from lictor.cli.words import how_long, say, sentence
from lictor.core.errors import (
    AgentUnreachable,
    ConsulError,
    LictorError,
    NoSuchService,
    UsageError,
)

_COLUMNS = (
    Column("column.service"),
    Column("column.health"),
    Column("column.address"),
    Column("column.node", spare=True),
    Column("column.tags", spare=True),
    Column("column.id", spare=True),
    Column("column.age", spare=True),
    Column("column.output"),
)


@data_command("discover")
@click.argument("name", required=False)
@click.option("--tag", metavar="TAG", help=say("option.tag"))
@click.option("--near", metavar="NODE", help=say("option.near"))
@click.option("--dc", metavar="DC", help=say("option.dc"))
@click.option("-a", "--all", "everybody", is_flag=True, help=say("option.discover_all"))
@click.option("-w", "--watch", is_flag=True, help=say("option.watch_changes"))
def discover(
    name: str | None,
    tag: str | None,
    near: str | None,
    dc: str | None,
    everybody: bool,  # noqa: FBT001 - a flag
    watch: bool,  # noqa: FBT001 - a flag
    output: str,
) -> int:
    """See `help.discover`."""
    tag = tag or None
    if name is not None and not name.strip():
        raise UsageError(say("error.no_name"))
    if watch and near:
        raise UsageError(say("usage.near_watch"))

    def find(spelled: str | None, wanted: str | None = tag) -> list[Row]:
        args: dict[str, object] = {"name": spelled, "tag": wanted, "dc": dc}
        args |= {"near": near} if near else {}
        args |= {"all": True} if everybody else {}
        asked = (spelled, wanted, dc, near, everybody)
        return _agent_or_consul(args, lambda: wiring("discover")(*asked))

    if watch:
        followed = name if name is None else _spelled(name, find)
        return _watch(followed, tag, dc, everybody=everybody, output=output)
    rows = find(None) if name is None else first_found(name, find)
    if name is not None and not rows:
        if tag is None or not first_found(name, lambda spelled: find(spelled, wanted=None)):
            raise NoSuchService(say("error.not_in_consul", name=name))
        emit(rows, output, lambda: None)
        talk(say("discover.no_tag", name=name, tag=tag))
        return EXIT_NOT_PASSING
    emit(rows, output, lambda: _show(rows))
    passing = any(row.get("health") == "passing" for row in rows)
    return 0 if name is None or passing else EXIT_NOT_PASSING


def _agent_or_consul(args: dict[str, object], directly: Callable[[], list[Row]]) -> list[Row]:
    try:
        return rows_of(ask("discover", args, silence=CONSUL_SILENCE, on_item=_notice))
    except AgentUnreachable as error:
        if not no_agent(error):
            raise
    talk(say("consul.directly"))
    return directly()


def _notice(item: Row) -> None:
    """What the agent says besides its answer."""
    if isinstance(item.get("notice"), dict):
        warn(sentence(item["notice"]))


def _show(rows: list[Row]) -> None:
    if not rows:
        talk(say("discover.none"))
        return
    show_table(_COLUMNS, [_cells(row) for row in rows])


def _cells(row: Row) -> list[Cell | str]:
    tags = row.get("tags")
    return [
        str(row.get("service") or "-"),
        state("health", row.get("health")),
        place(row),
        str(row.get("node") or "-"),
        ",".join(map(str, tags)) if isinstance(tags, list) and tags else "-",
        str(row.get("id") or "-"),
        how_long(row.get("age_s")),
        (sentence(row) if row.get("sentence") else str(row.get("output") or "")) or "-",
    ]


# --- watching -----------------------------------------------------------------------------------


def _spelled(name: str, find: Callable[[str], list[Row]]) -> str:
    """The spelling to follow: one that somebody has now, else the canonical one."""
    names = spellings(name)
    if len(names) > 1:
        try:
            return next((each for each in names if find(each)), names[0])
        except LictorError as error:
            if error.exit_code != ConsulError.exit_code:  # a watch waits for Consul
                raise
    return names[0]


def _watch(
    name: str | None, tag: str | None, dc: str | None, *, everybody: bool, output: str
) -> int:
    follow = wiring("watch_discover")
    if output == "table" and watched(sys.stdout):
        from rich.live import Live

        with Live(console=rich_console(), auto_refresh=False) as live:
            follow(name, tag, dc, everybody, lambda *seen: _redraw(live, *seen))
        return 0
    follow(name, tag, dc, everybody, Changes(output).show)
    return 0


def _redraw(live: Any, rows: list[Row], notice: Row | None) -> None:
    from rich.console import Group
    from rich.text import Text

    table = rich_table(_COLUMNS, [_cleaned(row) for row in rows])
    told = [] if notice is None else [Text(clean(sentence(notice)))]
    live.update(Group(table, *told) if rows or told else Text(say("discover.none")), refresh=True)


def _cleaned(row: Row) -> list[Cell]:
    cells = (cell if isinstance(cell, Cell) else Cell(cell) for cell in _cells(row))
    return [Cell(clean(cell.text), cell.style) for cell in cells]


class Changes:
    """Says what changed from one answer to the next, a line each; JSON and YAML whole."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._before: dict[tuple[str, str], str] | None = None

    def show(self, rows: list[Row], notice: Row | None) -> None:
        """One answer. `notice` goes to stderr."""
        if notice is not None:
            warn(sentence(notice))
            return
        if self._output == "json":
            write(as_json(rows, one_line=True))
        elif self._output == "yaml":
            write("---\n" + as_yaml(rows))
        else:
            self._lines(rows)
        sys.stdout.flush()

    def _lines(self, rows: list[Row]) -> None:
        now = {(str(row.get("node")), str(row.get("id"))): _line(row) for row in rows}
        before = self._before or {}
        for key, line in now.items():
            if before.get(key) != line:
                write(line)
        for key in before.keys() - now.keys():
            write(clean(say("discover.gone", node=key[0], id=key[1])))
        if self._before is None and not rows:
            talk(say("discover.none"))
        self._before = now


def _line(row: Row) -> str:
    said = sentence(row) if row.get("sentence") else ""
    tags = row.get("tags")
    parts = [
        str(row.get("id") or "-"),
        str(row.get("node") or "-"),
        place(row),
        state("health", row.get("health")).text,
        ",".join(map(str, tags)) if isinstance(tags, list) and tags else "-",
        said,
    ]
    return clean("  ".join(part for part in parts if part))
