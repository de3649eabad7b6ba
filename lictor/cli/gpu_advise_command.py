"""`lictor gpu advise`: the VRAM table for this host, or for a card that is only thought of.

The advice is pure (`core.planning.advice`); this command gives it the cards and shows it. With
`--memory` no card is looked at. It starts and reserves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from lictor.cli.options import Localised, LocalisedGroup, color_option, help_if_alone, output_option
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell
from lictor.cli.words import language, say
from lictor.core.locales import render
from lictor.core.model.reason import Reason
from lictor.core.planning.advice import Advice, Card, Row, Single


@click.group("gpu", cls=LocalisedGroup, help=say("help.gpu"), invoke_without_command=True)
@click.pass_context
def gpu(ctx: click.Context) -> int:
    """See `help.gpu`."""
    return help_if_alone(ctx)


@click.command("advise", cls=Localised, help=say("help.gpu.advise"))
@click.option("--memory", metavar="SIZE", help=say("option.gpu_memory"))
@click.option(
    "--capability", type=float, metavar="X.Y", default=None, help=say("option.gpu_capability")
)
@output_option()
@color_option
def advise(memory: str | None, capability: float | None, output: str) -> int:
    """See `help.gpu.advise`."""
    if memory is None:
        if capability is not None:
            raise click.UsageError(say("usage.capability_alone"))
        return show_advice((), output)
    from lictor.core.config.units import parse_size

    try:
        total = parse_size(memory)
    except ValueError:
        raise click.UsageError(say("usage.size", value=memory)) from None
    card = Card("", say("gpu.thought_of"), total, capability)
    return show_advice((card,), output)


gpu.add_command(advise)


def show_advice(cards: Sequence[Card], output: str) -> int:
    """Advise on these cards and show it."""
    from lictor.core.planning import advice

    found = advice.advise(cards)
    emit(_data(found), output, lambda: _tables(found))
    return 0


def _data(found: Advice) -> dict[str, Any]:
    return {
        "cards": [
            {"uuid": c.uuid, "name": c.name, "memory": c.total, "capability": c.capability}
            for c in found.cards
        ],
        "table": [
            {
                "vram_gb": row.gigabytes,
                "llm": row.llm.model,
                "llm_service": row.llm.service or None,
                "voice": row.voice.model,
                "voice_service": row.voice.service,
                "here": row.here,
                "recommended": row.best,
                **_verdict(row),
            }
            for row in found.table
        ],
        "services": [
            {"service": one.need.service, "model": one.need.model, **_verdict(one)}
            for one in found.singles
        ],
    }


def _verdict(one: Row | Single) -> dict[str, Any]:
    return {
        "fits": one.fits,
        "reason": one.reason.code,
        "reason_params": dict(one.reason.params),
        "sentence": render(one.reason.code, one.reason.params),
    }


def _tables(found: Advice) -> None:
    if not found.cards:
        talk(say("gpu.none_seen"))
    columns = [Column(f"column.{name}") for name in ("vram", "llm", "voice", "advice")]
    show_table(columns, [_row(row) for row in found.table])
    write("")
    columns = [Column(f"column.{name}") for name in ("service", "model", "advice")]
    show_table(columns, [_single(one) for one in found.singles])


def _row(row: Row) -> list[Cell | str]:
    name = say("gpu.without") if row.gigabytes is None else say("gpu.size", size=row.gigabytes)
    if row.gigabytes == 16:
        name = say("gpu.size_up", size=row.gigabytes)
    mark = say("gpu.recommended") if row.best else say("gpu.by_name") if row.here else ""
    text = f"{mark} {_sentence(row.reason)}".strip()
    return [name, row.llm.model, row.voice.model, Cell(text, "good" if row.best else "")]


def _single(one: Single) -> list[Cell | str]:
    return [one.need.service, one.need.model, _sentence(one.reason)]


def _sentence(reason: Reason) -> str:
    return render(reason.code, reason.params, language=language())
