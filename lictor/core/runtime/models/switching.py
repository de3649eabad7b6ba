"""Switches of models under way: feeds `planning.model_switch` with what is so, and does what it says.

A switch is a value in the store before anything is done for it, so an agent that comes after a
`kill -9` finishes it or goes back. All that is ever done is a change of this node's document, the
same as `lictor set` makes, and before it (where a driver has such a step) the preparation of the new
run. Nothing here starts or stops anything. An ended switch is kept until the next one: why a service
is back at its old model is a question that people ask hours later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lictor.core.model.desired import DesiredChange, DesiredState, Override
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamValue
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning import model_switch
from lictor.core.planning.model_names import PARAM, offers_choice
from lictor.core.planning.model_switch import Deed, Seen, Stage, Switch
from lictor.core.runtime import views
from lictor.core.runtime.models.loads import ModelLoads
from lictor.core.runtime.models.next_runs import NextRuns
from lictor.core.runtime.storage.codec import key_from

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

log = logging.getLogger(__name__)

_TABLE = "switches"
_ON_DISK = 3.0  # seconds that a disk may take
_FIRST_READ = 5.0  # seconds that a new agent waits for its first look into KV
_CUT = 5.0  # seconds that a preparation may take to undo what it has begun
_LOOK = 1.0  # seconds between two looks at a switch of which nothing is heard
_KEPT_SAYING = frozenset({Stage.BACK, Stage.FAILED, Stage.REFUSED})


class Models:
    """The switches of one agent, and the loads beside them. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._switches: dict[ServiceKey, Switch] = {}
        self._deeds: dict[ServiceKey, tuple[Deed, asyncio.Task[None]]] = {}
        self._inherited: set[ServiceKey] = set()  # begun under an earlier agent
        self._waits_since: float | None = None
        self._next_runs = NextRuns(agent)
        self.loads = ModelLoads(agent)

    def load(self) -> None:
        """Switches that an earlier agent knew of."""
        for name, row in self._agent.tools.store.load(_TABLE).items():
            key, switch = key_from(name), switch_from(row)
            if key is not None and switch is not None:
                self._switches[key] = switch
                self._inherited.add(key)

    def switch(self, key: ServiceKey) -> Switch | None:
        """The last switch of a service, open or ended."""
        return self._switches.get(key)

    def begin(
        self, key: ServiceKey, model: str, values: Mapping[str, ParamValue], who: str
    ) -> Switch:
        """Begin a switch in the place of one that may be under way. It is on its way to the disk."""
        agent = self._agent
        earlier = self._switches.get(key)
        clock = agent.tools.clock
        document = self._document(key)
        had = {} if document is None else document.params
        switch = model_switch.begin(
            model,
            self.seen(key),
            values=values,
            had={name: had[name] for name in values if name in had},
            who=who,
            at=clock.wall(),
            now=clock.now(),
            prepares=self._next_runs.can(key),
            earlier=earlier,
        )
        if earlier is not None and not earlier.stage.over:
            agent.record("model", str(key), because("model.replaced", model=earlier.model))
        deed = self._deeds.get(key)
        if deed is not None and deed[0] is Deed.PREPARE:
            deed[1].cancel()
        self._inherited.discard(key)
        self._remember(key, switch, who)
        return switch

    def current(self, key: ServiceKey) -> str | None:
        """The model in force of a service; None: it has none to choose, or is not defined."""
        want = self._agent.reconciler.desired.get(key)
        if want is None or not offers_choice(want.spec.params):
            return None
        return str(want.spec.param(PARAM))

    def seen(self, key: ServiceKey) -> Seen:
        """What is so of a service that is switched."""
        want = self._agent.reconciler.desired.get(key)
        runner, model = self._agent.reconciler.runners.get(key), self.current(key)
        if want is None or runner is None or model is None:
            return Seen(None, ServiceState())
        state = runner.state
        return Seen(
            model=model,
            state=state,
            wanted=want.state is DesiredState.RUNNING,
            fits=state.fingerprint == want.spec.fingerprint(),
            refused=want.refused is not None,
            why=_why(state),
        )

    # --- what people are told -------------------------------------------------------------

    def parts(self, key: ServiceKey) -> list[Reason]:
        """What the sentence of a service's state says about its model."""
        switch, loading = self._switches.get(key), self.loads.of(key)
        found = [] if loading is None else [loading.reason()]
        if switch is None or (switch.stage is Stage.LOADING and (found or self._serves(key))):
            return found
        if not switch.stage.over:
            return [model_switch.told(switch), *found]
        if switch.stage in _KEPT_SAYING and self.current(key) == switch.before:
            return [model_switch.told(switch), *found]
        return found

    def _serves(self, key: ServiceKey) -> bool:
        return self._agent.reconciler.runners[key].state.phase is Phase.READY

    def told(self, key: ServiceKey) -> dict[str, Any] | None:
        """The part of a service's row about its model; None: it has none to choose."""
        current = self.current(key)
        if current is None:
            return None
        switch, loading = self._switches.get(key), self.loads.of(key)
        return {
            "current": current,
            "stage": None if switch is None else switch.stage.value,
            "open": switch is not None and not switch.stage.over,
            "target": None if switch is None else switch.model,
            "before": None if switch is None else switch.before,
            "who": None if switch is None else switch.who,
            "percent": None if loading is None else loading.percent,
            "eta_s": None if loading is None else loading.eta,
            "grown_bytes": None if loading is None else loading.grown,
        }

    # --- the work ---------------------------------------------------------------------------

    async def attend(self) -> None:
        """Carry every open switch on, for ever."""
        bell = self._agent.bell
        while True:
            rings = bell.rings
            if not self._agent.ending:
                self._pass()
            busy = any(not switch.stage.over for switch in self._switches.values())
            if rings == bell.rings:
                await bell.wait(_LOOK if busy else None)
            else:
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        """The agent ends: its switches are the next one's, and nothing that was prepared stays."""
        preparing = [task for deed, task in self._deeds.values() if deed is Deed.PREPARE]
        for task in preparing:
            task.cancel()
        if preparing:
            await asyncio.wait(preparing, timeout=_CUT)
        await self._next_runs.end()

    def _pass(self) -> None:
        for key, switch in list(self._switches.items()):
            if switch.stage.over:
                continue
            after = model_switch.step(switch, self.seen(key), now=self._agent.tools.clock.now())
            if after != switch:
                self._remember(key, after)
            deed = model_switch.todo(after)
            if deed is not None and key not in self._deeds and self._may(key, deed):
                task = asyncio.create_task(self._do(key, after, deed))
                self._deeds[key] = deed, task

    def _may(self, key: ServiceKey, deed: Deed) -> bool:
        """Whether a switch of an earlier agent may be carried on: KV was read, or is waited for no more.

        What an agent that was killed had written may not be in our memory: an order on top of an
        older text would count as overtaken by it.
        """
        unknown = self._agent.keeper.unknown
        if deed is Deed.PREPARE or key not in self._inherited:
            return True
        if unknown is None or unknown.code != "desired.not_read_yet":
            return True
        now = self._agent.tools.clock.now()
        self._waits_since = now if self._waits_since is None else self._waits_since
        return now - self._waits_since > _FIRST_READ

    def _remember(self, key: ServiceKey, switch: Switch, who: str = "lictor") -> None:
        before = self._switches.get(key)
        self._switches[key] = switch
        self._agent.tools.store.save(_TABLE, str(key), switch_row(switch))
        if before is None or (before.at, before.stage) != (switch.at, switch.stage):
            what = model_switch.told(switch)
            log.info("%s: %s", key, views.say(what), extra={"service": str(key)})
            self._agent.record("model", str(key), what, who=who, stage=switch.stage.value)
        if switch.stage.over:
            self._next_runs.forgo(key)
        self._agent.publisher.touch(key)
        self._agent.bell.ring()

    async def _do(self, key: ServiceKey, switch: Switch, deed: Deed) -> None:
        """Do what a switch asks for, and note that it was done."""
        problem = ""
        try:
            if deed is Deed.PREPARE:
                problem = await self._next_runs.prepare(key, switch.values)
            else:
                await self._on_disk()
                await self._agent.keeper.change(key, self._change(key, switch, deed))
            now, current = self._agent.tools.clock.now(), self._switches.get(key)
            if current is not None and (current.at, current.model) == (switch.at, switch.model):
                self._remember(key, model_switch.done(current, deed, now=now, problem=problem))
        except Exception:
            log.exception("%s: %s", key, deed.value, extra={"service": str(key)})
            await asyncio.sleep(_LOOK)  # then it is tried again
        finally:
            del self._deeds[key]
            self._agent.bell.ring()

    async def _on_disk(self) -> None:
        """Wait until the way back is on disk, but not for a disk that takes nothing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ON_DISK):
                await asyncio.wrap_future(self._agent.tools.store.flushed())

    def _change(self, key: ServiceKey, switch: Switch, deed: Deed) -> DesiredChange:
        anew = self._document(key) is None and key in self._agent.keeper.documents.node
        if deed is Deed.SET_NEW:
            return DesiredChange(params=switch.values, by=switch.who, anew=anew)
        unset = tuple(name for name in switch.values if name not in switch.had)
        return DesiredChange(params=switch.had, unset_params=unset, by="lictor", anew=anew)

    def _document(self, key: ServiceKey) -> Override | None:
        """This node's document of a service, unless its end has passed."""
        found = self._agent.keeper.documents.node.get(key)
        if found is None or (found.until or float("inf")) <= self._agent.tools.clock.wall():
            return None
        return found


def _why(state: ServiceState) -> str:
    """Why a run did not get ready, in words, with the last thing it said."""
    said = state.ended_because if state.phase is not Phase.BLOCKED else None
    sentence = views.say(said or state.reason)
    if state.phase is Phase.BLOCKED or not state.last_error:
        return sentence
    return f"{sentence} {views.say(because('last_line', line=state.last_error))}"


def switch_row(switch: Switch) -> dict[str, object]:
    """A switch as a row of the store."""
    return {**asdict(switch), "stage": switch.stage.value}


def switch_from(row: Mapping[str, Any]) -> Switch | None:
    """The switch of a row; None for one of another version."""
    try:
        told = {**row, "stage": Stage(row["stage"]), "passing": tuple(row["passing"])}
        return Switch(**told)
    except (KeyError, TypeError, ValueError):
        return None
