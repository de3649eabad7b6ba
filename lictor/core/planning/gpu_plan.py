"""Gives the starts of a plan their cards: places, victims, or a reason to wait.

The plan says who is to start; here those of them that need a GPU are looked at one after the other,
the most important first, and each verdict of `placement` is what the next one sees. So two that start
in one pass never get the same memory, and what is kept for one that waits is given to nobody less
important. The result is a plan like any other: it can be shown before it is done. Pure.

Order: starts that somebody ordered, then the better (lower) `rank`, then the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lictor.core.model.desired import Desired, DesiredService, DesiredState, Source
from lictor.core.model.gpu import Gpu, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Plan, Verb
from lictor.core.model.reason import Reason, because
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning.placement import (
    LEAST,
    RESIDENCY,
    Ask,
    Card,
    Evict,
    Lingering,
    Placed,
    Spared,
    Stage,
    Stranger,
    Tenant,
    Verdict,
    Wait,
    cost_of,
    place,
)

Actual = Mapping[ServiceKey, ServiceState]

#: Seconds for which the place of a service that is about to be started again is kept.
KEPT = 30.0
_NOT_NOW = frozenset({"gpu.no_room", "gpu.loading", "gpu.releasing"})
_USUAL_LOAD = 30.0  # seconds; a guess until a start was seen
_ALMOST = 256 * 1024 * 1024  # bytes by which a figure may change without anything being news
_LONGER = 1.5  # factor by which an idle time must grow to be news


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one service. `claim` is bytes."""

    uuid: str
    claim: int


@dataclass(frozen=True, slots=True)
class Board:
    """What is known of the cards and of who is on them.

    `fresh`: the look is so young that a start may rely on it. `used` is bytes by service and card,
    None: not told. `idle_since` is monotonic seconds, of those that are idle; whoever is in neither
    `busy` nor there counts as busy. `peaks` is the most a service was seen to take, `loads` how many
    seconds its last start took.
    """

    seen: Known[Inventory] | Unknown
    fresh: bool = True
    places: Mapping[ServiceKey, Place] = field(default_factory=dict)
    used: Mapping[ServiceKey, Mapping[str, int | None]] = field(default_factory=dict)
    strangers: Mapping[str, tuple[Stranger, ...]] = field(default_factory=dict)
    lingering: Mapping[str, tuple[Lingering, ...]] = field(default_factory=dict)
    idle_since: Mapping[ServiceKey, float] = field(default_factory=dict)
    ordered: frozenset[ServiceKey] = frozenset()
    peaks: Mapping[ServiceKey, int] = field(default_factory=dict)
    loads: Mapping[ServiceKey, float] = field(default_factory=dict)

    def as_ordered(self, keys: Iterable[ServiceKey]) -> Board:
        """The board as it would be once somebody ordered these to start."""
        return replace(self, ordered=self.ordered | frozenset(keys))


def takes_gpu(want: DesiredService | None) -> bool:
    """Whether its start needs a card from us."""
    return want is not None and want.spec.gpu is not None and want.spec.driver != "observed"


def admit(todo: Plan, desired: Desired, actual: Actual, now: float, board: Board) -> Plan:
    """The plan with cards for its starts, or with what keeps them waiting."""
    starts = [
        action
        for action in todo.actions
        if action.verb is Verb.START and takes_gpu(desired.get(action.service))
    ]
    if not starts:
        return todo
    others = {action.service: action for action in todo.actions if action not in starts}
    starts.sort(key=lambda action: _order(action.service, desired, board))
    gates = _Gates(desired, actual, now, board)
    for action in starts:
        others |= gates.pass_one(action)
    return Plan(tuple(others.values()))


def _order(key: ServiceKey, desired: Desired, board: Board) -> tuple[bool, int, ServiceKey]:
    return key not in board.ordered, desired[key].spec.rank, key


