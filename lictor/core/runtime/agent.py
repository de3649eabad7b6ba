"""The agent: everything that runs, in the order in which it must begin and end.

Begin: lock, memory, adopt what runs, start what should run, answer the CLI; only then the slow
parts (Consul's client, the web) are brought up. End: stop services in waves (or let them go),
withdraw from Consul, stop the embedded Consul last. The agent decides nothing about services; it
connects the parts that do.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lictor import __version__
from lictor.core.config.diff import ConfigDiff, diff
from lictor.core.config.settings import Config
from lictor.core.model.desired import Desired
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Param, Reason, because
from lictor.core.model.spec import ParamSpec, ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning.overrides import Host, InForce, held_as, merge, next_expiry
from lictor.core.planning.registration import Owner
from lictor.core.ports import Usage
from lictor.core.runtime import views
from lictor.core.runtime.background import Background
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.desired.holds import Holds
from lictor.core.runtime.desired.keeper import DesiredKeeper
from lictor.core.runtime.equipment import Equipment
from lictor.core.runtime.gpu.gpus import Gpus
from lictor.core.runtime.meters import LoopLag
from lictor.core.runtime.models.switching import Models
from lictor.core.runtime.registry import published
from lictor.core.runtime.registry.consul_side import ConsulSide
from lictor.core.runtime.registry.publisher import Publisher
from lictor.core.runtime.storage.codec import key_from, state_from
from lictor.core.runtime.supervision.careful import CarefulRunner, restored
from lictor.core.runtime.supervision.log_keeper import LogKeeper
from lictor.core.runtime.supervision.one_run import OneRun
from lictor.core.runtime.supervision.outcomes import Outcomes
from lictor.core.runtime.supervision.progress_watch import ProgressWatch
from lictor.core.runtime.supervision.reconciler import Reconciler
from lictor.core.runtime.supervision.runner import Runner
from lictor.core.runtime.supervision.succession import Succession
from lictor.core.runtime.supervision.surroundings import Surroundings
from lictor.core.runtime.supervision.telling import Change, Telling

log = logging.getLogger(__name__)

_FIRST_WAVE = 5.0  # seconds the first starts may hold up the socket, Consul and the web

_LONG_AGO = 10.0  # seconds since a look at CPU over which its mean says nothing of now
_A_MOMENT = 0.3  # seconds over which CPU is measured then


class Agent:
    """One agent on one data_dir. All methods belong to the event loop's thread."""

    def __init__(self, config: Config, tools: Equipment) -> None:
        self.config = config
        self.tools = tools
        self.node = tools.datadir.node(config.agent.node)
        self.owner = Owner(uuid=tools.datadir.agent_id(), node=self.node)
        self.bell = Bell()
        self.web_url: str | None = None
        self.background = Background()
        self._telling = Telling(tools.store)
        self.lag = LoopLag()
        self.keeper = DesiredKeeper(
            tools.store, self.desired_changed, self._desired_event, self._desired_of
        )
        self.holds = Holds(tools.store, self._hold_event)
        self.outcomes = Outcomes(self)
        self.one_run = OneRun(self)
        self.models = Models(self)
        self.gpus = Gpus(self, tools.gpus)
        self.reconciler = Reconciler(
            tools.clock, self._forgotten, board=self.gpus.board, acting=self.gpus.acting
        )
        self.publisher = Publisher(self._actual_document, self.jitter)
        self._infrastructure: dict[ServiceKey, ServiceSpec] = {}
        self.consul = ConsulSide(self)
        self._around = Surroundings(
            clock=tools.clock,
            prober=tools.prober,
            changed=self._changed,
            wake=self.reconciler.wake,
            consul_watches=self.consul.watches,
            port_holder=tools.port_holder,
            jitter=self.jitter,
            dressed=self.dressed,
            leave=self.consul.leave,
        )
        self._succession = Succession(self)
        self._expiry: asyncio.TimerHandle | None = None
        self._ending = asyncio.Event()
        self._keep = False
        self._done = asyncio.Event()

    # --- life ---------------------------------------------------------------------------

    async def run(self, opened: Callable[[], Awaitable[None]]) -> None:
        """Run until told to stop. `opened` is awaited once the first services were started."""
        try:
            self.begin()
            await self._first_wave()
            await opened()
            self.background.keep("reconcile", self.reconciler.keep_passing)
            self.background.keep("consul", self.consul.attend)
            runners = self.reconciler.runners
            logs = LogKeeper(self.tools.clock, runners.values, self.record)
            self.background.keep("logs", logs.attend)
            self.background.keep("lag", self.lag.measure)
            self.background.keep("gpus", self.gpus.watch)
            self.background.keep("progress", ProgressWatch(self).attend)
            self.background.keep("models", self.models.attend)
            self.background.keep("loads", self.models.loads.attend)
            if self.tools.web is not None:
                web = self.tools.web
                self.background.keep("web", lambda: web(self))
            await self._ending.wait()
            await self._end()
        finally:
            await self.background.cancel()
            self._telling.now()
            self._done.set()

    def begin(self) -> None:
        """Adopt what runs, and start what should run."""
        embedded = self.tools.link.service()
        if embedded is not None:
            self._infrastructure[embedded.key] = embedded
        self.keeper.load()
        self.holds.load()
        self.gpus.load()
        self._make_runners(self._specs())
        self._restore()
        self.reconciler.want(self._merged())
        self.gpus.desired_changed()
        self.outcomes.load()
        self.models.load()
        self.reconciler.resume()
        self.record("agent", "", because("agent.started", version=__version__))

    async def _first_wave(self) -> None:
        """Wait until what can start at once was executed.

        What comes next imports much, in threads too, and each spawn would have to wait for its turn
        at the interpreter: 200 services would take two to three times as long.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _FIRST_WAVE
        while loop.time() < end:
            await asyncio.sleep(0.001)  # also lets the first plan be made
            if not any(_executing(runner) for runner in self.reconciler.runners.values()):
                return

    @staticmethod
    def jitter() -> float:
        """A number in [-1, 1] that keeps things from happening in step."""
        return random.uniform(-1.0, 1.0)  # noqa: S311 - spreads load, guards nothing

    def stop(self, *, keep: bool) -> None:
        """Begin the end; `keep` leaves the services running and registered."""
        self._keep = keep
        self._ending.set()
        self.bell.ring()

    @property
    def ending(self) -> bool:
        """Whether it was told to stop."""
        return self._ending.is_set()

    async def stopped(self) -> None:
        """Wait until everything has ended."""
        await self._done.wait()

    def kill_all(self) -> None:
        """Do not wait for anybody's grace time any more (a second INT)."""
        for runner in self.reconciler.runners.values():
            runner.hurry()

    async def _end(self) -> None:
        log.info("ending", extra={"keep": self._keep})
        await self.models.end()
        if self._keep:
            self.reconciler.pause()
            for runner in self.reconciler.runners.values():
                runner.let_go()
            await self.consul.last_words(everything=False)
            self.record("agent", "", because("agent.left_running"))
            return
        self.reconciler.halt(spare=frozenset(self._infrastructure))
        while not self._at_rest(spare=True):
            await self.bell.wait(1.0)
        await self.consul.last_words(everything=True)
        self.reconciler.halt(spare=frozenset())
        while not self._at_rest(spare=False):
            await self.bell.wait(1.0)
        self.record("agent", "", because("agent.stopped"))

    def _at_rest(self, *, spare: bool) -> bool:
        return not any(
            runner.state.phase.running
            for key, runner in self.reconciler.runners.items()
            if not (spare and key in self._infrastructure)
        )

    # --- config -------------------------------------------------------------------------

    def reload(self) -> ConfigDiff:
        """Read config.yml again; raises `ConfigError` and changes nothing if it is wrong."""
        fresh = self.tools.load()
        changes = diff(self.config, fresh)
        self._succession.note(self.config.services, fresh.services)
        self.config = fresh
        self._make_runners(self._specs())
        self.keeper.reconsider()
        self.desired_changed()
        self.record("config", "", because("config.reloaded"))
        return changes

    def _specs(self) -> dict[ServiceKey, ServiceSpec]:
        return {**self._infrastructure, **self._succession.staying(), **self.config.services}

    def _make_runners(self, specs: Mapping[ServiceKey, ServiceSpec]) -> None:
        """A runner for every defined service. A driver that we do not have yet starts nothing."""
        for key, spec in specs.items():
            driver = self.tools.drivers.get(spec.driver) or self.tools.drivers["observed"]
            runner = self.reconciler.runners.get(key)
            if runner is None:
                self.reconciler.runners[key] = CarefulRunner(spec, driver, self._around)
            elif runner.driver is not driver:
                runner.use(driver)

    def _restore(self) -> None:
        rows = self.tools.store.load("services")
        for name, row in rows.items():
            key, state = key_from(name), state_from(row)
            if key is None or state is None:
                continue
            runner = self.reconciler.runners.get(key)
            if runner is None:
                # No longer in the config: adopt what an earlier agent started, to stop it, and end
                # what is left of it.
                spec = ServiceSpec(key=key, registered=False)
                runner = CarefulRunner(spec, self.tools.drivers["process"], self._around)
                self.reconciler.runners[key] = runner
            restored(runner, state, self.tools.drivers)
        for runner in self.reconciler.runners.values():
            if not runner.state.phase.running and runner.driver.kind in {"process", "auto"}:
                runner.adopt_stray()

    # --- desired ------------------------------------------------------------------------

    def _merged(self) -> Desired:
        wall = self.tools.clock.wall()
        self.holds.expire(wall)
        documents = self.keeper.documents
        self._expire_at(next_expiry(documents, wall, self.holds.held), wall)
        return self._desired_of(documents)

    def _desired_of(self, documents: InForce) -> Desired:
        """What documents make of this host's config and holds."""
        wall, held = self.tools.clock.wall(), self.holds.held
        host = Host(mode=self.config.agent.mode, drivers=frozenset(self.tools.drivers))
        specs = self._specs().values()
        merged = merge(specs, documents, wall=wall, host=host, holds=held)
        return self._succession.in_turn(merged)

    def desired_changed(self) -> None:
        """A document, a hold or the config changed: merge again, and let it take effect."""
        self.reconciler.want(self._merged())
        self.gpus.desired_changed()
        self.publisher.touch(*self.reconciler.runners)
        self.consul.wake()
        self.outcomes.look_at_all()
        self.bell.ring()

    def _expire_at(self, when: float | None, wall: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if when is not None:
            # Wall clocks jump: look again at least once a minute instead of trusting one long sleep.
            delay = min(max(0.05, when - wall), 60.0)
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_later(delay, self.desired_changed)

    def _desired_event(self, subject: str, reason: Reason) -> None:
        self.record("desired", subject, reason)

    def _hold_event(self, subject: str, reason: Reason) -> None:
        self.record("hold", subject, reason)

    def params_of(self, key: ServiceKey) -> Mapping[str, ParamSpec] | None:
        """The parameters KV may set for a service of this host; None: no such service here."""
        if key in self.config.services:
            return self.config.services[key].params
        for other, spec in self.config.services.items():
            if other.name == key.name and not key.instance:
                return spec.params
        return None

    # --- services -----------------------------------------------------------------------

    def dressed(self, spec: ServiceSpec) -> ServiceSpec:
        """The definition as the next run is to have it."""
        return self.gpus.dressed(self.one_run.dressed(spec))

    def _changed(self, runner: Runner, before: ServiceState) -> None:
        """A runner's state changed: look at its neighbours, tell Consul, and soon everybody."""
        state, key = runner.state, runner.key
        change = Change(key, state, before, self.tools.clock.wall())
        self._telling.add(change)
        if change.visible:
            self.reconciler.wake(key)
        self.outcomes.look(key)
        self.gpus.changed(runner, before)
        self.models.loads.changed(runner, before)
        if state.phase is Phase.READY and before.phase is Phase.STARTING:
            self.consul.became_ready(key)
        self.consul.wake()
        self.publisher.touch(key)
        self.bell.ring()

    def _forgotten(self, key: ServiceKey) -> None:
        self._telling.now()
        self.tools.store.save("services", str(key), None)
        self.publisher.touch(key)
        self.consul.wake()
        self.bell.ring()

    def record(
        self, kind: str, subject: str, reason: Reason, who: str = "lictor", **data: Param
    ) -> None:
        """One line of the journal."""
        self._telling.now()
        at = self.tools.clock.wall()
        self.tools.store.record(
            at=at, kind=kind, subject=subject, reason=reason, who=who, data=data
        )

    # --- views --------------------------------------------------------------------------

    def usage(self) -> Mapping[ServiceKey, Usage]:
        """What each running service uses, sampled now or at most two seconds ago."""
        return self.tools.usage.sample(self._roots())

    async def figures(self) -> Mapping[ServiceKey, Usage]:
        """The same with descriptors and connections, and CPU of this moment."""
        probe, roots = self.tools.usage, self._roots()
        if probe.age() > _LONG_AGO:
            probe.sample(roots)
            await asyncio.sleep(_A_MOMENT)
            return await asyncio.to_thread(probe.sample, roots, details=True, max_age=_A_MOMENT / 2)
        return await asyncio.to_thread(probe.sample, roots, details=True)

    def _roots(self) -> dict[ServiceKey, Identity]:
        return {
            key: runner.state.identity
            for key, runner in self.reconciler.runners.items()
            if runner.state.identity is not None and runner.state.identity.pid
        }

    def view(self, key: ServiceKey, usage: Mapping[ServiceKey, Usage]) -> dict[str, Any]:
        """The record of one service."""
        runner = self.reconciler.runners[key]
        want = self.reconciler.desired.get(key)
        return views.record(
            key,
            runner.spec,
            runner.state,
            want,
            node=self.node,
            now=self.tools.clock.now(),
            usage=usage.get(key),
            registered=self.consul.holds(key),
            more=self.models.parts(key),
        ) | {"flaps": self.consul.flaps(key)}

    def _actual_document(self, key: ServiceKey) -> dict[str, Any] | None:
        if key not in self.reconciler.runners or key in self._infrastructure:
            return None
        want, state = self.reconciler.desired.get(key), self.reconciler.runners[key].state
        place = held_as(key, self.holds.held, self.tools.clock.wall())
        return published.document(self.view(key, {}), want, state, place)

    @property
    def infrastructure(self) -> frozenset[ServiceKey]:
        """Services that Lictor runs for itself (the embedded Consul)."""
        return frozenset(self._infrastructure)


def _executing(runner: Runner) -> bool:
    """Whether a start is under way that has neither a process nor a job to show yet."""
    state = runner.state  # (what an engine starts is waited for by nobody)
    begun = state.phase is Phase.STARTING and state.identity is None
    return begun and state.reason.code != "starting.before" and runner.driver.kind == "process"
