"""`lictor explain NAME`: desired → process → agent → catalog → check → DNS, and the one reason.

It asks the agent, which has every link at hand; only the table is made here. Exit codes: 0 if every
link is as it should be, 3 if not, 4 for a name that the agent does not know.
"""

from __future__ import annotations

import click

from lictor.cli.client import Row, ask_rows
from lictor.cli.options import ServiceName, data_command
from lictor.cli.output import Column, emit, show_table, write
from lictor.cli.paint import Cell, clean, state
from lictor.cli.status_commands import label
from lictor.cli.words import say, sentence, word

#: Seconds: each link has a deadline of its own, and some are asked after others.
SILENCE = 30.0

_COLUMNS = (Column("column.step"), Column("column.verdict"), Column("column.says"))


@data_command("explain")
@click.argument("name", type=ServiceName())
def explain(name: str, output: str) -> int:
    """See `help.explain`."""
    rows = ask_rows("explain", {"names": [name]}, silence=SILENCE)
    emit(rows if len(rows) != 1 else rows[0], output, lambda: _show(rows))
    return 0 if all(row.get("verdict") == "ok" for row in rows) else 3


def _show(rows: list[Row]) -> None:
    for index, row in enumerate(rows):
        if index:
            write("")
        if len(rows) > 1:
            write(clean(label(row)))
        steps = row.get("steps")
        show_table(_COLUMNS, [_cells(step) for step in steps] if isinstance(steps, list) else [])
        write("")
        write(clean(say("explain.because", why=sentence(row))))
        if isinstance(row.get("next"), dict):
            write(clean(say("explain.next", step=sentence(row["next"]))))
        for note in row.get("notes") or ():
            write(clean(say("explain.note", note=sentence(note))))


def _cells(step: Row) -> list[Cell | str]:
    return [word("step", step.get("step")), state("verdict", step.get("verdict")), sentence(step)]
