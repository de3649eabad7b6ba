"""Proof that a service which ended has given its card back.

A process that is gone has not given back its memory yet: the driver frees it some time later, a child
that outlived it keeps it, and some drivers lose it until a reset. A next service that is started on the
assumption dies of it, or measures a card that is about to change and takes too little. So what each card
had free is noted when a service begins to end, and the card counts as given back when none of the
service's processes is on it any more *and* three quarters of its memory are free again (or nothing on the
card is unaccounted for, because somebody else took it meanwhile). What is not back in time is given up and
named; it is still looked at, and struck out when it comes after all. Nothing here ends a process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from lictor.core.model.gpu import Gpu, Inventory
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.planning.placement import Lingering, nameless

_BACK = 0.75  # of what it had: Ollama's own figure, because drivers keep a little
_UNNAMED = 512 * 1024 * 1024  # bytes in use that belong to nobody on an ordinary card, at most
_WITHIN = 5.0  # seconds for the memory, after the end; half a second to 1.5 is usual
_PROCESSES_WITHIN = 12.0  # seconds for processes: what outlived a service is ended meanwhile


@dataclass(slots=True)
class _Release:
    """One card of one service. `ended` None: it is still being stopped."""

    key: ServiceKey
    uuid: str
    used: int | None
    free: int | None
    pids: frozenset[int]
    ended: float | None = None
    given_up: bool = False
    missing: int = field(default=1)


class Releases:
    """Every card that is being given back. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[tuple[ServiceKey, str], _Release] = {}

    @property
    def pending(self) -> bool:
        """Whether the cards must be looked at soon."""
        return any(not one.given_up for one in self._open.values())

    def begin(
        self,
        key: ServiceKey,
        used: Mapping[str, int | None],
        pids: Mapping[int, str],
        inventory: Inventory,
    ) -> None:
        """A service begins to end. `used` is bytes by card, `pids` the card of each process."""
        for uuid, memory in used.items():
            before = self._open.get((key, uuid))
            if before is not None and not before.given_up:
                continue
            card = inventory.card(uuid)
            mine = frozenset(pid for pid, where in pids.items() if where == uuid)
            free = card.free if card is not None else None
            release = _Release(key, uuid, memory, free, mine, missing=max(1, memory or 1))
            self._open[key, uuid] = release

    def still(
        self,
        used: Mapping[ServiceKey, Mapping[str, int | None]],
        pids: Mapping[ServiceKey, Mapping[int, str]],
        inventory: Inventory,
    ) -> None:
        """A look while some are being stopped: what they have now counts if that is more."""
        for one in self._open.values():
            card, now = inventory.card(one.uuid), used.get(one.key, {}).get(one.uuid)
            if one.ended is not None or card is None or now is None or now <= (one.used or 0):
                continue
            mine = {pid for pid, where in pids.get(one.key, {}).items() if where == one.uuid}
            one.used, one.free, one.missing = now, card.free, max(1, now)
            one.pids |= frozenset(mine)

    def ended(self, key: ServiceKey, now: float) -> None:
        """Its main process and what belonged to it are gone, as far as its driver can tell."""
        for one in self._open.values():
            if one.key == key and one.ended is None:
                one.ended = now

    def lingering(self) -> dict[str, tuple[Lingering, ...]]:
        """What is not back yet, by card."""
        found: dict[str, tuple[Lingering, ...]] = {}
        for one in self._open.values():
            if one.ended is not None:
                row = Lingering(one.key, one.missing, coming=not one.given_up)
                found[one.uuid] = (*found.get(one.uuid, ()), row)
        return found

    def look(
        self, inventory: Inventory, left: Mapping[ServiceKey, Collection[str]], now: float
    ) -> Iterator[tuple[ServiceKey, Reason]]:
        """Compare with what is there now; yields what was proved or given up.

        `left` are the cards on which living processes of a service are, proved to be its own.
        """
        for place, one in list(self._open.items()):
            card = inventory.card(one.uuid)
            if card is None or card.lost:
                del self._open[place]  # what a lost card holds nobody can say, nor use
                continue
            if one.ended is None:
                continue
            listed = {process.pid for process in card.processes or ()} & one.pids
            alive = one.uuid in left.get(one.key, ())
            gone = not listed and not alive
            back = _is_back(one, card)
            took = now - one.ended
            if gone and back:
                del self._open[place]
                yield (
                    one.key,
                    because(
                        "gpu.released",
                        service=str(one.key),
                        gpu=card.index,
                        memory=one.used,
                        took=round(took, 2),
                    ),
                )
            elif not one.given_up and took > (_PROCESSES_WITHIN if alive else _WITHIN):
                one.given_up = True
                yield (
                    one.key,
                    because(
                        "gpu.not_returned",
                        service=str(one.key),
                        gpu=card.index,
                        missing=one.missing,
                    ),
                )


def _is_back(one: _Release, card: Gpu) -> bool:
    """Whether its memory is free, or somebody else's; keeps what is still missing."""
    if one.used is None or one.free is None or card.free is None:
        return True  # the driver told nothing that could be compared
    risen = max(0, card.free - one.free)
    unnamed = nameless(card)
    if unnamed is not None:
        # What the driver still lists under a dead process of its own is nobody else's either.
        unnamed += sum(one_.memory or 0 for one_ in card.processes or () if one_.pid in one.pids)
    missing = max(0, one.used - risen)
    one.missing = max(1, missing if unnamed is None else min(missing, max(0, unnamed)))
    if risen >= _BACK * one.used:
        return True
    return unnamed is not None and unnamed <= max(_UNNAMED, (1 - _BACK) * one.used)
