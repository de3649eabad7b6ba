"""`lictor doctor`: looks for what keeps Lictor from its work, with and without an agent.

The looking is done by the composition root (`cli.wiring`, called by name); only the table is made
here. Exit codes: 0 if nothing failed (warnings are no failure), 1 otherwise.
"""

from __future__ import annotations

import click

from lictor.cli.agent_commands import wiring
from lictor.cli.client import Row
from lictor.cli.options import data_command
from lictor.cli.output import emit, write
from lictor.cli.paint import clean, color_on, painted, state, width
from lictor.cli.words import say, sentence, word


@data_command("doctor")
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
def doctor(config: str | None, output: str) -> int:
    """See `help.doctor`."""
    rows: list[Row] = wiring("doctor")(config)
    emit(rows, output, lambda: _show(rows))
    return 1 if any(row.get("level") == "fail" for row in rows) else 0


def _show(rows: list[Row]) -> None:
    """One line each, the step below: sentences are long, so this is no table."""
    import sys

    color = color_on(sys.stdout)
    looks = [state("verdict", row.get("level")) for row in rows]
    room = max((width(look.text) for look in looks), default=0)
    for row, look in zip(rows, looks, strict=True):
        about = " ".join(
            part for part in (word("checked", row.get("check")), row.get("subject")) if part
        )
        gap = " " * (room - width(look.text))
        mark = painted(look.text, look.style, color=color)
        write(f"{mark}{gap}  {clean(about)}: {clean(sentence(row))}")
        if isinstance(row.get("next"), dict):
            write(clean(say("doctor.next", step=sentence(row["next"]))))
