"""Which services of the catalogue a host's GPUs can hold: the VRAM table, and the arithmetic beside it.

The table is what users go by (8 GB, 12 GB, 16 GB and more, none). It is old and round, so each of its
rows is also reckoned: what the model and the voice claim, a little headroom, and whether one card, or
two, have that. Where table and arithmetic disagree, both are said. Only sizes and compute
capabilities are looked at; what is free at this moment is the business of placement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lictor.core.model.reason import Reason, because

GIB = 1024**3
#: What a card keeps for its context and the desktop.
HEADROOM = GIB // 2
#: Cards say a little less than their name: ECC and firmware take some. Their name counts here.
_NOMINAL = 0.93


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU: `total` bytes, CUDA's compute `capability` (None: not known)."""

    uuid: str
    name: str
    total: int
    capability: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What a service of the catalogue takes of a GPU; `memory` 0: it runs on the CPU.

    `share`: it takes that part of whatever card it is given, if it is told no other.
    """

    service: str
    memory: int = 0
    capability: float = 0.0
    model: str = ""
    share: float | None = None


#: The claims of the templates; for vLLM that of the model. Llama's 8.03e9 weights of two bytes are
#: 15.0 GiB before anything is computed with them.
QWEN = Need("vllm", 6 * GIB, 7.5, "Qwen2.5-7B AWQ", share=0.5)
LLAMA = Need("vllm", 16 * GIB + GIB // 2, 7.0, "Llama-3.1-8B FP16", share=0.5)
CLOUD = Need("", model="Cloud LLM")
XTTS = Need("xtts", 5 * GIB, 7.0, "XTTS v2")
OPENVOICE = Need("openvoice", 3 * GIB, 6.1, "OpenVoice v2")
PIPER = Need("piper", model="Piper")
SOVITS = Need("gpt-sovits", 4 * GIB, model="GPT-SoVITS")
SENSEVOICE = Need("sensevoice", 2 * GIB, model="SenseVoice")
#: It divides a model between GPU and CPU by itself, so it fits wherever CUDA 5.0 does.
OLLAMA = Need("ollama", GIB, 5.0, "Ollama")
WHISPER = Need("whisper", model="Whisper")
SMALL = Need("llm", model="SmolLM2-135M")

#: GB of the card by its name (None: no GPU), the model, the voice.
TABLE: tuple[tuple[int | None, Need, Need], ...] = (
    (None, CLOUD, PIPER),
    (8, QWEN, PIPER),
    (12, QWEN, XTTS),
    (16, LLAMA, XTTS),
)
SINGLE = (QWEN, XTTS, OPENVOICE, SOVITS, SENSEVOICE, OLLAMA, PIPER, WHISPER, SMALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table for this host. `here`: the row of this host's memory.

    `fits`: by arithmetic; `best`: the largest that does. `reason` says both.
    """

    gigabytes: int | None
    llm: Need
    voice: Need
    here: bool
    fits: bool
    best: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Single:
    """Whether one service alone can run here."""

    need: Need
    fits: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Advice:
    """What these cards can hold."""

    cards: tuple[Card, ...]
    table: tuple[Row, ...]
    singles: tuple[Single, ...]


def advise(cards: Sequence[Card]) -> Advice:
    """The table and the single services, for these cards."""
    here = _nominal_row(cards)
    judged = [(*row, *_together(row[1:], cards)) for row in TABLE]
    best = max(index for index, row in enumerate(judged) if row[3])
    return Advice(
        cards=tuple(cards),
        table=tuple(
            Row(gigabytes, llm, voice, gigabytes == here, fits, index == best, reason)
            for index, (gigabytes, llm, voice, fits, reason) in enumerate(judged)
        ),
        singles=tuple(Single(need, *_alone(need, cards)) for need in SINGLE),
    )


def _nominal_row(cards: Sequence[Card]) -> int | None:
    """The row by the name of the largest card, as people read the table."""
    largest = max((card.total for card in cards), default=0)
    fitting = [gb for gb, _, _ in TABLE if gb is not None and largest >= gb * GIB * _NOMINAL]
    return max(fitting, default=None)


def _together(needs: Sequence[Need], cards: Sequence[Card]) -> tuple[bool, Reason]:
    """Whether they fit side by side: the larger first, each where least is left over."""
    wanted = sorted((need for need in needs if need.memory), key=lambda need: -need.memory)
    if not wanted:
        return True, because("advice.no_gpu_needed")
    if not cards:
        return False, because("advice.no_gpu")
    for need in wanted:
        fits, reason = _alone(need, cards)
        if not fits and reason.code == "advice.capability":
            return False, reason
    free = {card.uuid: card.total - HEADROOM for card in cards}
    used: list[tuple[Need, Card]] = []
    total = sum(need.memory for need in wanted)
    for need in wanted:
        able = [c for c in cards if _can(need, c) and free[c.uuid] >= need.memory]
        if not able:
            most = max(card.total for card in cards if _can(need, card))
            return False, because("advice.too_large", needs=total + HEADROOM, has=most)
        chosen = min(able, key=lambda card: free[card.uuid])
        free[chosen.uuid] -= need.memory
        used.append((need, chosen))
    return True, _fits(used)


def _alone(need: Need, cards: Sequence[Card]) -> tuple[bool, Reason]:
    if not need.memory:
        return True, because("advice.no_gpu_needed")
    if not cards:
        return False, because("advice.no_gpu")
    able = [card for card in cards if _can(need, card)]
    if not able:
        has = max((card.capability or 0.0 for card in cards), default=0.0)
        return False, because(
            "advice.capability", service=need.model, needs=need.capability, has=has
        )
    largest = max(able, key=lambda card: card.total)
    if largest.total - HEADROOM < need.memory:
        return False, because("advice.too_large", needs=need.memory + HEADROOM, has=largest.total)
    return True, _fits([(need, largest)])


def _fits(placed: Sequence[tuple[Need, Card]]) -> Reason:
    """They fit, and the share that one of them must be told for it, if any."""
    needs = sum(need.memory for need, _ in placed)
    names = ", ".join(dict.fromkeys(card.name for _, card in placed))
    for need, card in placed:
        if need.share is not None and need.share * card.total < need.memory:
            share = math.ceil(100 * need.memory / card.total) / 100
            return because("advice.fits_by_share", needs=needs, gpu=names, share=share)
    return because("advice.fits", needs=needs, gpu=names)


def _can(need: Need, card: Card) -> bool:
    """A card that does not say its capability is given the benefit of the doubt."""
    return card.capability is None or card.capability >= need.capability
