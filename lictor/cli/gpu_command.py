"""`lictor gpu`: the cards of this host, who holds their memory, and who would have to leave for whom.

Three small tables, each shown only if it has something to say: cards, owners, and the services that need
a card and do not run. The agent looks when it is asked; this only shows.
"""

from __future__ import annotations

from typing import Any

import click

from lictor.cli.client import Row, ask_object
from lictor.cli.gpu_advise_command import SILENCE, advise
from lictor.cli.options import LocalisedGroup, color_option, output_option
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell, clean, state
from lictor.cli.words import how_long, say, sentence

_CARDS = (
    *(Column("column.gpu"), Column("column.name")),
    *(Column("column.memory_used"), Column("column.memory_free"), Column("column.memory_total")),
    *(Column("column.load", spare=True), Column("column.temperature", spare=True)),
    *(Column("column.power", spare=True), Column("column.fan", spare=True)),
    Column("column.capability"),
)
_OWNERS = (
    *(Column("column.gpu"), Column("column.owner"), Column("column.memory")),
    *(Column("column.pid", spare=True), Column("column.state"), Column("column.evictable")),
)
_SERVICES = (Column("column.service"), Column("column.phase"), Column("column.why"))


@click.group("gpu", cls=LocalisedGroup, help=say("help.gpu"), invoke_without_command=True)
@output_option()
@color_option
@click.pass_context
def gpu(ctx: click.Context, output: str) -> int:
    """See `help.gpu`."""
    if ctx.invoked_subcommand is not None:
        return 0
    found = ask_object("gpu", silence=SILENCE)
    emit(found, output, lambda: _show(found))
    return 0


gpu.add_command(advise)


def _show(found: Row) -> None:
    cards = _rows(found.get("gpus"))
    why = found.get("why")
    if isinstance(why, dict) or not cards:
        talk(say("gpu.none", why=sentence(_as_row(why)) if isinstance(why, dict) else "-"))
    if cards:
        show_table(_CARDS, [_card(card) for card in cards])
        owners = [(card, owner) for card in cards for owner in _rows(card.get("owners"))]
        write("")
        if owners:
            show_table(_OWNERS, [_owner(card, owner) for card, owner in owners])
        else:
            talk(say("gpu.nobody"))
    waiting = [one for one in _rows(found.get("services")) if isinstance(one.get("start"), dict)]
    if waiting:
        write("")
        show_table(_SERVICES, [_service(one) for one in waiting])


def _card(card: Row) -> list[Cell | str]:
    memory = card.get("memory")
    sizes: Row = memory if isinstance(memory, dict) else {}
    name = str(card.get("name") or "-")
    capability = card.get("capability")
    return [
        str(card.get("index")),
        f"{name} ({say('gpu.lost')})" if card.get("lost") else name,
        _mib(sizes.get("used_mb")),
        _mib(sizes.get("free_mb")),
        _mib(sizes.get("total_mb")),
        _figure(card.get("util_percent"), "%"),
        _figure(card.get("temperature_c"), " °C"),
        _figure(card.get("power_w"), " W"),
        _figure(card.get("fan_percent"), "%"),
        f"{capability:.1f}" if isinstance(capability, float) else "-",
    ]


def _owner(card: Row, owner: Row) -> list[Cell | str]:
    word = str(owner.get("state"))
    idle = owner.get("idle_s")
    said = say(f"gpu.state.{word}")
    if word == "idle" and isinstance(idle, int):
        said = f"{said} {how_long(idle)}"
    return [
        str(card.get("index")),
        clean(str(owner.get("service") or owner.get("name") or "-")),
        _mib(owner.get("memory_mb")),
        str(owner.get("pid") or "-"),
        said,
        say("gpu.yes" if owner.get("evictable") else "gpu.no"),
    ]


def _service(one: Row) -> list[Cell | str]:
    start = one.get("start")
    why = sentence(_as_row(start)) if isinstance(start, dict) else "-"
    return [clean(str(one.get("service"))), state("phase", one.get("phase")), why]


def _as_row(told: dict[str, Any]) -> Row:
    """A reason of the monitor's shape as `sentence` takes it."""
    return {
        "reason": told.get("code"),
        "reason_params": told.get("params"),
        "sentence": told.get("sentence"),
    }


def _rows(value: object) -> list[Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _mib(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"
    return "-"


def _figure(value: object, unit: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.0f}{unit}"
    return "-"
