"""The GPUs of one agent: looked at when somebody needs them, given out, and proved to be free again.

`planning.gpu_plan` decides; here is what a decision needs. The cards are looked at only while a service
that needs one is defined and somebody wants it, or while a person asks. Places are remembered in the
store, so that the next agent knows who is where. When a service that had a place ends, its card is
watched every quarter of a second until none of its processes is on it and its memory is back: until then
nobody else starts there, and what never comes back is named. What cannot be known stops nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from lictor.core.drivers.tree import read_proc
from lictor.core.model.desired import DesiredState, Source
from lictor.core.model.gpu import Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Verb
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning.gpu_plan import Board, Place, cards_of, takes_gpu
from lictor.core.planning.placement import Card, Stranger
from lictor.core.ports_gpu import GpuProbe
from lictor.core.runtime.gpu.ledger import Ledger
from lictor.core.runtime.gpu.owners import Owned, Owners
from lictor.core.runtime.gpu.release import Releases
from lictor.core.runtime.gpu.use import UseWatch

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent
    from lictor.core.runtime.supervision.runner import Runner

log = logging.getLogger(__name__)

_FRESH = 0.5  # seconds that a start may rely on a look
_PROOF = 0.25  # seconds between two looks while memory is to come back
_WAITING, _RUNNING = (
    2.0,
    5.0,
)  # seconds between two looks while somebody waits, and while all is calm
_PATIENCE = 3.0  # seconds that a person waits for a look
_NOTHING = Known(Inventory(problem="no_library"))


class Gpus:
    """What the agent knows of its cards. Belongs to the event loop's thread."""

    def __init__(self, agent: Agent, probe: GpuProbe | None) -> None:
        self._agent = agent
        self._probe = probe
        self._owners = Owners(agent.owner.uuid)
        self._uses = UseWatch()
        self._releases = Releases()
        self._looking: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        self._seen: Known[Inventory] | Unknown = Unknown(because("gpu.looking"))
        self._looked = float("-inf")
        self._hurry = False
        self._ledger = Ledger(agent.tools.store)
        self._loads: dict[ServiceKey, float] = {}
        self._wanted: dict[ServiceKey, tuple[DesiredState, float | None]] = {}
        self._used: dict[ServiceKey, dict[str, int | None]] = {}
        self._pids: dict[ServiceKey, dict[int, str]] = {}
        self._strangers: dict[str, tuple[Stranger, ...]] = {}
        self._left: dict[ServiceKey, set[str]] = {}

    # --- what the plan and the runners ask ------------------------------------------------------

    def load(self) -> None:
        """What an earlier agent gave out, and the most that each service was seen to take."""
        self._ledger.load()

    @property
    def concerned(self) -> bool:
        """Whether any service of this host needs a card."""
        return any(takes_gpu(want) for want in self._agent.reconciler.desired.values())

    @property
    def seen(self) -> Known[Inventory] | Unknown:
        """The last look."""
        return self._seen

    def board(self) -> Board | None:
        """What a plan needs to know; None where nobody needs a card."""
        if not self.concerned:
            return None
        return Board(
            seen=self._seen,
            fresh=self._age() <= _FRESH,
            places=self._ledger.places,
            used=self._used,
            strangers=self._strangers,
            lingering=self._releases.lingering(),
            idle_since=self._uses.idle_since,
            ordered=frozenset(self._ledger.orders),
            peaks=self._ledger.peaks(self._agent.reconciler.desired),
            loads=self._loads,
        )

    def cards(self) -> list[Card]:
        """Every card with everybody on it, as it was last seen."""
        agent = self._agent
        board = self.board() or Board(seen=self._seen, strangers=self._strangers)
        now = agent.tools.clock.now()
        return cards_of(board, agent.reconciler.desired, agent.reconciler.actual(), now)

    def process_ids(self, key: ServiceKey) -> Mapping[int, str]:
        """The processes of a service on cards: the card of each by its pid."""
        return self._pids.get(key, {})

    def ordered(self, keys: Iterable[ServiceKey], verb: str) -> Collection[ServiceKey]:
        """Somebody ordered these to start: until they do, others may be stopped for them.

        Returns those for which that is something new, although they may have been wanted before.
        """
        if verb == "stop":
            return ()
        desired = self._agent.reconciler.desired
        meant = {
            key
            for key in keys
            if takes_gpu(desired.get(key)) and (verb == "restart" or not self._runs(key))
        }
        self._ledger.order(meant)
        if meant:
            self._agent.reconciler.wake(*meant)
        return meant

    def desired_changed(self) -> None:
        """What is wanted changed: a start that was not wanted before is an order, config.yml is none."""
        wanted = {
            key: (want.state, want.restart_wall)
            for key, want in self._agent.reconciler.desired.items()
            if takes_gpu(want)
        }
        for key, (state, restart) in wanted.items():
            before = self._wanted.get(key)
            if state is not DesiredState.RUNNING:
                self._ledger.fulfilled([key])
            elif before is not None and before != (state, restart):
                source = self._agent.reconciler.desired[key].source
                again = before[1] != restart or not self._runs(key)
                if source is not Source.CONFIG and again:
                    self._ledger.order([key])
        self._ledger.fulfilled(self._ledger.orders - wanted.keys())
        self._wanted = wanted
        self._kick.set()

    def acting(self, action: Action) -> None:
        """A step of a plan is about to be done."""
        if action.verb is Verb.START and action.gpus:
            self._ledger.give(action.service, Place(action.gpus[0], action.claim))
            self._ledger.fulfilled([action.service])  # an order acts once

    def dressed(self, spec: ServiceSpec) -> ServiceSpec:
        """The definition with the cards that this run was given."""
        place = self._ledger.places.get(spec.key)
        if spec.gpu is None or place is None:
            return spec
        return spec.on_gpus((place.uuid,))

    def changed(self, runner: Runner, before: ServiceState) -> None:
        """A runner's state changed: whoever ends gives its place back, as soon as that is proved."""
        state, key = runner.state, runner.key
        if key not in self._ledger.places and not self._used.get(key):
            if state.reason.code == "gpu.looking":
                self._kick.set()
            return
        if state.phase is Phase.READY and before.phase is Phase.STARTING:
            self._learn_load(key, state)
        self._hurry |= state.phase is not before.phase  # what it holds at an edge is worth a look
        ending = state.phase is Phase.STOPPING and before.phase is not Phase.STOPPING
        ended = _at_work(before.phase) and not _at_work(state.phase)
        if ending or ended:
            used, pids = self._used.get(key, {}), self._pids.get(key, {})
            self._releases.begin(key, used, pids, self._inventory())
        if ended:
            self._releases.ended(key, self._agent.tools.clock.now())
            self._used.pop(key, None)
        if not _at_work(state.phase) and state.phase is not Phase.BACKOFF:
            self._ledger.give(key, None)
        self._kick.set()

    # --- looking --------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look as often as somebody needs it, for ever."""
        if self._probe is None:
            self._seen, self._looked = _NOTHING, float("inf")
            self._agent.reconciler.wake(*self._gpu_services())
            return
        try:
            while True:
                await self._wait()
                if self.concerned:
                    await self.look(max_age=0.0, patience=None)
        finally:
            if self._looking is not None:
                self._looking.cancel()
            await self._probe.close()

    async def look(
        self, *, max_age: float = 1.0, patience: float | None = _PATIENCE
    ) -> Known[Inventory] | Unknown:
        """The cards as they were at most `max_age` seconds ago; those who ask meanwhile share it.

        After `patience` seconds (None: as long as it takes) it is what was seen last: a driver that
        wakes up, or hangs, holds nobody up who only wants to know.
        """
        if self._probe is None:
            return _NOTHING
        if self._age() > max_age:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(self._probe))
            await asyncio.wait({self._looking}, timeout=patience)
            if self._looking.done():
                self._looking.result()
        return self._seen

    async def _look(self, probe: GpuProbe) -> None:
        self._hurry = False
        seen = await probe.look()
        if isinstance(seen, Known):
            await self._attribute(seen.value)
        self._seen, self._looked = seen, self._agent.tools.clock.now()
        if isinstance(seen, Known):
            self._prove(seen.value)
        self._agent.reconciler.wake(*self._gpu_services())

    async def refreshed(self) -> None:
        """A look that is young enough to plan with, if anybody needs a card at all."""
        if self.concerned:
            await self.look(max_age=_FRESH / 2)

    async def _wait(self) -> None:
        """Until the next look is due; whatever may make it due earlier wakes this."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            self._kick.clear()
            pause = self._pause()
            if pause is not None and loop.time() - begun >= pause:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if pause is None else begun + pause - loop.time()):
                    await self._kick.wait()

    def _pause(self) -> float | None:
        """Seconds until the next look; None: nobody needs any."""
        desired, runners = self._agent.reconciler.desired, self._agent.reconciler.runners
        phases = [
            runner.state.phase
            for key, runner in runners.items()
            if takes_gpu(desired.get(key)) or key in self._ledger.places
        ]
        wanting = any(
            want.state is DesiredState.RUNNING and not runners[key].state.phase.running
            for key, want in desired.items()
            if takes_gpu(want) and key in runners
        )
        looking = any(runner.state.reason.code == "gpu.looking" for runner in runners.values())
        if self._hurry or (looking and self._age() > _FRESH):
            return 0.0
        if self._releases.pending:
            return _PROOF
        if wanting or Phase.STARTING in phases:
            return _WAITING
        return _RUNNING if any(phase.running for phase in phases) else None

    async def _attribute(self, inventory: Inventory) -> None:
        """Whose the processes on the cards are, who is busy, and who took more than ever before."""
        mains = self._mains()
        where = {
            one.pid: (card.uuid, one.memory)
            for card in inventory.cards
            for one in card.processes or ()
        }
        found = self._owners.of(where.keys(), mains)
        over = self._owners.leftovers(found, {**dict.fromkeys(self._at_work()), **mains})
        self._share(inventory, found, over)
        self._end(over)
        running = self._running_specs()
        pids = {spec.key: set(self._pids.get(spec.key, ())) for spec in running}
        await self._uses.look(running, pids, inventory, self._agent.tools.clock.now())
        self._learn_peaks(running)

    def _share(
        self, inventory: Inventory, found: Mapping[int, Owned | None], over: Collection[Owned]
    ) -> None:
        left = {owned.proc.pid for owned in over}
        self._left = {}
        used: dict[ServiceKey, dict[str, int | None]] = {}
        pids: dict[ServiceKey, dict[int, str]] = {}
        strangers: dict[str, tuple[Stranger, ...]] = {}
        for card in inventory.cards:
            for one in card.processes or ():
                owned = found.get(one.pid)
                if owned is not None and one.pid in left and not _alive(owned):
                    continue  # what it leaves behind is on its service's account, see `release`
                if owned is None or one.pid in left:
                    stranger = Stranger(one.pid, one.memory, ours=owned is not None)
                    strangers[card.uuid] = (*strangers.get(card.uuid, ()), stranger)
                    if owned is not None:
                        self._left.setdefault(owned.key, set()).add(card.uuid)
                    continue
                mine = used.setdefault(owned.key, {})
                before = mine.get(card.uuid, 0)
                both = before is not None and one.memory is not None
                mine[card.uuid] = (before or 0) + (one.memory or 0) if both else None
                pids.setdefault(owned.key, {})[one.pid] = card.uuid
        self._used, self._pids, self._strangers = used, pids, strangers

    def _end(self, over: Collection[Owned]) -> None:
        for owned in self._owners.end(over):
            said = because("gpu.orphan_ended", pid=owned.proc.pid, service=str(owned.key))
            log.warning("pid %d outlived %s and is ended", owned.proc.pid, owned.key)
            self._agent.record("gpu", str(owned.key), said)

    def _prove(self, inventory: Inventory) -> None:
        now = self._agent.tools.clock.now()
        self._releases.still(self._used, self._pids, inventory)
        for key, reason in self._releases.look(inventory, self._left, now):
            self._tell(key, reason)

    def _tell(self, key: ServiceKey, reason: Reason) -> None:
        log.info("%s: %s", key, reason.code, extra={"service": str(key)})
        self._agent.record("gpu", str(key), reason)

    # --- what is remembered ---------------------------------------------------------------------

    def _learn_load(self, key: ServiceKey, state: ServiceState) -> None:
        if state.started is not None and state.ready_since is not None:
            self._loads[key] = max(1.0, state.ready_since - state.started)

    def _learn_peaks(self, running: Iterable[ServiceSpec]) -> None:
        for spec in running:
            told = self._used.get(spec.key, {}).values()
            self._ledger.took(spec, max((value for value in told if value is not None), default=0))

    # --- small things ---------------------------------------------------------------------------

    def _age(self) -> float:
        return self._agent.tools.clock.now() - self._looked

    def _inventory(self) -> Inventory:
        return self._seen.value if isinstance(self._seen, Known) else Inventory()

    def _runs(self, key: ServiceKey) -> bool:
        runner = self._agent.reconciler.runners.get(key)
        return runner is not None and runner.state.phase.running

    def _gpu_services(self) -> list[ServiceKey]:
        return [key for key, want in self._agent.reconciler.desired.items() if takes_gpu(want)]

    def _at_work(self) -> list[ServiceKey]:
        """Services that run or are being started or ended: what is theirs is no left-over."""
        runners = self._agent.reconciler.runners.items()
        return [key for key, runner in runners if _at_work(runner.state.phase)]

    def _mains(self) -> dict[ServiceKey, Identity]:
        return {
            key: runner.state.identity
            for key, runner in self._agent.reconciler.runners.items()
            if runner.state.identity is not None
        }

    def _running_specs(self) -> list[ServiceSpec]:
        phases = {Phase.READY, Phase.UNHEALTHY}
        return [
            runner.spec
            for key, runner in self._agent.reconciler.runners.items()
            if runner.state.phase in phases and (key in self._ledger.places or key in self._used)
        ]


def _at_work(phase: Phase) -> bool:
    """Whether it may have processes: also when nobody can say."""
    return phase.running or phase is Phase.UNKNOWN


def _alive(owned: Owned) -> bool:
    now = read_proc(owned.proc.pid)
    return now is not None and not now.dead and now.start == owned.proc.start
