"""A whole life, at random: orders, crashes, reloads and agents that die, in virtual time.

After every step the same few things must hold; hypothesis looks for the shortest life that breaks
one of them. The next agent gets only what the store kept.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lictor.core.errors import StartFailed
from lictor.core.model.spec import HealthSpec, ProbeSpec, RestartPolicy, StopSpec
from lictor.core.model.state import Exit
from tests.core.build import key, want
from tests.core.virtual import VirtualLoop
from tests.core.world import World

NAMES = ("db", "api", "web", "job")
NEEDS = {"api": ["db"], "web": ["api"]}
LIKES = {"web": ["job"]}
PATIENCE = 400.0  # seconds in which everything must have come to where it can get

names = st.sampled_from(NAMES)


class Life(RuleBasedStateMachine):
    """One host: `self.wishes` is what its operators want, `self.fine` which services can run."""

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.wishes = {name: {"state": "running", "command": ("one", name)} for name in NAMES}
        self.fine = dict.fromkeys(NAMES, True)
        self.world = self._run(self._make())

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.close()

    # --- what may happen -------------------------------------------------------------------

    @rule(name=names, state=st.sampled_from(["running", "stopped", "maintenance"]))
    def order(self, name, state):
        if name in self.wishes:
            self.wishes[name]["state"] = state
            self._tell()

    @rule(name=names, ahead=st.sampled_from([0.0, 86_400.0]))
    def order_a_restart(self, name, ahead):
        if name in self.wishes:
            wall = self._run(self._wall())
            self.wishes[name] |= {"state": "running", "restart_wall": wall + ahead}
            self._tell()

    @rule(name=names, command=st.sampled_from(["one", "two"]))
    def redefine(self, name, command):
        if name in self.wishes:
            self.wishes[name]["command"] = (command, name)
            self._tell()

    @rule(name=st.sampled_from(["web", "job"]))
    def remove_or_define_again(self, name):
        if self.wishes.pop(name, None) is None:
            self.wishes[name] = {"state": "running", "command": ("one", name)}
        self._tell()

    @rule(name=names, code=st.integers(0, 1), children=st.booleans())
    def crash(self, name, code, children):
        for run in self.world.driver.live(key(name)):
            run.end(Exit(code=code), children=children)
        self._pass(0.0)

    @rule(name=names)
    def next_start_fails(self, name):
        self.world.driver.fail(StartFailed("no", reason_code="start.no_program", params={}))

    @rule(name=names, fine=st.booleans())
    def health_changes(self, name, fine):
        self.fine[name] = fine
        self.world.prober.say(f"http://{name}", passed=fine, output="told so")

    @rule(takes=st.sampled_from([0.0, 3.0, 1e9]))
    def stops_take(self, takes):
        self.world.driver.stop_takes = takes

    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0, 30.0, 700.0]))
    def time_passes(self, seconds):
        self._pass(seconds)

    @rule(away=st.sampled_from([0.0, 5.0, 5000.0]))
    def the_agent_dies_and_another_comes(self, away):
        self.world.die()
        self._pass(away)
        self.world = self._run(self._make(self.world))

    @precondition(lambda self: hasattr(self, "world"))
    @rule()
    def everything_comes_to_where_it_can_get(self):
        self._pass(PATIENCE)
        for _ in range(100):  # a moment at which something just begins again is no verdict
            if not self._astray():
                return
            self._pass(1.7)
        assert self._astray() == []

    def _astray(self) -> list:
        """The services that are not where they should be once nothing changes any more."""
        found = []
        for name, wish in self.wishes.items():
            state, live = self.world.state(name), self._running(key(name))
            phase = state.phase.value
            if wish["state"] == "stopped" and (phase, live) != ("stopped", []):
                found.append(state)
            if wish["state"] == "running" and self.fine[name] and self._could(name):
                right = phase == "ready" and self._definition(name) == wish["command"]
                if not right:
                    found.append(state)
            if wish["state"] == "running" and phase in {"stopped", "failed", "blocked", "unknown"}:
                found.append(state)
        gone = set(NAMES) - self.wishes.keys()
        found += [name for name in gone if self._running(key(name))]
        return found + list(gone & {k.name for k in self.world.reconciler.runners})

    # --- what must hold after each step -----------------------------------------------------

    @invariant()
    def no_service_runs_twice(self):
        if hasattr(self, "world"):
            assert self.world.driver.doubled == []
            for name in NAMES:
                assert len(self.world.driver.live(key(name))) <= 1

    @invariant()
    def a_state_is_true(self):
        if not hasattr(self, "world"):
            return
        for which, runner in self.world.reconciler.runners.items():
            state = runner.state
            assert (state.next_start is not None) == (state.phase.value == "backoff"), state
            if state.phase.value in {"stopped", "blocked"}:
                assert self._running(which) == [], state
            if state.phase.value in {"ready", "unhealthy"}:
                (run,) = self.world.driver.live(which)
                assert run.identity == state.identity

    # --- within -----------------------------------------------------------------------------

    def _running(self, which):
        """What lives of a service, but for children that outlived both their parent and an agent.

        Those are the driver's: it ends them before the next start.
        """
        driver = self.world.driver
        return [run for run in driver.live(which) if run.alive or run not in driver.inherited]

    def _could(self, name: str) -> bool:
        """Whether all that this service needs is ready."""
        return all(self.world.phase(need) == "ready" for need in NEEDS.get(name, []))

    def _definition(self, name: str):
        found = [spec for spec in self.world.driver.started if spec.key == key(name)]
        return found[-1].command

    def _wants(self):
        for name, wish in self.wishes.items():
            probe = ProbeSpec("http", f"http://{name}", interval=5.0)
            yield want(
                name,
                needs=NEEDS.get(name, []),
                likes=LIKES.get(name, []),
                health=HealthSpec(probe=probe, startup=20.0, failures=2),
                restart=RestartPolicy(backoff=2.0, max_backoff=60.0),
                stop=StopSpec(timeout=4.0, pause=1.0),
                **wish,
            )

    def _tell(self) -> None:
        self._run(self._want())

    async def _want(self) -> None:
        self.world.want(*self._wants())
        await asyncio.sleep(0)

    async def _make(self, before: World | None = None) -> World:
        return World(*self._wants(), after=before)

    async def _wall(self) -> float:
        return self.world.clock.wall()

    def _pass(self, seconds: float) -> None:
        self._run(_moments(seconds))

    def _run(self, work):
        return self.runner.run(work)


async def _moments(seconds: float) -> None:
    """Let time pass, and let what is due then be done."""
    await asyncio.sleep(seconds)
    for _ in range(20):
        await asyncio.sleep(0)


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=30)