class _Gates:
    """One pass: what was given to one is seen by the next."""

    def __init__(self, desired: Desired, actual: Actual, now: float, board: Board) -> None:
        self._desired, self._actual, self._now, self._board = desired, actual, now, board
        self._cards = cards_of(board, desired, actual, now)

    def pass_one(self, action: Action) -> dict[ServiceKey, Action]:
        """The action of this service now, and those of whoever leaves for it."""
        key, state = action.service, self._actual.get(action.service, ServiceState())
        seen = self._board.seen
        if not self._board.fresh:
            return self._until_looked(key, state)
        if isinstance(seen, Unknown):
            return self._said(Verb.QUEUE, Phase.QUEUED, key, seen.reason)
        verdict = place(ask_of(key, self._desired, state, self._board), seen.value, self._cards)
        if isinstance(verdict, Placed):
            self._keep(key, verdict.uuid, verdict.claim, "loading")
            return {key: replace(action, gpus=(verdict.uuid,), claim=verdict.claim)}
        if isinstance(verdict, Evict):
            return self._evict(key, verdict)
        if isinstance(verdict, Wait) and verdict.uuid is not None:
            self._keep(key, verdict.uuid, verdict.claim, "promised")
        if state.reason.code == "gpu.evicted" and verdict.reason.code in _NOT_NOW:
            # Who it left for tells more than who is there now.
            return self._said(Verb.BLOCK, Phase.BLOCKED, key, state.reason)
        if isinstance(verdict, Wait):
            return self._said(Verb.QUEUE, Phase.QUEUED, key, verdict.reason)
        return self._said(Verb.BLOCK, Phase.BLOCKED, key, verdict.reason)

    def _until_looked(self, key: ServiceKey, state: ServiceState) -> dict[ServiceKey, Action]:
        """What was said stays said for the moment."""
        if state.reason.code == "gpu.evicted":
            return self._said(Verb.BLOCK, Phase.BLOCKED, key, state.reason)
        if state.phase in {Phase.QUEUED, Phase.BLOCKED} and is_ours(state.reason):
            return {}
        return self._said(Verb.QUEUE, Phase.QUEUED, key, because("gpu.looking"))

    def _evict(self, key: ServiceKey, verdict: Evict) -> dict[ServiceKey, Action]:
        why = because("gpu.evicted", service=str(key), gpu=verdict.index)
        steps = {victim: Action(Verb.STOP, victim, why) for victim in verdict.victims}
        self._cards = [
            replace(
                card,
                tenants=tuple(
                    replace(one, stage="ending") if one.key in steps else one
                    for one in card.tenants
                ),
            )
            for card in self._cards
        ]
        self._keep(key, verdict.uuid, verdict.claim, "promised")
        names = ", ".join(str(victim) for victim in verdict.victims)
        waits = because("gpu.evicting", gpu=verdict.index, services=names)
        return {**steps, **self._said(Verb.QUEUE, Phase.QUEUED, key, waits)}

    def _keep(self, key: ServiceKey, uuid: str, claim: int, stage: Stage) -> None:
        tenant = Tenant(key, grows=claim, stage=stage, spared="loading")
        self._cards = [
            replace(card, tenants=(*card.without(key).tenants, tenant))
            if card.gpu.uuid == uuid
            else card
            for card in self._cards
        ]

    def _said(
        self, verb: Verb, phase: Phase, key: ServiceKey, reason: Reason
    ) -> dict[ServiceKey, Action]:
        state = self._actual.get(key, ServiceState())
        if state.phase is phase and same(state.reason, reason):
            return {}
        return {key: Action(verb, key, reason)}


def ask_of(key: ServiceKey, desired: Desired, state: ServiceState, board: Board) -> Ask:
    """What this service asks for."""
    spec = desired[key].spec
    assert spec.gpu is not None  # noqa: S101 - see `takes_gpu`
    ordered = key in board.ordered
    return Ask(
        key,
        spec.gpu,
        peak=board.peaks.get(key),
        rank=spec.rank,
        ordered=ordered,
        evicts=ordered or state.failures == 0,
    )


def verdict_of(
    key: ServiceKey, desired: Desired, actual: Actual, now: float, board: Board
) -> Verdict | None:
    """What a start of this one service would lead to if it were ordered now; None: nobody knows."""
    if isinstance(board.seen, Unknown):
        return None
    ask = ask_of(key, desired, actual.get(key, ServiceState()), board)
    cards = cards_of(board, desired, actual, now)
    return place(replace(ask, ordered=True, evicts=True), board.seen.value, cards)


def cards_of(board: Board, desired: Desired, actual: Actual, now: float) -> list[Card]:
    """Every card with its tenants, as `placement` wants it."""
    if isinstance(board.seen, Unknown):
        return []
    needed = frozenset(_needed(desired, actual))
    tenants: dict[str, list[Tenant]] = {}
    for key, state in actual.items():
        spared = _spared(key, state, desired.get(key), board, needed, now)
        for uuid, tenant in _tenants(key, state, desired.get(key), board, now, spared):
            tenants.setdefault(uuid, []).append(tenant)
    return [
        Card(
            gpu,
            tuple(_shared_out(gpu, tenants.get(gpu.uuid, ()))),
            board.strangers.get(gpu.uuid, ()),
            board.lingering.get(gpu.uuid, ()),
        )
        for gpu in board.seen.value.cards
    ]


def _shared_out(gpu: Gpu, tenants: Iterable[Tenant]) -> Iterator[Tenant]:
    """Where the driver names no process at all (in some containers), what is used is our tenants'.

    Else what they have would count twice: as used, and as still to come.
    """
    left = gpu.used or 0
    if gpu.processes or left < LEAST:  # (a driver keeps a little for itself on an empty card)
        left = 0
    for one in tenants:
        has = min(left, one.grows) if one.stage != "promised" else 0
        left -= has
        yield replace(one, holds=one.holds + has, grows=one.grows - has) if has else one


