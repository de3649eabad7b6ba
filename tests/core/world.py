"""A reconciler and its runners in a world of fakes: what an agent is without Consul, web and CLI."""

from __future__ import annotations

import asyncio
import contextlib
import json

from lictor.core.model.desired import DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Phase, ServiceState
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.storage.codec import state_from, state_row
from lictor.core.runtime.supervision.careful import CarefulRunner
from lictor.core.runtime.supervision.reconciler import Reconciler
from lictor.core.runtime.supervision.runner import Runner
from lictor.core.runtime.supervision.surroundings import Surroundings
from lictor.core.testing import FakeDriver, FakeProber, FakeRunning, MemoryStore
from tests.core.build import desired, key
from tests.core.virtual import LoopClock


class CarefulDriver(FakeDriver):
    """Notes when it is asked to run a second copy of a service beside a living one."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.doubled: list[str] = []
        self.inherited: list[FakeRunning] = []

    async def start(self, spec):
        for run in self.inherited:  # as the real one sweeps away what nobody could adopt
            if run.key == spec.key and not run.alive:
                run.end()
        if self.live(spec.key):
            self.doubled.append(str(spec.key))
        return await super().start(spec)


class World:
    """One agent. `World(after=old)` is the next agent of the same host, after the old one died."""

    def __init__(self, *wants, after: World | None = None, log_dir=None, driver=None) -> None:
        self.clock = after.clock if after else LoopClock()
        self.driver = after.driver if after else driver or CarefulDriver(log_dir=log_dir)
        self.prober = after.prober if after else FakeProber()
        self.store = MemoryStore(after.store if after else None)
        self.taken: dict[int, tuple[int, str]] = {}
        self.consul_watches = False
        self.left = asyncio.Event()  # clear it, and callers still come to those who are to go
        self.left.set()
        self._bell = Bell()
        self.history: list[tuple[ServiceKey, ServiceState, ServiceState]] = []
        self.reconciler = Reconciler(self.clock, self._forgotten)
        self._around = Surroundings(
            clock=self.clock,
            prober=self.prober,
            changed=self._changed,
            wake=self.reconciler.wake,
            consul_watches=lambda _: self.consul_watches,
            port_holder=lambda _, port: self.taken.get(port),
            jitter=lambda: 0.0,
            leave=self._leave,
        )
        self.want(*(wants or (after.reconciler.desired.values() if after else ())))
        for name, row in self.store.load("services").items():
            state = state_from(json.loads(json.dumps(row)))
            assert state is not None, row
            runner = self.reconciler.runners.get(key(name))
            if runner is None:  # adopted to be stopped, as the agent does
                bare = ServiceSpec(key=key(name), registered=False)
                runner = CarefulRunner(bare, self.driver, self._around)
                self.reconciler.runners[bare.key] = runner
            if runner is not None:
                runner.restore(state)
        for runner in self.reconciler.runners.values():
            if not runner.state.phase.running:
                runner.adopt_stray()
        self.reconciler.resume()

    def want(self, *wants) -> None:
        """From now on exactly these are defined, as said."""
        wanted = desired(*wants)
        for each in wanted.values():
            if each.spec.key not in self.reconciler.runners:
                self.reconciler.runners[each.spec.key] = CarefulRunner(
                    each.spec, self.driver, self._around
                )
        self.reconciler.want(wanted)

    def die(self) -> None:
        """The agent is gone at once; its services go on."""
        for runner in self.reconciler.runners.values():
            runner.let_go()
        self.driver.inherited = list(self.driver.runs)
        self.reconciler.runners.clear()  # a pass that was due finds nobody to act on

    def __getitem__(self, name: str) -> Runner:
        return self.reconciler.runners[key(name)]

    def state(self, name: str = "piper") -> ServiceState:
        return self[name].state

    def phase(self, name: str = "piper") -> str:
        return self.state(name).phase.value

    def running(self, name: str = "piper"):
        """The one living run of a service."""
        (run,) = self.driver.live(key(name))
        return run

    def codes(self, name: str = "piper") -> list[str]:
        """The reasons a service went through, without repetition."""
        found = [after.reason.code for k, _, after in self.history if k == key(name)]
        return [code for i, code in enumerate(found) if i == 0 or found[i - 1] != code]

    def phases(self, name: str = "piper") -> list[str]:
        """The phases a service went through, without repetition."""
        found = [after.phase.value for k, _, after in self.history if k == key(name)]
        return [phase for i, phase in enumerate(found) if i == 0 or found[i - 1] != phase]

    async def until(
        self, phase: str, name: str = "piper", *, within: float = 600.0
    ) -> ServiceState:
        """Let time pass until a service is in that phase, however briefly, and give that state."""
        seen = len(self.history)
        if self.phase(name) == phase:
            return self.state(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    await self._bell.wait()
                    for which, _, state in self.history[seen:]:
                        if which == key(name) and state.phase.value == phase:
                            return state
                    seen = len(self.history)
        raise AssertionError(f"{name} is {self.phase(name)}: {self.state(name)}")

    async def _leave(self, _key: ServiceKey) -> None:
        await self.left.wait()

    def _changed(self, runner: Runner, before: ServiceState) -> None:
        state = runner.state
        self.history.append((runner.key, before, state))
        self._bell.ring()
        self.store.save("services", str(runner.key), state_row(state))
        if state.phase is not before.phase or state.reason != before.reason:
            self.reconciler.wake(runner.key)

    def _forgotten(self, which: ServiceKey) -> None:
        self.store.save("services", str(which), None)


__all__ = ["CarefulDriver", "DesiredState", "Phase", "World"]
