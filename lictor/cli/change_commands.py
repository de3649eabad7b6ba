"""`lictor start|stop|restart|wait`: changing what should be, and waiting until it is.

The verbs change the desired state through the agent; nothing here touches a process. No name means
all services, as in the users' older scripts. Waiting cannot hang: the agent ends it when it is
hopeless (exit 1) and when its time is over (exit 124).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from lictor.cli.client import AgentSaid, Row, ask, rows_of
from lictor.cli.options import Duration, data_command, names_argument
from lictor.cli.output import Column, emit, show_table, talk
from lictor.cli.paint import Cell, clean, state
from lictor.cli.param_commands import Until
from lictor.cli.progress import Progress
from lictor.cli.status_commands import label
from lictor.cli.words import say, sentence
from lictor.core.errors import Refused

#: Seconds that `--wait` and `wait` wait if nothing else is said: longer than a model loads.
PATIENCE = 600.0

#: Seconds beyond the wait within which the agent must have said that it is over.
GRACE = 10.0

#: Seconds for a verb without `--wait`: the agent may have to write to a slow Consul first.
PROMPT = 30.0

EXIT_FAILED, EXIT_REFUSED, EXIT_TIMED_OUT = 1, 8, 124


def _verb(name: str) -> Any:
    """The command of one verb: all three take the same words, but a restart has no end."""

    def until_option(function: Any) -> Any:
        if name == "restart":
            return function
        return click.option("--until", type=Until(), help=say("option.until"))(function)

    @data_command(name)
    @names_argument()
    @click.option("--all", "everything", is_flag=True, help=say("option.all"))
    @click.option("--wait", "waiting", is_flag=True, help=say("option.wait"))
    @click.option("--timeout", type=Duration(), default=PATIENCE, help=say("option.timeout"))
    @click.option("--node", metavar="NODE", help=say("option.node"))
    @until_option
    @click.option("--reason", metavar="TEXT", help=say("option.reason"))
    @click.option("-y", "--yes", is_flag=True, help=say("option.yes"))
    def change(
        names: tuple[str, ...],
        everything: bool,  # noqa: FBT001 - click passes options by name
        waiting: bool,  # noqa: FBT001
        timeout: float,
        node: str | None,
        yes: bool,  # noqa: FBT001
        output: str,
        reason: str | None,
        until: str | None = None,
    ) -> int:
        if names and everything:
            raise click.UsageError(say("usage.names_and_all"))
        if name == "stop" and not names and not yes and _at_a_terminal():
            ask_person(say("ask.stop_all"))
        args = {
            "verb": name,
            "names": list(names),
            "all": not names,
            "wait": waiting,
            "yes": yes,
            "timeout": timeout,
            "node": node,
            **({} if until is None else {"until": until}),
            **({} if reason is None else {"reason": reason}),
        }
        rows = _change(args, silence=timeout + GRACE if waiting else PROMPT)
        return _report(rows, output, waited=waiting)

    return change


start = _verb("start")
stop = _verb("stop")
restart = _verb("restart")


@data_command("wait")
@names_argument(required=True)
@click.option(
    "--for",
    "goal",
    type=click.Choice(["ready", "stopped"]),
    default="ready",
    help=say("option.for"),
)
@click.option("--timeout", type=Duration(), default=PATIENCE, help=say("option.timeout"))
def wait(names: tuple[str, ...], goal: str, timeout: float, output: str) -> int:
    """See `help.wait`."""
    args = {"names": list(names), "for": goal, "timeout": timeout}
    with Progress() as progress:
        answer = ask(
            "wait", args, silence=timeout + GRACE, on_item=progress.item, on_tick=progress.tick
        )
    return _report(rows_of(answer), output, waited=True)


def _change(args: dict[str, Any], *, silence: float) -> list[Row]:
    """Ask for the change; if the agent fears for others, ask the person and insist."""

    def once() -> list[Row]:
        with Progress() as progress:
            return rows_of(
                ask("change", args, silence=silence, on_item=progress.item, on_tick=progress.tick)
            )

    try:
        return once()
    except AgentSaid as said:
        if said.exit_code != EXIT_REFUSED or args["yes"] or not _at_a_terminal():
            raise
        talk(clean(said.message))
        ask_person(say("ask.anyway"))
        args["yes"] = True
        return once()


def _report(rows: list[Row], output: str, *, waited: bool) -> int:
    emit(rows, output, lambda: show_results(rows))
    results = [row.get("result") for row in rows]
    if "failed" in results:
        return EXIT_FAILED
    return EXIT_TIMED_OUT if waited and "pending" in results else 0


def show_results(rows: Sequence[Row]) -> None:
    """What became of each service."""
    if not rows:
        talk(say("change.none"))
        return
    elsewhere = any(row.get("node") for row in rows)
    node = [Column("column.node")] if elsewhere else []
    show_table(
        [*node, Column("column.service"), Column("column.result"), Column("column.why")],
        [_result_cells(row, elsewhere=elsewhere) for row in rows],
    )


def _result_cells(row: Row, *, elsewhere: bool) -> list[Cell | str]:
    node = [str(row.get("node") or "-")] if elsewhere else []
    return [*node, Cell(label(row)), state("result", row.get("result")), sentence(row)]


def _at_a_terminal() -> bool:
    streams = (sys.stdin, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def ask_person(question: str) -> None:
    """Go on only after a yes; anything else changes nothing."""
    sys.stderr.write(f"{question} {say('ask.choice')} ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    if answer not in say("ask.yes_words").split() and answer not in {"y", "yes"}:
        raise Refused(say("ask.declined"), code="declined")
