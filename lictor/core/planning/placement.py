"""Which card a service gets, what has to leave for it, or why it gets none. Numbers in, verdict out.

A card has room for a service if what is *really* free, less what services that are there were promised
and have not taken yet, less a little headroom, is at least its claim. The claim is what its definition
says (`memory`, or `utilization` of the card's total), or what it was seen to take before, if that is
more. One service loads at a time on a card, because programs size themselves by what they find free
(vllm#55827), and none begins while the memory of one that ended is still to come back.

Where there is no room, services of ours may be stopped for it: never one that is busy, pinned, needed
by another, loading, or ready for less than `RESIDENCY` seconds; only ones of a worse `rank`, or, for a
start that somebody ordered, of any; always the cheapest set, and none where anything else would do.
Nothing of anybody else is ever touched. Sizes are bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from lictor.core.model.gpu import Gpu, GpuSpec, Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because

_MIB = 1024 * 1024
#: Left free on every card: contexts grow a little, and a full card fails in ugly ways.
HEADROOM = 256 * _MIB
#: What one whose claim nobody knows must find: the context of a program alone takes as much.
LEAST = 512 * _MIB
#: Seconds a service must have been ready before it may be stopped for another (no ping-pong).
RESIDENCY = 30.0
_MORE_THAN_SEEN = 1.05  # a service that was seen to take so much may take a little more next time
_TRIES = 20_000  # steps of the search for the cheapest set (some 20 ms), once it has found one

Stage: TypeAlias = Literal["loading", "running", "ending", "promised"]
#: Why it may not be stopped for another; empty: it may.
Spared: TypeAlias = Literal["", "pinned", "busy", "needed", "recent", "loading"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A service of ours on one card.

    `holds` is what its processes have there now, `grows` what it may still take of what it was
    promised. `idle` is seconds, None: it is not idle, or nobody knows. `cost` is what it would cost
    to stop it (see `cost_of`). `promised`: it has no process yet, and its place is kept.
    """

    key: ServiceKey
    holds: int = 0
    grows: int = 0
    stage: Stage = "running"
    spared: Spared = ""
    idle: float | None = None
    rank: int = 100
    cost: float = 1.0

    @property
    def gives(self) -> int:
        """What is free once it is gone."""
        return self.holds + self.grows


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that is not ours. `memory` None: not told. `ours`: it is a left-over of a service."""

    pid: int
    memory: int | None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Lingering:
    """Memory of a service that has ended which is not back yet. `coming` False: it was given up."""

    key: ServiceKey
    memory: int
    coming: bool = True


@dataclass(frozen=True, slots=True)
class Card:
    """A card with everybody on it."""

    gpu: Gpu
    tenants: tuple[Tenant, ...] = ()
    strangers: tuple[Stranger, ...] = ()
    lingering: tuple[Lingering, ...] = ()

    @property
    def room(self) -> int:
        """What can be promised to somebody now; below zero where too much was promised."""
        promised = sum(one.grows for one in self.tenants if one.stage != "ending")
        return (self.gpu.free or 0) - HEADROOM - promised

    @property
    def coming(self) -> int:
        """What comes back by itself in a moment."""
        ending = sum(one.holds for one in self.tenants if one.stage == "ending")
        return ending + sum(one.memory for one in self.lingering if one.coming)

    def without(self, key: ServiceKey) -> Card:
        """The card as the service itself sees it."""
        return replace(self, tenants=tuple(one for one in self.tenants if one.key != key))


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants a place.

    `peak` is the most it was seen to take. `ordered`: somebody ordered this start. `evicts` False:
    nobody may be stopped for it (its last run failed, and would drive others away for nothing).
    """

    key: ServiceKey
    spec: GpuSpec
    peak: int | None = None
    rank: int = 100
    ordered: bool = False
    evicts: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """There is room. `claim` is what it is promised; 0 where nobody knows what it takes."""

    uuid: str
    claim: int


@dataclass(frozen=True, slots=True)
class Evict:
    """There is room once these are gone."""

    uuid: str
    index: int
    claim: int
    victims: tuple[ServiceKey, ...]
    cost: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet. `uuid` is where it will be, if that is known; `claim` what is kept for it there."""

    reason: Reason
    uuid: str | None = None
    claim: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Not as things are."""

    reason: Reason


Verdict: TypeAlias = Placed | Evict | Wait | Refused


def place(ask: Ask, inventory: Inventory, cards: Sequence[Card]) -> Verdict:
    """Where `ask` may go now. Pure; the same answer for the same numbers."""
    if not cards:
        problem = inventory.problem
        return Refused(because("gpu.mismatch") if problem == "mismatch" else because("gpu.none"))
    allowed = [card.without(ask.key) for card in cards if _allows(ask.spec, card.gpu)]
    if not allowed:
        return Refused(
            because(
                "gpu.device_missing",
                devices=", ".join(ask.spec.devices),
                found=", ".join(str(card.gpu.index) for card in cards),
            )
        )
    usable = [card for card in allowed if _unfit(ask, card.gpu) is None]
    if not usable:
        largest = max(allowed, key=lambda card: (card.gpu.total or 0, -card.gpu.index))
        reason = _unfit(ask, largest.gpu)
        assert reason is not None  # noqa: S101 - none of them fits
        return Wait(reason) if reason.code == "gpu.unknown" else Refused(reason)
    return _where_there_is_room(ask, usable) or _by_eviction(ask, usable)