def _tenants(
    key: ServiceKey,
    state: ServiceState,
    want: DesiredService | None,
    board: Board,
    now: float,
    spared: Spared,
) -> Iterator[tuple[str, Tenant]]:
    place_, used = board.places.get(key), board.used.get(key, {})
    soon = state.phase is Phase.BACKOFF and (state.next_start or now) - now <= KEPT
    if not state.phase.running and not soon and state.phase is not Phase.UNKNOWN:
        return
    stage: Stage = "running"
    if state.phase is Phase.STARTING:
        stage = "loading"
    elif state.phase is Phase.STOPPING:
        stage = "ending"
    elif soon:
        stage = "promised"
    since = board.idle_since.get(key)
    idle = None if since is None else max(0.0, now - since)
    rank = want.spec.rank if want is not None else 1_000_000
    cost = cost_of(load=_load(key, state, board), idle=idle or 0.0, rank=rank)
    for uuid in dict.fromkeys((*used, *([place_.uuid] if place_ is not None else []))):
        claim = place_.claim if place_ is not None and place_.uuid == uuid else 0
        held = used.get(uuid, 0)
        holds = claim if held is None else held  # not told: it has what it was promised
        grows = max(0, claim - holds)
        yield uuid, Tenant(key, holds, grows, stage, spared, idle, rank, cost)


def _spared(
    key: ServiceKey,
    state: ServiceState,
    want: DesiredService | None,
    board: Board,
    needed: frozenset[str],
    now: float,
) -> Spared:
    if state.phase not in {Phase.READY, Phase.UNHEALTHY}:
        return "loading"
    if want is not None and (want.spec.driver == "observed" or _hands_off(want)):
        return "pinned"
    if want is not None and want.spec.gpu is not None and want.spec.gpu.pinned:
        return "pinned"
    if key.name in needed:
        return "needed"
    # Before "busy": whoever waits for a place waits for this, and does not give up.
    if state.ready_since is None or now - state.ready_since < RESIDENCY:
        return "recent"
    return "" if key in board.idle_since else "busy"


def _hands_off(want: DesiredService) -> bool:
    held = want.source is Source.HOLD and want.state is DesiredState.RUNNING
    return held or want.state is DesiredState.MAINTENANCE


def _needed(desired: Desired, actual: Actual) -> Iterable[str]:
    """Names of services that something which runs cannot do without."""
    for key, want in desired.items():
        state = actual.get(key)
        if state is not None and state.phase.running:
            yield from (one.name for one in want.spec.depends_on if one.required)


def _load(key: ServiceKey, state: ServiceState, board: Board) -> float:
    if key in board.loads:
        return board.loads[key]
    if state.started is not None and state.ready_since is not None:
        return max(1.0, state.ready_since - state.started)
    return _USUAL_LOAD


# --- what is news -------------------------------------------------------------------------------


def is_ours(reason: Reason) -> bool:
    """Whether a reason is about GPUs."""
    return reason.code.startswith("gpu.")


def same(before: Reason, after: Reason) -> bool:
    """Whether nothing has changed that a person would want to be told again.

    Free memory moves by some megabytes all the time and idle times grow by themselves: each change
    of a reason is a line in the journal and a write to Consul.
    """
    if before.code != after.code or before.params.keys() != after.params.keys():
        return False
    for name, value in after.params.items():
        old = before.params[name]
        if name == "holders":
            if not _same_holders(str(old), str(value)):
                return False
        elif name in {"free", "needs"} and isinstance(old, (int, float)):
            if abs(float(value or 0) - old) >= _ALMOST:
                return False
        elif old != value:
            return False
    return True


def _same_holders(before: str, after: str) -> bool:
    """The rows of `placement.holders`: who, bytes, word, seconds."""
    old, new = (
        sorted(row.split(" ") for row in text.split("; ") if row) for text in (before, after)
    )
    if [(row[0], row[2]) for row in old] != [(row[0], row[2]) for row in new]:
        return False
    return all(
        abs(int(was[1]) - int(now[1])) < _ALMOST
        and int(was[3]) <= int(now[3]) <= _LONGER * int(was[3]) + 300
        for was, now in zip(old, new, strict=True)
    )


# --- looking ahead ------------------------------------------------------------------------------


def afterwards(board: Board, action: Action, state: ServiceState | None) -> Board:
    """The board once a step has succeeded, for previews: memory is taken and given back at once."""
    key, seen = action.service, board.seen
    if isinstance(seen, Unknown):
        return board
    if action.verb is Verb.START and action.gpus:
        uuid = action.gpus[0]
        after = _with_free(board, uuid, -action.claim)
        return replace(
            after,
            places={**board.places, key: Place(uuid, action.claim)},
            used={**board.used, key: {uuid: action.claim}},
            ordered=board.ordered - {key},
        )
    if action.verb in {Verb.STOP, Verb.RESTART} and state is not None and state.phase.running:
        after = board
        for uuid, used in board.used.get(key, {}).items():
            after = _with_free(after, uuid, used or 0)
        return replace(after, used={k: v for k, v in board.used.items() if k != key})
    return board


def _with_free(board: Board, uuid: str, more: int) -> Board:
    if isinstance(board.seen, Unknown):
        return board
    inventory = board.seen.value
    cards = tuple(
        replace(card, free=(card.free or 0) + more, used=(card.used or 0) - more)
        if card.uuid == uuid
        else card
        for card in inventory.cards
    )
    return replace(board, seen=Known(replace(inventory, cards=cards)))
