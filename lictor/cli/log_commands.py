"""`lictor logs`: what services wrote, from the log files that they write themselves.

The agent finds and reads the files; this prints lines as they come. On a terminal a line keeps its
colours and loses everything else that could steer the terminal; in a pipe it is untouched.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from lictor.cli.client import Row, ask
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import as_json, as_yaml, emit, talk, write
from lictor.cli.paint import clean, clean_log, color_on, painted, watched
from lictor.cli.words import say

#: Seconds that the agent may take for the next line of a finished log (a long `--grep`).
SEARCH_SILENCE = 60.0


@data_command("logs")
@names_argument(required=True)
@click.option("-f", "--follow", is_flag=True, help=say("option.follow"))
@click.option("-n", "--lines", type=click.IntRange(min=0), help=say("option.lines"))
@click.option("--grep", metavar="TEXT", help=say("option.grep"))
@click.option("--since", metavar="WHEN", help=say("option.log_since"))
@click.option("--until", metavar="WHEN", help=say("option.log_until"))
def logs(names: tuple[str, ...], output: str, **wanted: Any) -> int:
    """See `help.logs`. With `-f`, JSON is one object a line; without, one list."""
    args = {"names": list(names), **wanted}
    follow = bool(wanted["follow"])
    silence = None if follow else SEARCH_SILENCE
    if output != "table" and not follow:
        kept: list[Row] = []
        answer = ask("logs", args, silence=silence, on_item=kept.append)
        emit(kept, output, lambda: None)
    else:
        printer = _Printer(output, several=len(names) > 1)
        answer = ask("logs", args, silence=silence, on_item=printer.item)
    _talk_about_gaps(answer)
    return 0


def _talk_about_gaps(answer: object) -> None:
    """Say what is missing, beside the data: nothing was written, or not all could be kept."""
    if not isinstance(answer, dict):
        return
    for name, path in (answer.get("empty") or {}).items():
        talk(clean(say("logs.empty", service=name, path=path)))
    for name, lines in (answer.get("lost") or {}).items():
        talk(clean(say("logs.lost", service=name, lines=lines)))


class _Printer:
    """Prints one line after the other, with the service's name before it if there are several."""

    def __init__(self, output: str, *, several: bool) -> None:
        self._output = output
        self._several = several
        self._raw = not watched(sys.stdout)
        self._color = color_on(sys.stdout)

    def item(self, row: Row) -> None:
        """Print and flush: whoever reads with `-f` wants it now."""
        if self._output == "json":
            write(as_json(row, one_line=True))
        elif self._output == "yaml":
            write("---\n" + as_yaml(row))
        else:
            line = str(row.get("line", ""))
            shown = line if self._raw else clean_log(line, color=self._color)
            if self._several:
                mark = painted(f"{row.get('service')} |", "quiet", color=self._color)
                shown = f"{mark} {shown}"
            write(shown)
        if sys.stdout is not None:
            sys.stdout.flush()
