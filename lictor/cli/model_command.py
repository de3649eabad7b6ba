"""`lictor model`: which model a service serves, another one in its place, and what the cache holds.

The agent validates, switches, and goes back by itself; this shows what would happen before it is
asked for, and with `--wait` how far the loading is. Removing a model from the disk asks first.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from lictor.cli.change_commands import EXIT_FAILED, EXIT_REFUSED, GRACE, PATIENCE, ask_person
from lictor.cli.client import AgentSaid, Row, ask_object
from lictor.cli.options import Duration, ServiceName, data_command
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell, clean
from lictor.cli.param_commands import WRITE_SILENCE
from lictor.cli.progress import Progress
from lictor.cli.words import how_long, say, sentence
from lictor.core.errors import Refused
from lictor.core.locales import size

_ENDED_BADLY = frozenset({"back", "failed", "refused", "replaced"})
_DELETING = 600.0  # seconds that a slow disk may take for a large model


@data_command("model")
@click.argument("name", type=ServiceName())
@click.argument("model_id", metavar="[MODEL_ID]", required=False)
@click.option("--wait", "waiting", is_flag=True, help=say("option.wait"))
@click.option("--timeout", type=Duration(), default=PATIENCE, help=say("option.timeout"))
@click.option(
    "--trust-remote-code/--no-trust-remote-code", "trust", default=None, help=say("option.trust")
)
@click.option("--delete", metavar="MODEL_ID", help=say("option.delete_model"))
@click.option("-y", "--yes", is_flag=True, help=say("option.yes"))
def model(
    name: str,
    model_id: str | None,
    waiting: bool,  # noqa: FBT001 - click passes options by name
    timeout: float,
    trust: bool | None,  # noqa: FBT001
    delete: str | None,
    yes: bool,  # noqa: FBT001
    output: str,
) -> int:
    """See `help.model`."""
    if delete is not None:
        if model_id is not None:
            raise click.UsageError(say("usage.model_and_delete"))
        return _delete(name, delete, output, yes=yes)
    if model_id is None:
        return _show(name, output)
    args: dict[str, object] = {"name": name, "model": model_id, "yes": yes}
    if trust is not None:
        args["trust_remote_code"] = trust
    if waiting:
        args |= {"wait": True, "timeout": timeout}
    _foretell(args)
    return _report(_switch(args, silence=timeout + GRACE if waiting else WRITE_SILENCE), output)


def _foretell(args: dict[str, object]) -> None:
    """Say on stderr what will happen, before it does; a refusal ends it here."""
    plan = ask_object("model.plan", args, silence=WRITE_SILENCE)
    for step in plan.get("steps") or ():
        word = say(f"action.{step.get('action')}")
        talk(clean(f"{step.get('service')}: {word} - {sentence(step)}"))
    usual = plan.get("usual_s")
    if plan.get("steps") and isinstance(usual, (int, float)):
        talk(say("model.usual", time=how_long(usual)))


def _switch(args: dict[str, object], *, silence: float) -> Row:
    def once() -> Row:
        with Progress() as progress:
            return ask_object(
                "model", args, silence=silence, on_item=progress.item, on_tick=progress.tick
            )

    try:
        return once()
    except AgentSaid as said:
        anyway = said.exit_code == EXIT_REFUSED and said.code == "refused"
        if not anyway or args["yes"] or not _at_a_terminal():
            raise
        talk(clean(said.message))
        ask_person(say("ask.anyway"))
        args["yes"] = True
        return once()


def _report(row: Row, output: str) -> int:
    emit(row, output, lambda: write(clean(f"{row.get('service')}: {sentence(row)}")))
    return EXIT_FAILED if row.get("result") in _ENDED_BADLY else 0


def _show(name: str, output: str) -> int:
    found = ask_object("models", {"name": name}, silence=WRITE_SILENCE)

    def table() -> None:
        talk(clean(say("model.current", name=name, model=found.get("current"))))
        if found.get("open"):
            talk(clean(sentence(found)))
        rows = [_cells(one) for one in found.get("models") or ()]
        if not rows:
            talk(clean(say("model.none_cached", cache=found.get("cache") or "-")))
            return
        show_table([Column(f"column.{word}") for word in ("model", "size", "used", "state")], rows)

    emit(found, output, table)
    return 0


def _cells(one: dict[str, Any]) -> list[Cell | str]:
    used = one.get("in_use_by") or []
    words = [say("model.used_by", names=", ".join(used))] if used else []
    if not one.get("complete"):
        words.append(say("model.incomplete"))
    taken = ("≥ " if one.get("partial") else "") + size(float(one.get("size_bytes") or 0))
    when = str(one.get("last_used") or "-")[:16].replace("T", " ")
    return [Cell(str(one.get("id"))), taken, when, ", ".join(words) or "-"]


def _delete(name: str, model_id: str, output: str, *, yes: bool) -> int:
    if not yes:
        if not _at_a_terminal():
            raise Refused(say("model.delete_needs_yes", model=model_id), code="not_confirmed")
        ask_person(say("ask.delete_model", model=model_id))
    row = ask_object("model.delete", {"name": name, "model": model_id}, silence=_DELETING)
    emit(row, output, lambda: write(clean(f"{row.get('service')}: {sentence(row)}")))
    return 0


def _at_a_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
