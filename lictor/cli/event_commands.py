"""`lictor events`: the journal, so that "who stopped it, and why" has an answer.

The agent picks the lines; this puts them into the reader's language and local time. Lines come
oldest first, as in a log, and `-f` goes on with new ones. JSON is the same for every reader.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from lictor.cli.client import Row, ask
from lictor.cli.options import Duration, data_command, names_argument
from lictor.cli.output import Column, as_json, as_yaml, emit, show_table, talk, write
from lictor.cli.paint import Cell, clean, color_on, painted, state, width
from lictor.cli.words import say, sentence, word

#: Lines that the agent gives in one answer; more are asked for page by page.
PAGE = 1_000

#: Seconds for one page: the disk may be slow.
SILENCE = 30.0

KINDS = (
    *("access", "agent", "config", "consul", "desired", "gpu", "group", "hold", "model"),
    *("outcome", "phase", "store"),
    "verb",
)

_COLUMNS = ("time", "service", "who", "event")


class Since(click.ParamType):  # type: ignore[type-arg]
    """A length of time back from now (`2h`) or a moment (RFC 3339): Unix seconds."""

    name = "since"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The moment; one without an offset is local time."""
        if isinstance(value, float):
            return value
        import time

        try:
            return time.time() - Duration().convert(value, param, ctx)
        except click.UsageError:
            try:
                return datetime.fromisoformat(str(value)).timestamp()
            except (ValueError, OverflowError, OSError):
                self.fail(say("usage.until", value=value), param, ctx)


@data_command("events")
@names_argument()
@click.option("-f", "--follow", is_flag=True, help=say("option.follow"))
@click.option(
    "-n", "--lines", type=click.IntRange(0, 100_000), default=50, help=say("option.events")
)
@click.option("--since", type=Since(), help=say("option.since"))
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help=say("option.kind"))
def events(
    names: tuple[str, ...],
    follow: bool,  # noqa: FBT001 - a flag
    lines: int,
    since: float | None,
    kinds: tuple[str, ...],
    output: str,
) -> int:
    """See `help.events`. With `-f`, JSON is one object a line; without, one list."""
    args: dict[str, object] = {"names": list(names), "kinds": list(kinds)}
    if since is not None:
        args["since"] = since
    if follow:
        args |= {"lines": min(lines, PAGE), "follow": True}
        ask("events", args, silence=None, on_item=_Printer(output).item)
        return 0
    rows = _pages(args, lines)
    emit(rows, output, lambda: _table(rows))
    return 0


def _pages(args: dict[str, object], lines: int) -> list[Row]:
    """The newest lines, oldest first, asked for in pages."""
    pages: list[list[Row]] = []
    left = lines
    while left > 0:
        page: list[Row] = []
        wanted = {**args, "lines": min(left, PAGE)}
        answer = ask("events", wanted, silence=SILENCE, on_item=page.append)
        pages.append(page)
        left -= len(page)
        following = answer.get("next") if isinstance(answer, dict) else None
        if not page or not isinstance(following, int):
            break
        args = {**args, "before": following}
    return [row for page in reversed(pages) for row in page]


def _table(rows: list[Row]) -> None:
    if not rows:
        talk(say("events.none"))
        return
    columns = [Column(f"column.{name}") for name in _COLUMNS]
    show_table([*columns, Column("column.why")], [[*_cells(row), sentence(row)] for row in rows])


def _cells(row: Row) -> list[Cell]:
    what = Cell(word("kind", row.get("kind")), "quiet")
    if row.get("phase"):
        what = state("phase", row["phase"])
    elif row.get("outcome"):
        what = state("result", row["outcome"])
    who = row.get("who") or "-"
    return [
        Cell(_local(row.get("at")), "quiet"),
        Cell(clean(row.get("service") or "-")),
        Cell(clean(who)),
        what,
    ]


def _local(at: object) -> str:
    """The moment on the reader's clock, to the second."""
    try:
        moment = datetime.fromisoformat(str(at)).astimezone()
    except (ValueError, OverflowError):
        return str(at or "-")
    return moment.strftime("%Y-%m-%d %H:%M:%S")


class _Printer:
    """Prints one line after the other; columns grow with what comes."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._color = color_on(sys.stdout)
        self._widths = [19, 12, 6, 12]

    def item(self, row: Row) -> None:
        """Print and flush: whoever follows wants it now."""
        if self._output == "json":
            write(as_json(row, one_line=True))
        elif self._output == "yaml":
            write("---\n" + as_yaml(row))
        else:
            write(self._line(row))
        if sys.stdout is not None:
            sys.stdout.flush()

    def _line(self, row: Row) -> str:
        cells = _cells(row)
        self._widths = [max(w, width(c.text)) for w, c in zip(self._widths, cells, strict=True)]
        padded = [
            painted(cell.text, cell.style, color=self._color) + " " * (room - width(cell.text))
            for cell, room in zip(cells, self._widths, strict=True)
        ]
        return "  ".join([*padded, clean(sentence(row))])
