"""Putting answers on stdout: as a table for people, as JSON or YAML for programs.

stdout carries data only; everything said *about* the data goes to stderr. JSON and YAML are exactly
what the agent sent, in English. Tables are plain aligned text; rich is loaded only when stdout is a
terminal, because it costs more time than the whole question to the agent.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lictor.cli.paint import RICH, Cell, clean, color_on, cut, painted, watched, width
from lictor.cli.words import say

FORMATS = ("table", "json", "yaml")


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: the key of its heading, and whether a narrow terminal may do without."""

    heading: str
    spare: bool = False


def write(text: str) -> None:
    """One piece of data and a line end, on stdout."""
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")


def talk(text: str) -> None:
    """Something for the person, on stderr."""
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")


def warn(text: str) -> None:
    """A warning for the person, on stderr."""
    mark = painted(say("prefix.warning"), "busy", color=color_on(sys.stderr))
    talk(f"{mark}{clean(text)}")


def emit(data: Any, output: str, table: Callable[[], None]) -> None:
    """Write `data` in the wanted format; `table` writes it for people."""
    if output == "json":
        write(as_json(data))
    elif output == "yaml":
        write(as_yaml(data))
    else:
        table()
    if sys.stdout is not None:
        sys.stdout.flush()


def as_json(data: Any, *, one_line: bool = False) -> str:
    """JSON text; pure ASCII if stdout is not UTF-8, so that nothing is ever lost on the way."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return json.dumps(data, ensure_ascii=encoding != "utf8", indent=None if one_line else 2)


def as_yaml(data: Any) -> str:
    """YAML text without the last line end. The library has one door, in `core.config`."""
    emitter = importlib.import_module("lictor.core.config.emit")
    return str(emitter.to_yaml(data)).removesuffix("\n")


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]]) -> None:
    """Write a table to stdout: with rich on a terminal, else aligned with spaces."""
    cells = [
        [Cell(clean(c.text), c.style) if isinstance(c, Cell) else Cell(clean(c)) for c in row]
        for row in rows
    ]
    if watched(sys.stdout):
        rich_console().print(rich_table(columns, cells))
    else:
        for line in _plain(columns, cells):
            write(line)


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Any:
    """The table as rich draws it, without the columns that a narrow terminal has no room for."""
    from rich.table import Table
    from rich.text import Text

    kept = _that_fit(columns, rows, shutil.get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index in kept:
        last = index == len(columns) - 1
        heading = Text(say(columns[index].heading))
        table.add_column(heading, no_wrap=not last, overflow="fold" if last else "ellipsis")
    for row in rows:
        table.add_row(*(Text(row[i].text, style=RICH.get(row[i].style, "")) for i in kept))
    return table


def rich_console() -> Any:
    """A console on stdout that colours only if we would."""
    from rich.console import Console

    return Console(color_system="auto" if color_on(sys.stdout) else None, highlight=False)


def _that_fit(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int) -> list[int]:
    """Indices of the columns to show: spare ones go, last first, until the last column has room."""
    kept = list(range(len(columns)))
    widths = [
        max([width(say(column.heading)), *(width(row[i].text) for row in rows)])
        for i, column in enumerate(columns)
    ]
    for index in reversed(range(len(columns) - 1)):
        wanted = sum(widths[i] + 2 for i in kept[:-1]) + min(widths[-1], 40)
        if wanted <= room:
            break
        if columns[index].spare:
            kept.remove(index)
    return kept


def _plain(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
    color = color_on(sys.stdout)
    table = [[Cell(say(column.heading), "head") for column in columns], *rows]
    widths = [max(width(row[i].text) for row in table) for i in range(len(columns))]
    return [
        "  ".join(
            painted(cell.text, cell.style, color=color) + _padding(cell.text, widths[i], last=last)
            for i, cell in enumerate(row)
            for last in (i == len(row) - 1,)
        )
        for row in table
    ]


def _padding(text: str, cells: int, *, last: bool) -> str:
    return "" if last else " " * (cells - width(text))


def show_fields(title: Cell, fields: Sequence[tuple[str, str]]) -> None:
    """Write one thing in detail: a title, then `label: value` lines, aligned."""
    color = color_on(sys.stdout)
    write(painted(clean(title.text), title.style or "head", color=color))
    labels = [say(key) for key, _ in fields]
    room = max((width(label) for label in labels), default=0)
    for label, (_, value) in zip(labels, fields, strict=True):
        write(f"  {label}{' ' * (room - width(label))}  {clean(value)}")


def one_line(text: str, cells: int) -> str:
    """Cleaned and cut to a terminal line."""
    return cut(clean(text), cells)
