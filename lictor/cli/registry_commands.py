"""`lictor register|unregister|discover|resolve`: what Consul knows.

All four also work when no agent runs: then the composition root (`cli.wiring`, called by name) asks
Consul directly. `resolve` always asks DNS itself, because its answer is what other programs get.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lictor.cli.agent_commands import wiring
from lictor.cli.change_commands import show_results
from lictor.cli.client import Row, ask, no_agent, rows_of
from lictor.cli.options import data_command, names_argument
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell, clean, state
from lictor.cli.words import say, sentence
from lictor.core.errors import AgentUnreachable, LictorError, NoSuchService
from lictor.core.model.names import BadName, canonical

#: Seconds for questions that the agent passes on to Consul.
CONSUL_SILENCE = 30.0

EXIT_NOT_PASSING = 3


def _registration(name: str) -> Any:
    @data_command(name)
    @names_argument()
    def change(names: tuple[str, ...], output: str) -> int:
        rows = _agent_or_consul(name, {"names": list(names)}, lambda: wiring(name)(list(names)))
        emit(rows, output, lambda: show_results(rows))
        return 1 if any(row.get("result") == "failed" for row in rows) else 0

    return change


register = _registration("register")
unregister = _registration("unregister")


@data_command("discover")
@click.argument("name", required=False)
@click.option("--tag", metavar="TAG", help=say("option.tag"))
@click.option("--dc", metavar="DC", help=say("option.dc"))
def discover(name: str | None, tag: str | None, dc: str | None, output: str) -> int:
    """See `help.discover`."""

    def find(spelled: str | None) -> list[Row]:
        return _agent_or_consul(
            "discover",
            {"name": spelled, "tag": tag, "dc": dc},
            lambda: wiring("discover")(spelled, tag, dc),
        )

    rows = find(None) if name is None else _first_found(name, find)
    if name is not None and not rows:
        raise NoSuchService(say("error.not_in_consul", name=name))
    emit(rows, output, lambda: _show_instances(rows))
    passing = any(row.get("health") == "passing" for row in rows)
    return 0 if name is None or passing else EXIT_NOT_PASSING


@data_command("resolve")
@click.argument("name")
@click.option("--tag", metavar="TAG", help=say("option.tag"))
@click.option("--query", is_flag=True, help=say("option.query"))
def resolve(name: str, tag: str | None, query: bool, output: str) -> int:  # noqa: FBT001 - a flag
    """See `help.resolve`."""
    found = _first_found(
        name,
        lambda spelled: dict(wiring("resolve")(spelled, tag, query)),
        is_found=lambda answer: bool(answer.get("answers") or answer.get("left_out")),
    )
    emit(found, output, lambda: _show_resolved(found))
    if found.get("answers"):
        return 0
    if found.get("rcode") == "NXDOMAIN" and not found.get("left_out"):
        raise NoSuchService(say("error.not_in_consul", name=name))
    return EXIT_NOT_PASSING


def _agent_or_consul(
    op: str, args: dict[str, object], directly: Callable[[], list[Row]]
) -> list[Row]:
    try:
        return rows_of(ask(op, args, silence=CONSUL_SILENCE))
    except AgentUnreachable as error:
        if not no_agent(error):
            raise
    talk(say("consul.directly"))
    return directly()


def _spellings(name: str) -> list[str]:
    """The canonical name first, then the name as typed: others may register what we never would."""
    try:
        return list(dict.fromkeys((canonical(name), name)))
    except BadName:
        return [name]


def _first_found(
    name: str, find: Callable[[str], Any], is_found: Callable[[Any], bool] = bool
) -> Any:
    """What `find` says of the first spelling that exists, else of the canonical one."""
    answers: list[Any] = []
    unknown: LictorError | None = None
    for spelled in _spellings(name):
        try:
            answer = find(spelled)
        except LictorError as error:
            if error.exit_code != NoSuchService.exit_code:
                raise
            unknown = unknown or error
        else:
            if is_found(answer):
                return answer
            answers.append(answer)
    if unknown is not None and not answers:
        raise unknown
    return answers[0]


def _show_instances(rows: list[Row]) -> None:
    if not rows:
        talk(say("discover.none"))
        return
    columns = [
        Column("column.service"),
        Column("column.health"),
        Column("column.address"),
        Column("column.node", spare=True),
        Column("column.tags", spare=True),
        Column("column.id", spare=True),
        Column("column.output"),
    ]
    show_table(columns, [_instance_cells(row) for row in rows])


def _instance_cells(row: Row) -> list[Cell | str]:
    tags = row.get("tags")
    return [
        str(row.get("service") or "-"),
        state("health", row.get("health")),
        _place(row),
        str(row.get("node") or "-"),
        ",".join(map(str, tags)) if isinstance(tags, list) and tags else "-",
        str(row.get("id") or "-"),
        str(row.get("output") or "-"),
    ]


def _place(row: Row) -> str:
    address, port = str(row.get("address") or ""), row.get("port")
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" if port else host or "-"


def _show_resolved(found: Row) -> None:
    asked = {key: clean(found.get(key) or "-") for key in ("question", "server", "rcode")}
    talk(say("resolve.asked", **asked))
    for answer in found.get("answers") or ():
        target = f"  {answer['target']}" if answer.get("target") else ""
        write(clean(f"{_place(answer)}{target}"))
    left_out = found.get("left_out") or ()
    if not found.get("answers") and not left_out:
        talk(say("resolve.nothing"))
    for row in left_out:
        why = sentence(row) or str(row.get("reason") or "-")
        talk(clean(say("resolve.left_out", id=row.get("id"), place=_place(row), why=why)))
