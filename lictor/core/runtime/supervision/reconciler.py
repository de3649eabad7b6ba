"""Turns "something may have changed" into plans, and plans into work for runners.

Events only wake it; every decision comes from the snapshot, so a lost event costs latency, never
correctness. A wake-up plans the services that were named and their neighbours; a full pass every
ten seconds plans all of them. Both call the one `plan` function.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from lictor.core.model.desired import Desired, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Plan, Verb
from lictor.core.model.state import Identity, ServiceState
from lictor.core.planning.gpu_plan import Board
from lictor.core.planning.reconcile import plan
from lictor.core.ports import Clock
from lictor.core.runtime.meters import Histogram
from lictor.core.runtime.supervision.runner import Runner

log = logging.getLogger(__name__)

FULL_PASS = 10.0  # seconds


class Reconciler:
    """Owns the snapshot and the map of runners. Lives in the event loop's thread.

    `board` says what a plan needs to know of GPUs; `acting` hears of each step before it is done.
    """

    def __init__(
        self,
        clock: Clock,
        on_forget: Callable[[ServiceKey], None],
        *,
        board: Callable[[], Board | None] = lambda: None,
        acting: Callable[[Action], None] = lambda _: None,
    ) -> None:
        self._board, self._acting = board, acting
        self.runners: dict[ServiceKey, Runner] = {}
        self._clock = clock
        self._on_forget = on_forget
        self._desired: Desired = {}
        self._neighbours: Mapping[ServiceKey, frozenset[ServiceKey]] = {}
        self._dirty: set[ServiceKey] = set()
        self._scheduled = False
        self._paused = True
        self._halted = False
        self._spared: frozenset[ServiceKey] = frozenset()
        self._memory: Mapping[ServiceKey, tuple[Identity, int]] = {}
        self.broken: dict[ServiceKey, str] = {}
        self.took = Histogram()

    @property
    def desired(self) -> Desired:
        """What is wanted now (all stopped, once `halt` was called)."""
        return self._desired

    def actual(self) -> dict[ServiceKey, ServiceState]:
        """The state of every runner."""
        return {key: runner.state for key, runner in self.runners.items()}

    def want(self, desired: Desired) -> None:
        """Take a new desired state and plan what differs."""
        if self._halted:
            desired = _all_stopped(desired, self._spared)
        changed = [key for key in {**self._desired, **desired} if self._differs(key, desired)]
        self._desired = desired
        self._neighbours = _neighbours(desired)
        for key in changed:
            want = desired.get(key)
            runner = self.runners.get(key)
            if want is not None and runner is not None:
                runner.update(want.spec)
        self.wake(*changed)

    def halt(self, *, spare: frozenset[ServiceKey]) -> None:
        """From now on everything but `spare` is to be stopped, whatever else is wanted."""
        self._halted, self._spared = True, spare
        self.want(self._desired)
        self.wake(*self._desired, *self.runners)

    def resume(self) -> None:
        """Begin to act: until then, plans are only shown (start-up, adoption)."""
        self._paused = False
        self.wake(*self._desired, *self.runners)

    def pause(self) -> None:
        """Act no more: the services are another agent's from now on."""
        self._paused = True

    def wake(self, *keys: ServiceKey) -> None:
        """Something about these services may have changed."""
        self._dirty.update(keys)
        for key in keys:
            self._dirty |= self._neighbours.get(key, frozenset())
        if self._dirty and not self._scheduled and not self._paused:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pass)

    def weighed(self, memory: Mapping[ServiceKey, tuple[Identity, int]]) -> None:
        """What some runs were just seen to use, in bytes; it says nothing about any later run."""
        self._memory = memory

    def preview(self) -> Plan:
        """What would be done now, for `lictor plan`."""
        return self._plan({**self._desired, **self.runners})

    async def keep_passing(self) -> None:
        """The safety net: a full pass every ten seconds, for ever."""
        while True:
            await asyncio.sleep(FULL_PASS)
            self.wake(*self._desired, *self.runners)

    def _pass(self) -> None:
        self._scheduled = False
        if self._paused:
            return
        dirty, self._dirty = self._dirty, set()
        begun = time.perf_counter()
        self._act(self._plan(dirty))
        self.took.observe(time.perf_counter() - begun)

    def _plan(self, keys: Iterable[ServiceKey]) -> Plan:
        """The next steps of some services. One that cannot be planned keeps no other from it."""
        actual, now, used = self.actual(), self._clock.now(), self._used()
        try:
            found = plan(self._desired, actual, now, only=keys, memory=used, board=self._board())
        except Exception:  # noqa: BLE001 - told below, of the service that it is about
            return self._plan_one_by_one(keys, actual, now, used)
        for key in self.broken.keys() & set(keys):
            del self.broken[key]
        return found

    def _plan_one_by_one(
        self,
        keys: Iterable[ServiceKey],
        actual: Mapping[ServiceKey, ServiceState],
        now: float,
        used: Mapping[ServiceKey, int],
    ) -> Plan:
        steps: dict[ServiceKey, Action] = {}
        for key in dict.fromkeys(keys):
            try:
                found = plan(
                    self._desired, actual, now, only=[key], memory=used, board=self._board()
                )
            except Exception as error:
                if key not in self.broken:
                    log.exception("no plan for %s", key, extra={"service": str(key)})
                self.broken[key] = f"{type(error).__name__}: {error}"
            else:
                self.broken.pop(key, None)
                steps |= {action.service: action for action in found.actions}
        return Plan(tuple(steps.values()))

    def _used(self) -> Mapping[ServiceKey, int]:
        return {
            key: used
            for key, (identity, used) in self._memory.items()
            if key in self.runners and self.runners[key].state.identity == identity
        }

    def _act(self, todo: Plan) -> None:
        for action in todo.actions:
            runner = self.runners.get(action.service)
            if runner is None:
                continue
            want = self._desired.get(action.service)
            self._acting(action)
            try:
                runner.act(action, restart_wall=want.restart_wall if want else None)
            except Exception:  # one broken service must never stop the others
                log.exception("action failed", extra={"service": str(action.service)})
                continue
            if action.verb is Verb.FORGET and not runner.state.phase.running:
                del self.runners[action.service]
                self._on_forget(action.service)

    def _differs(self, key: ServiceKey, desired: Desired) -> bool:
        return self._desired.get(key) != desired.get(key)