def claim_on(ask: Ask, gpu: Gpu) -> int:
    """What it will take on this card; 0: nobody knows."""
    declared = ask.spec.memory or 0
    if ask.spec.utilization is not None:
        # It takes its share of whatever card it is given, so what it took of another says nothing.
        return max(declared, int(ask.spec.utilization * (gpu.total or 0)))
    if ask.peak is None or ask.peak <= declared:
        return declared
    return int(ask.peak * _MORE_THAN_SEEN)


def cost_of(*, load: float, idle: float, rank: int) -> float:
    """What stopping an idle service costs: seconds to load it again, more for one just used.

    A service of a better (lower) rank costs more in proportion. `load` and `idle` are seconds.
    """
    recent = 1.0 + 600.0 / (600.0 + max(0.0, idle))
    return max(1.0, load) * recent * 100.0 / max(1, rank)


def cheapest(candidates: Iterable[Tenant], lack: int) -> tuple[Tenant, ...] | None:
    """The cheapest set that gives back at least `lack` bytes; None: all together do not.

    Of two that cost the same, the smaller. A knapsack, searched depth first from what gives most for
    its cost; what cannot be better even if the rest could leave in slices is not looked at. So it is
    exact for some two dozen candidates, more than a card holds, and beyond that the best of many.
    """
    useful = sorted(
        (one for one in candidates if one.gives > 0),
        key=lambda one: (one.cost / one.gives, one.cost, one.key),
    )
    gives = (one.gives for one in reversed(useful))
    rest = list(itertools.accumulate(gives, initial=0))[::-1]  # what all from here on give
    if rest[0] < lack:
        return None
    other: list[int] = []  # where those begin who are not like this one
    for _, alike in itertools.groupby(useful, key=lambda one: (one.cost, one.gives)):
        count = len(list(alike))
        other += [len(other) + count] * count
    best: tuple[float, int, tuple[Tenant, ...]] | None = None
    todo: list[tuple[int, int, float, tuple[Tenant, ...]]] = [(0, lack, 0.0, ())]
    tries = _TRIES
    while todo and (best is None or tries > 0):
        tries -= 1
        index, missing, cost, chosen = todo.pop()
        if best is not None and (cost, len(chosen)) >= best[:2]:
            continue
        if missing <= 0:
            best = (cost, len(chosen), chosen)
            continue
        if rest[index] < missing:
            continue
        one = useful[index]
        in_slices = cost + missing * one.cost / one.gives
        if best is not None and in_slices > best[0]:
            continue
        # Of several alike it does not matter which ones go: if this one stays, all of them do.
        todo.append((other[index], missing, cost, chosen))
        todo.append((index + 1, missing - one.gives, cost + one.cost, (*chosen, one)))
    return best[2] if best is not None else None


def _allows(spec: GpuSpec, gpu: Gpu) -> bool:
    return not spec.devices or str(gpu.index) in spec.devices or gpu.uuid in spec.devices


def _unfit(ask: Ask, gpu: Gpu) -> Reason | None:
    """Why this card can never do, however empty."""
    if gpu.lost:
        return because("gpu.lost", gpu=gpu.index)
    if gpu.mig:
        return because("gpu.mig", gpu=gpu.index)
    least = ask.spec.min_compute_capability
    if least is not None and (gpu.capability is None or gpu.capability < least):
        has = "?" if gpu.capability is None else f"{gpu.capability:.1f}"
        return because("gpu.capability", needs=f"{least:.1f}", gpu=gpu.index, has=has)
    if gpu.total is None or gpu.free is None:
        return because("gpu.unknown", why=f"GPU {gpu.index} does not tell its memory")
    claim, whole = claim_on(ask, gpu), gpu.total - (gpu.reserved or 0)
    if claim + HEADROOM > whole:
        return because("gpu.too_big", needs=claim, gpu=gpu.index, total=whole)
    return None


def _where_there_is_room(ask: Ask, cards: Sequence[Card]) -> Verdict | None:
    fitting = [card for card in cards if card.room >= _need(ask, card)]
    calm = [card for card in fitting if not _moves(card)]
    spread = ask.spec.placement == "spread"
    if calm:
        chosen = min(calm, key=lambda card: _left(ask, card, spread=spread))
        return Placed(chosen.gpu.uuid, claim_on(ask, chosen.gpu))
    if fitting:
        return _not_yet(ask, min(fitting, key=lambda card: _left(ask, card, spread=spread)))
    soon = [card for card in cards if card.room + card.coming >= _need(ask, card)]
    return _not_yet(ask, min(soon, key=lambda card: card.gpu.index)) if soon else None


