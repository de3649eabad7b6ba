"""`lictor status --all-nodes`: what runs on every node, as each agent last wrote it to Consul.

An agent that is gone is said to be, with the age of its last word. Any node can be asked; where no
agent runs, Consul itself is. Exit codes are those of `status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lictor.cli import client
from lictor.cli.client import Row, ask_object, rows_of
from lictor.cli.output import Column, emit, show_table, talk, warn
from lictor.cli.paint import Cell, state
from lictor.cli.registry_commands import CONSUL_SILENCE
from lictor.cli.status_commands import address_of, label, runs
from lictor.cli.words import say, sentence
from lictor.core.errors import AgentUnreachable, NoSuchService

_COLUMNS = (
    Column("column.node"),
    Column("column.service"),
    Column("column.phase"),
    Column("column.health", spare=True),
    Column("column.address", spare=True),
    Column("column.restarts", spare=True),
    Column("column.why"),
)


def show_all_nodes(names: Sequence[str], output: str) -> int:
    """Ask, print, and give the exit code."""
    found = _ask(names)
    rows, nodes = rows_of(found.get("services")), rows_of(found.get("nodes"))
    if names and not rows:
        raise NoSuchService(say("error.no_service", names=", ".join(names)))
    emit(rows, output, lambda: _show(rows))
    if output == "table":
        _tell_of_nodes(rows, nodes)
    return 3 if names and not all(runs(row) for row in rows) else 0


def _ask(names: Sequence[str]) -> dict[str, Any]:
    try:
        return ask_object("nodes", {"names": list(names)}, silence=CONSUL_SILENCE)
    except AgentUnreachable as error:
        if not client.no_agent(error):
            raise
        from lictor.cli import wiring

        return wiring.nodes(list(names))


def _show(rows: list[Row]) -> None:
    if not rows:
        talk(say("status.none"))
        return
    show_table(_COLUMNS, [_cells(row) for row in rows])


def _cells(row: Row) -> list[Cell | str]:
    return [
        str(row.get("node") or "-"),
        label(row),
        state("phase", row.get("phase")),
        state("health", row.get("health")),
        address_of(row),
        str(row.get("restarts") if row.get("restarts") is not None else "-"),
        sentence(row),
    ]


def _tell_of_nodes(rows: list[Row], nodes: list[Row]) -> None:
    """What the table cannot show: agents that are not there, and nodes without services."""
    shown = {row.get("node") for row in rows}
    for node in nodes:
        said = sentence(node)
        if said:
            warn(said)
        elif node.get("node") not in shown and not node.get("services"):
            talk(say("status.no_services_on", node=node.get("node")))
