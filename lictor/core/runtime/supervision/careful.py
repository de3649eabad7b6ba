"""A runner that can be in doubt: its driver speaks for somebody who may fall silent.

While a Docker engine is mute nobody can say whether a container runs. The service is then shown as
unknown, with the reason, and nothing is done to it; what it was comes back with the engine, and
what has happened meanwhile is told by the driver after that. A start that had no answer is neither
a success nor a failure: it is unknown too, and is begun anew. Which state follows is decided by
`planning.lifecycle`, as ever; here is only when. The same for a service whose own counters say more
than its health URL does (`progress_watch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lictor.core.model.reason import Reason
from lictor.core.model.state import Exit, Health, Phase, ServiceState
from lictor.core.planning import health, lifecycle
from lictor.core.ports import Driver
from lictor.core.runtime.supervision.runner import Runner

#: Why a start may have had no answer. The driver's own words for an engine that is away.
_NO_ANSWER = frozenset({"docker.absent", "docker.denied", "docker.unreachable"})


class CarefulRunner(Runner):
    """A `Runner` with doubt. `_before` is what is veiled by it: the phase with its reason.

    `_at_work`: its own counters say that it gets on, however silent it is.
    """

    _doubt: Reason | None = None
    _before: tuple[Phase, Reason] | None = None
    _at_work = False

    def doubt(self, trouble: Reason | None) -> None:
        """The driver can say nothing any more, and why; None: it can again."""
        if trouble is None:
            if self._doubt is None:
                return
            self._doubt = None
            if self.state.phase is Phase.UNKNOWN:
                now = self._around.clock.now()
                before, self._before = self._before, None
                self._set(lifecycle.out_of_doubt(self.state, self.spec, now=now, before=before))
        elif self._is_contained():
            self._doubt = trouble
            self._set(self.state)

    def told(self, progress: Reason) -> None:
        """How far its start has come."""
        if self.state.phase is Phase.STARTING and self.state.identity is None:
            self._set(replace(self.state, reason=progress))

    def restore(self, state: ServiceState) -> None:
        """Take over where an earlier agent left off; its doubts were its own."""
        if state.phase is Phase.UNKNOWN:
            state = lifecycle.out_of_doubt(state, self.spec, now=self._around.clock.now())
        super().restore(state)

    def adopt_stray(self) -> bool:
        """Take over what nothing was written down about; its label says what it was started as."""
        found = super().adopt_stray()
        started_as = getattr(self._running, "fingerprint", "")
        if found and started_as:
            self._set(replace(self.state, fingerprint=started_as))
        return found

    def observe(self, *, passed: bool, output: str) -> None:
        """One answer of the health check. Who is at work may be silent: then it is only shown."""
        if passed or not self._at_work or self.state.phase is not Phase.READY:
            super().observe(passed=passed, output=output)
            return
        now = self._around.clock.now()
        seen = health.observe(self.state, passed=False, output=output, now=now)
        self._set(replace(seen, failing_since=None))

    def work_seen(self, *, moving: bool) -> None:
        """Whether its own counters move; once they do not, its silence counts as any other's.

        While they do, a silence that began before they were seen to move counts no more either:
        Consul tells only the edge, and no second answer would take back what the first one began.
        """
        stopped, self._at_work = self._at_work and not moving, moving
        failing = self.state.failing_since is not None
        if moving and failing and self.state.phase is Phase.READY:
            self._set(replace(self.state, failing_since=None))
        if stopped and not failing and self.state.health is Health.CRITICAL:
            self.observe(passed=False, output=self.state.health_output)

    def stalled(self, output: str) -> None:
        """It answers, and does nothing for those who wait: unhealthy, whatever its URL says."""
        if self.state.phase in {Phase.READY, Phase.UNHEALTHY}:
            now = self._around.clock.now()
            seen = health.observe(self.state, passed=False, output=output, now=now)
            self._set(lifecycle.unhealthy(seen, now=now))

    def _is_contained(self) -> bool:
        identity = self.state.identity
        if identity is None:
            return self.state.phase.running and self._driver.kind == "docker"
        return identity.container_id is not None

    def _set(self, state: ServiceState) -> None:
        if self._doubt is not None:
            if state.phase.running:
                self._before = (state.phase, state.reason)
                state = lifecycle.in_doubt(state, self._doubt, now=self._around.clock.now())
            elif state.phase is not Phase.UNKNOWN:
                self._doubt, self._before = None, None
            elif state.reason != self._doubt and self._before is not None:
                self._before = (self._before[0], state.reason)
                state = replace(state, reason=self._doubt)
        super()._set(state)

    def _run_ended(self, why: Reason, exit_: Exit | None, detail: str | None = None) -> None:
        if exit_ is not None or why.code not in _NO_ANSWER:
            super()._run_ended(why, exit_, detail)
            return
        self._doubt, self._before = why, None
        now = self._around.clock.now()
        super()._set(lifecycle.in_doubt(replace(self.state, identity=None), why, now=now))

    async def _await_ready(self, since: float) -> None:
        # An image may have been built first: a container's time begins when it runs.
        if self.state.identity is not None and self.state.identity.container_id is not None:
            since = max(since, self._around.clock.now())
        await super()._await_ready(since)


def restored(runner: Runner, state: ServiceState, drivers: Mapping[str, Driver]) -> None:
    """Let a runner take over by the driver that started what runs, whichever is chosen now."""
    chosen, identity = runner.driver, state.identity
    if identity is not None and chosen.kind != "observed":
        started_by = "process" if identity.container_id is None else "docker"
        runner.use(drivers.get(started_by, chosen))
    runner.restore(state)
    runner.use(chosen)
