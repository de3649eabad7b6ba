"""`lictor hold` and `lictor release`: one operator's word over a service, with a reason and an end.

A hold is stronger than KV and config, survives the agent, and is seen by everybody in `status`. The
agent keeps it and ends it; nothing is decided here.
"""

from __future__ import annotations

import click

from lictor.cli.change_commands import show_results
from lictor.cli.client import ask_rows
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import emit
from lictor.cli.param_commands import WRITE_SILENCE, Until
from lictor.cli.words import say


@data_command("hold")
@names_argument(required=True)
@click.option("--reason", metavar="TEXT", required=True, help=say("option.reason"))
@click.option("--until", type=Until(), help=say("option.until"))
@click.option(
    "--state",
    type=click.Choice(["stopped", "running", "maintenance"]),
    default="stopped",
    help=say("option.hold_state"),
)
@click.option("--node", metavar="NODE", help=say("option.node"))
@click.option("-y", "--yes", is_flag=True, help=say("option.yes"))
def hold(
    names: tuple[str, ...],
    reason: str,
    until: str | None,
    state: str,
    node: str | None,
    yes: bool,  # noqa: FBT001 - a flag
    output: str,
) -> int:
    """See `help.hold`."""
    args: dict[str, object] = {"names": list(names), "reason": reason, "state": state, "yes": yes}
    if until is not None:
        args["until"] = until
    if node is not None:
        args["node"] = node
    rows = ask_rows("hold", args, silence=WRITE_SILENCE)
    emit(rows, output, lambda: show_results(rows))
    return 0


@data_command("release")
@names_argument(required=True)
@click.option("--reason", metavar="TEXT", help=say("option.reason"))
@click.option("--node", metavar="NODE", help=say("option.node"))
def release(names: tuple[str, ...], reason: str | None, node: str | None, output: str) -> int:
    """See `help.release`."""
    args: dict[str, object] = {"names": list(names)}
    if reason is not None:
        args["reason"] = reason
    if node is not None:
        args["node"] = node
    rows = ask_rows("release", args, silence=WRITE_SILENCE)
    emit(rows, output, lambda: show_results(rows))
    return 0
