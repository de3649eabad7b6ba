"""Answers "who offers this service", also while Consul is away: from what it said last.

Every good answer is remembered, and once a minute everything is asked for, so that there is something
to remember. An answer from memory says how old it is. Since when an instance is in its state is known
for what runs here, and for others from the moment at which a change was seen. The last answer about
everything is kept on disk too, for an agent that begins while Consul is away. It decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from lictor.core.errors import ConsulError
from lictor.core.model.reason import Reason
from lictor.core.ports import Clock, Discovery, Instance, Store
from lictor.core.runtime.registry.found_rows import instances_of, rows_of

_EVERY = 60.0  # seconds between two questions for everything
_AT_FIRST = (1.0, 5.0)  # seconds: what is registered here arrives bit by bit after the start
_TABLE, _EVERYTHING, _AGE = "discovery", "everything", "age"
# Seconds for a Consul that is known to be away: long enough to notice that it is back.
_BRIEFLY = 1.0
_NAMES = 64  # answers about single services that are kept; the oldest goes


@dataclass(frozen=True, slots=True)
class Found:
    """An answer. `at` is Unix seconds; `away` says why it comes from memory, None if it does not.

    `age` is seconds since Consul said it.
    """

    instances: Sequence[Instance]
    at: float
    age: float
    away: Reason | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    instances: Sequence[Instance]
    now: float
    wall: float


class Finder:
    """The memory of one agent for what discovery said. Without a `store` it ends with the agent."""

    def __init__(self, clock: Clock, store: Store | None = None) -> None:
        self._clock = clock
        self._store = store
        self._loaded = False
        self._kept: list[dict[str, object]] | None = None
        self._answers: dict[tuple[str | None, str | None], _Answer] = {}
        self._states: dict[tuple[str, str], tuple[str, float | None]] = {}
        self._anew = asyncio.Event()

    def look_again(self) -> None:
        """Consul is back, maybe for a moment only: what it says is to be remembered soon."""
        self._anew.set()

    async def find(
        self,
        discovery: Discovery,
        name: str | None,
        *,
        dc: str | None,
        near: str | None,
        doubt: Reason | None = None,
    ) -> Found:
        """Every instance of `name` (None: of all). Raises `ConsulError` if nothing is remembered.

        `doubt` is what is known to be wrong with Consul: then it is asked for a moment only, where
        there is something to answer with instead.
        """
        remembered = None if doubt is None else self.recall(name, dc=dc, away=doubt)
        try:
            async with asyncio.timeout(None if remembered is None else _BRIEFLY):
                instances = await discovery.discover(name, dc=dc, near=near)
        except TimeoutError:
            if remembered is None:
                raise
            return remembered
        except ConsulError as error:
            away = Reason(error.code, {"message": error.message})
            found = self.recall(name, dc=dc, away=away)
            if found is None:
                raise
            return found
        self._remember(name, dc, instances)
        return Found(instances, self._clock.wall(), 0.0)

    def recall(self, name: str | None, *, dc: str | None, away: Reason) -> Found | None:
        """What is remembered of `name`, while Consul cannot be asked; None: nothing is."""
        if not self._loaded:
            self.load()
        remembered = self._remembered(name, dc)
        if remembered is None:
            return None
        age = self._clock.now() - remembered.now
        return Found(remembered.instances, remembered.wall, age, away)

    def load(self) -> None:
        """What the agent before this one was told last. What it saw since when is not known."""
        self._loaded = True
        rows = self._store.load(_TABLE) if self._store is not None else {}
        instances = instances_of(rows.get(_EVERYTHING, {}).get("instances"))
        at = rows.get(_AGE, {}).get("at")
        if instances is None or not isinstance(at, int | float) or (None, None) in self._answers:
            return
        # By the wall clock, which is all that two boots have in common; it may have been put back.
        age = max(0.0, self._clock.wall() - at)
        self._answers[None, None] = _Answer(instances, self._clock.now() - age, float(at))

    def _keep_on_disk(self, instances: Sequence[Instance]) -> None:
        if self._store is None:
            return
        rows = rows_of(instances)
        if rows is None or rows != self._kept:
            self._kept = rows
            row = None if rows is None else {"instances": rows}
            self._store.save(_TABLE, _EVERYTHING, row)
        self._store.save(_TABLE, _AGE, {"at": self._clock.wall()})

    async def keep_remembering(self, discovery: Discovery) -> None:
        """Ask for everything once a minute, for ever; a failure leaves what is remembered.

        After `look_again` it begins as at first: what was asked in vain before Consul came would
        else leave nothing to remember for most of a minute.
        """
        while True:
            self._anew.clear()
            for pause in chain(_AT_FIRST, repeat(_EVERY)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._anew.wait()
                if self._anew.is_set():
                    break
                with contextlib.suppress(ConsulError):
                    self._remember(None, None, await discovery.discover())

    def since(self, one: Instance) -> float | None:
        """Since when (Unix seconds) it is in its state, if the change was seen; else None."""
        health, since = self._states.get((one.node, one.id), ("", None))
        return since if health == one.health else None

    def _remember(self, name: str | None, dc: str | None, instances: Sequence[Instance]) -> None:
        self._answers.pop((name, dc), None)
        self._answers[name, dc] = _Answer(instances, self._clock.now(), self._clock.wall())
        if name is None and dc is None:
            self._keep_on_disk(instances)
        single = [key for key in self._answers if key[0] is not None]
        for key in single[: len(single) - _NAMES]:
            del self._answers[key]
        self._watch_states(instances, everything=name is None and dc is None)

    def _watch_states(self, instances: Iterable[Instance], *, everything: bool) -> None:
        wall = self._clock.wall()
        seen: dict[tuple[str, str], tuple[str, float | None]] = {}
        for one in instances:
            key = (one.node, one.id)
            before = self._states.get(key)
            if before is not None and before[0] == one.health:
                seen[key] = before
            else:
                seen[key] = (one.health, None if before is None else wall)
        self._states = seen if everything else {**self._states, **seen}

    def _remembered(self, name: str | None, dc: str | None) -> _Answer | None:
        """The youngest answer that tells about `name`."""
        found = [self._answers[key] for key in ((name, dc), (None, dc)) if key in self._answers]
        if not found:
            return None
        youngest = max(found, key=lambda answer: answer.now)
        if name is None:
            return youngest
        chosen = [one for one in youngest.instances if one.service == name]
        return _Answer(chosen, youngest.now, youngest.wall)