def _all_stopped(desired: Desired, spare: frozenset[ServiceKey]) -> Desired:
    return {
        key: want
        if key in spare
        else replace(want, state=DesiredState.STOPPED, source=Source.HOLD, by="", why="")
        for key, want in desired.items()
    }


def _neighbours(desired: Desired) -> Mapping[ServiceKey, frozenset[ServiceKey]]:
    """Who must be looked at again when this one changes: its dependents and its dependencies."""
    by_name: dict[str, set[ServiceKey]] = {}
    for key in desired:
        by_name.setdefault(key.name, set()).add(key)
    result: dict[ServiceKey, set[ServiceKey]] = {}
    for key, want in desired.items():
        for dependency in want.spec.depends_on:
            for other in by_name.get(dependency.name, ()):
                result.setdefault(key, set()).add(other)
                result.setdefault(other, set()).add(key)
    return {key: frozenset(others) for key, others in result.items()}


def keys_named(names: Iterable[ServiceKey], known: Iterable[ServiceKey]) -> list[ServiceKey]:
    """The services meant by what was typed: `piper` means all instances of piper."""
    known = list(known)
    result: dict[ServiceKey, None] = {}
    for name in names:
        if name in known:
            result[name] = None
        elif not name.instance:
            result.update(dict.fromkeys(key for key in known if key.name == name.name))
    return list(result)
