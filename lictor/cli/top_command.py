"""`lictor top`: what services use, the hungriest first.

On a terminal it is one table, redrawn every two seconds until Ctrl-C; in a pipe it is printed once.
The agent measures when it is asked; this only sorts and shows.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import click

from lictor.cli import client
from lictor.cli.client import Row, ask_rows
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import Column, emit, rich_table, show_table, talk
from lictor.cli.paint import Cell, clean, state, watched
from lictor.cli.status_commands import label
from lictor.cli.words import how_long, say
from lictor.core.errors import AgentUnreachable

#: Seconds between two looks: as old as a sample of the agent may be.
EVERY = 2.0

_COLUMNS = (
    Column("column.service"),
    Column("column.cpu"),
    Column("column.memory"),
    Column("column.processes", spare=True),
    Column("column.threads", spare=True),
    Column("column.fds", spare=True),
    Column("column.connections", spare=True),
    Column("column.pid", spare=True),
    Column("column.uptime", spare=True),
    Column("column.phase"),
)
_ROOM_AROUND = 2  # lines of the terminal that are no row of the table


@data_command("top")
@names_argument()
@click.option(
    "--sort", type=click.Choice(["cpu", "memory"]), default="cpu", help=say("option.sort")
)
def top(names: tuple[str, ...], sort: str, output: str) -> int:
    """See `help.top`."""
    if output == "table" and watched(sys.stdout):
        _live(names, sort)
    rows = _ask(names, sort)
    emit(rows, output, lambda: _print(rows))
    return 0


def _ask(names: tuple[str, ...], sort: str) -> list[Row]:
    """The rows of `status` with all figures, the hungriest first, what does not run last."""
    rows = ask_rows("status", {"names": list(names), "figures": True})
    field = "cpu_percent" if sort == "cpu" else "memory_mb"

    def order(row: Row) -> tuple[bool, float, str]:
        value = row.get(field)
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        return not row.get("pid"), -float(value) if known and value else 0.0, label(row)

    return sorted(rows, key=order)


def _print(rows: list[Row]) -> None:
    if rows:
        show_table(_COLUMNS, [_cells(row) for row in rows])
    else:
        talk(say("status.none"))


def _cells(row: Row) -> list[Cell]:
    uptime = row.get("uptime_s")
    return [
        Cell(clean(label(row))),
        Cell(_number(row.get("cpu_percent"), "%")),
        Cell(_number(row.get("memory_mb"), " MB")),
        Cell(_number(row.get("processes"))),
        Cell(_number(row.get("threads"))),
        Cell(_number(row.get("fds"))),
        Cell(_number(row.get("connections"))),
        Cell(str(row.get("container_id") or "")[:12] or str(row.get("pid") or "-")),
        Cell(how_long(int(uptime) if isinstance(uptime, float) else uptime)),
        state("phase", row.get("phase")),
    ]


def _number(value: object, unit: str = "") -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.1f}".removesuffix(".0") + unit
    return "-"


def _live(names: tuple[str, ...], sort: str) -> None:
    """Redraw the table until Ctrl-C; an agent that restarts meanwhile is waited for."""
    from rich.live import Live
    from rich.text import Text

    from lictor.cli.output import rich_console

    view: Any = _frame(_ask(names, sort))
    with Live(view, console=rich_console(), auto_refresh=False) as live:
        while True:
            time.sleep(EVERY)
            try:
                view = _frame(_ask(names, sort))
            except AgentUnreachable as error:
                if not client.no_agent(error) and error.code != "agent.closed":
                    raise
                view = Text(error.message)
            live.update(view, refresh=True)


def _frame(rows: list[Row]) -> Any:
    """As many rows as the terminal has room for: the hungriest."""
    room = max(1, shutil.get_terminal_size().lines - _ROOM_AROUND)
    return rich_table(_COLUMNS, [_cells(row) for row in rows[:room]])