def _not_yet(ask: Ask, card: Card) -> Wait:
    """It fits there, or will, and something else has to be over first."""
    index, claim = card.gpu.index, claim_on(ask, card.gpu)
    loading = _loading(card)
    if loading is not None:
        reason = because("gpu.loading", gpu=index, service=str(loading.key))
        return Wait(reason, card.gpu.uuid, claim)
    ending = [one.key for one in card.tenants if one.stage == "ending"]
    ending += [one.key for one in card.lingering if one.coming]
    names = ", ".join(sorted({str(key) for key in ending}))
    return Wait(because("gpu.releasing", gpu=index, service=names), card.gpu.uuid, claim)


def _by_eviction(ask: Ask, cards: Sequence[Card]) -> Verdict:
    found: list[tuple[float, int, int, Evict]] = []
    for card in cards if ask.evicts else ():
        if _moves(card):
            continue
        theirs = [one for one in card.tenants if not one.spared and _outranks(ask, one)]
        chosen = cheapest(theirs, _need(ask, card) - card.room)
        if chosen:
            cost = sum(one.cost for one in chosen)
            victims = tuple(sorted(one.key for one in chosen))
            claim = claim_on(ask, card.gpu)
            evict = Evict(card.gpu.uuid, card.gpu.index, claim, victims, cost)
            found.append((cost, len(victims), card.gpu.index, evict))
    if found:
        return min(found, key=lambda one: one[:3])[3]
    best = max(cards, key=lambda card: (card.room, -card.gpu.index))
    reason = because(
        "gpu.no_room",
        needs=_need(ask, best),
        gpu=best.gpu.index,
        free=max(0, best.room),
        holders=holders(best),
    )
    return Wait(reason) if any(_passes(ask, card) for card in cards) else Refused(reason)


def _passes(ask: Ask, card: Card) -> bool:
    """Whether what is in the way there is so only for the moment."""
    if _moves(card):
        return True
    return ask.evicts and any(
        one.spared == "recent" and one.stage == "running" and _outranks(ask, one)
        for one in card.tenants
    )


def _outranks(ask: Ask, tenant: Tenant) -> bool:
    return tenant.stage == "running" and (ask.ordered or ask.rank < tenant.rank)


def _need(ask: Ask, card: Card) -> int:
    return claim_on(ask, card.gpu) or LEAST


def _left(ask: Ask, card: Card, *, spread: bool) -> tuple[int, int]:
    left = card.room - claim_on(ask, card.gpu)
    return (-left if spread else left), card.gpu.index


def _moves(card: Card) -> bool:
    """Whether somebody loads there, or gives it back just now."""
    return card.coming > 0 or any(one.stage in {"loading", "ending"} for one in card.tenants)


def _loading(card: Card) -> Tenant | None:
    return next((one for one in card.tenants if one.stage == "loading"), None)


# --- who holds a card, as one parameter of a reason --------------------------------------------


def holders(card: Card) -> str:
    """Everybody on the card: `who bytes word seconds`, separated by `; `, the largest first.

    It is data that the edge turns into words of the reader's language (`core.locales`): `who` is a
    service, `pid:4711` or `?` (nobody that the driver names); `word` is idle, busy, pinned, needed,
    recent, loading, ending, promised, ended, orphan, stranger or unnamed; seconds are of `idle` only.
    """
    rows = sorted(_holders(card), key=lambda row: (-row[1], row[0]))
    return "; ".join(f"{who} {size} {word} {round(seconds)}" for who, size, word, seconds in rows)


def _holders(card: Card) -> Iterator[tuple[str, int, str, float]]:
    for one in card.tenants:
        word = one.stage if one.stage != "running" else one.spared or "idle"
        idle = one.idle if word == "idle" and one.idle is not None else 0.0
        yield str(one.key), one.gives, word, idle
    for lost in (one for one in card.lingering if one.memory >= _MIB):
        yield str(lost.key), lost.memory, "ending" if lost.coming else "ended", 0.0
    for stranger in card.strangers:
        whose = "orphan" if stranger.ours else "stranger"
        yield f"pid:{stranger.pid}", stranger.memory or 0, whose, 0.0
    unnamed = nameless(card.gpu)
    unnamed = None if unnamed is None else unnamed - sum(one.memory for one in card.lingering)
    if unnamed is not None and unnamed > 2 * HEADROOM:
        yield "?", unnamed, "unnamed", 0.0


def nameless(gpu: Gpu) -> int | None:
    """Memory in use that belongs to no process which the driver names; None: it does not tell all."""
    if gpu.processes is None or gpu.used is None:
        return None
    told = [one.memory for one in gpu.processes]
    known = [memory for memory in told if memory is not None]
    return gpu.used - sum(known) if len(known) == len(told) else None
