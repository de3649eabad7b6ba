"""`lictor up|down|reload|plan|env`: the agent itself.

`up` hands over to the composition root (`cli.wiring`), which this module calls by name: no command
may import what the agent is made of. The others are questions on the socket.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import click

from lictor.cli.client import Agent, Row, ask_object, ask_rows, no_agent
from lictor.cli.options import color_option, command, data_command
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell
from lictor.cli.progress import Progress
from lictor.cli.words import say, sentence, word
from lictor.core.errors import AgentUnreachable, OperationFailed

#: Seconds that services may take to stop without the agent saying a word.
STOP_SILENCE = 300.0

#: Seconds within which an agent that said good-bye must be gone.
GONE_WITHIN = 15.0

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wiring(name: str) -> Any:
    """A function of the composition root, found by name when it is needed."""
    return getattr(importlib.import_module("lictor.cli.wiring"), name)


@command("up")
@click.option("-c", "--config", metavar="FILE", help=say("option.config"))
@click.option("-d", "--detach", is_flag=True, help=say("option.detach"))
@click.option("--on-term", type=click.Choice(["stop", "keep"]), help=say("option.on_term"))
def up(config: str | None, detach: bool, on_term: str | None) -> int:  # noqa: FBT001 - a flag
    """See `help.up`."""
    return int(wiring("run_agent")(config, detach, on_term))


@command("down")
@click.option("--keep", is_flag=True, help=say("option.keep"))
@color_option
def down(keep: bool) -> int:  # noqa: FBT001 - a flag
    """See `help.down`. No agent at all is what was wanted: exit 0."""
    try:
        agent = Agent.connect()
    except AgentUnreachable as error:
        if not no_agent(error):
            raise
        talk(say("down.already"))
        return 0
    with agent:
        with Progress() as progress:
            agent.ask(
                "down",
                {"keep": keep},
                silence=STOP_SILENCE,
                on_item=progress.item,
                on_tick=progress.tick,
            )
        if not agent.wait_gone(GONE_WITHIN):
            raise OperationFailed(say("error.agent_lingers"))
    talk(say("down.kept" if keep else "down.done"))
    return 0


@data_command("reload")
def reload(output: str) -> int:
    """See `help.reload`."""
    result = ask_object("reload", silence=60.0)
    emit(result, output, lambda: _show_reload(result))
    return 0


@data_command("plan")
def plan(output: str) -> int:
    """See `help.plan`."""
    rows = ask_rows("plan")

    def table() -> None:
        if not rows:
            talk(say("plan.none"))
            return
        columns = [Column(f"column.{name}") for name in ("action", "service", "why")]
        show_table(columns, [_plan_cells(row) for row in rows])

    emit(rows, output, table)
    return 0


@command("confirm")
@color_option
def confirm() -> int:
    """See `help.confirm`."""
    ask_object("confirm", silence=30.0)
    talk(say("confirm.done"))
    return 0


@data_command("env")
def env(output: str) -> int:
    """See `help.env`. The text is made for `eval`, so nothing but plain names gets through."""
    values = ask_object("env")

    def exports() -> None:
        for name, value in values.items():
            if _VARIABLE.fullmatch(name) is None:
                raise OperationFailed(say("error.env_name", name=name))
            quoted = "'" + str(value).replace("'", "'\"'\"'") + "'"
            write(f"export {name}={quoted}")

    emit(values, output, exports)
    return 0


def _plan_cells(row: Row) -> list[Cell | str]:
    return [word("action", row.get("action")), str(row.get("service") or "-"), sentence(row)]


def _show_reload(result: Row) -> None:
    told = False
    for kind in ("added", "removed", "restart", "in_place", "agent_restart", "notes"):
        entries = result.get(kind)
        for entry in entries if isinstance(entries, list) else []:
            told = True
            text = sentence(entry) if isinstance(entry, dict) else str(entry)
            write(f"{say(f'reload.{kind}')} {text}")
    if not told:
        talk(say("reload.nothing"))
