"""`lictor gpu advise`: the VRAM table for this host, or for a card that is only thought of.

The advice is pure (`core.planning.advice`); this command gives it the cards and shows it. With
`--memory` no card is looked at; without it the agent is asked which there are. It starts and reserves
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from lictor.cli.client import ask_object
from lictor.cli.options import Localised, color_option, output_option
from lictor.cli.output import Column, emit, show_table, talk, write
from lictor.cli.paint import Cell
from lictor.cli.words import language, say
from lictor.core.errors import AgentUnreachable
from lictor.core.locales import render
from lictor.core.model.reason import Reason
from lictor.core.planning.advice import Advice, Card, Row, Single

#: Seconds that a driver which wakes all its cards may take.
SILENCE = 40.0


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
        return show_advice(_cards_here(), output)
    from lictor.core.config.units import parse_size

    try:
        total = parse_size(memory)
    except ValueError:
        raise click.UsageError(say("usage.size", value=memory)) from None
    card = Card("", say("gpu.thought_of"), total, capability)
    return show_advice((card,), output)


def _cards_here() -> tuple[Card, ...]:
    """The cards that the agent sees; none where no agent runs."""
    try:
        found = ask_object("gpu", silence=SILENCE)
    except AgentUnreachable:
        return ()
    return tuple(
        Card(
            str(card["uuid"]),
            str(card["name"]),
            card["memory"]["total_mb"] << 20,
            card["capability"],
        )
        for card in found["gpus"]
        if card["memory"]["total_mb"]
    )


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
