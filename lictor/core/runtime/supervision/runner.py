"""One runner per service: the only writer of that service's state.

It does what the plan says (start, stop, restart), notices the exit, asks for readiness, folds in
health, and tells the reconciler after each change. It decides nothing: every next state comes from
`planning.lifecycle`, every next step from `planning.reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Verb
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity, Phase, ServiceState
from lictor.core.planning import health, lifecycle, recycle
from lictor.core.ports import Driver, ProbeResult, Running
from lictor.core.runtime.logs.reading import last_line
from lictor.core.runtime.supervision.presence import ask, live_through, until_it_passes
from lictor.core.runtime.supervision.surroundings import Surroundings

log = logging.getLogger(__name__)

_LEFTOVERS = 1.0  # seconds that children of a crashed service get between TERM and KILL
_AT_ONCE = StopSpec("KILL", 0.0, 0.0)
_SETTLED = 0.5  # seconds a service without a probe must run before it counts as ready

_Ending: TypeAlias = Callable[[Reason], Coroutine[None, None, None]]


class Runner:
    """Runs one service. All methods must be called in the event loop's thread."""

    def __init__(self, spec: ServiceSpec, driver: Driver, around: Surroundings) -> None:
        self.spec = spec
        self.state = ServiceState()
        self._driver = driver
        self._around = around
        self._running: Running | None = None
        self._operation: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._monitor: asyncio.Task[None] | None = None
        self._cleanup: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._counts_as_restart = False
        self._ending: Running | None = None
        self._hurried = False
        self._hurry: asyncio.Task[object] | None = None

    @property
    def key(self) -> ServiceKey:
        """Which service."""
        return self.spec.key

    @property
    def driver(self) -> Driver:
        """How it runs."""
        return self._driver

    @property
    def containment(self) -> str | None:
        """How its processes are held together while it runs."""
        running = self._running or self._ending
        return running.containment or None if running is not None else None

    def notes(self) -> Sequence[Reason]:
        """What this host cannot do for it."""
        return self._driver.notes(self.spec)

    def log_path(self) -> Path | None:
        """The file the service writes itself."""
        return self._driver.log_path(self.spec)

    # --- what the plan asks -------------------------------------------------------------

    def act(self, action: Action, *, restart_wall: float | None) -> None:
        """Do one step of a plan. `restart_wall` is the restart order in force, now acted on."""
        match action.verb:
            case Verb.START:
                self._start(action.reason, restart_wall)
            case Verb.STOP:
                self._begin(self._stop, action.reason)
            case Verb.RESTART:
                noted = replace(self.state, operator_restart_wall=restart_wall)
                self._begin(self._restart, action.reason, noted)
            case Verb.QUEUE:
                self._wait_as(Phase.QUEUED, action.reason)
            case Verb.BLOCK:
                self._wait_as(Phase.BLOCKED, action.reason)
            case Verb.REST | Verb.FORGET:
                if self._cleanup is not None and not self._cleanup.done():
                    # What the crash left behind is not gone yet, so it is not stopped yet either.
                    self._begin(self._stop, action.reason)
                    return
                now = self._around.clock.now()
                self._cancel_timer()
                self._set(lifecycle.at_rest(self.state, action.reason, now=now))

    def update(self, spec: ServiceSpec) -> None:
        """Take a new definition; whether it needs a restart is the plan's business."""
        self.spec = spec

    def use(self, driver: Driver) -> None:
        """Take another driver for the next start; what runs is still ended by the one it has."""
        self._driver = driver

    def restore(self, state: ServiceState) -> None:
        """Take over where an earlier agent left off: adopt what still runs, notice what does not."""
        self.state, now = state, self._around.clock.now()
        if not state.phase.running:
            if state.phase is Phase.BACKOFF:
                self.state = lifecycle.still_waiting(state, self.spec, now=now)
                self._wake_at(self.state.next_start)
        elif found := self._found(state.identity):
            self._adopt(found)
        elif state.phase is not Phase.STOPPING:
            self._run_ended(because("exit.while_away"), Exit())
        elif self._cleanup is not None:
            self._begin(self._stop, state.reason)
        else:
            self._set(lifecycle.stopped(state, because("stopped.while_away"), None, now=now))

    def adopt_stray(self) -> bool:
        """Take over a process that carries our mark although nothing was written down about it.

        What carries it and is no service any more, because its main process is gone, is ended.
        """
        clock = self._around.clock
        found = self._found(None)
        if found is None:
            return False
        begun = lifecycle.starting(
            self.state,
            because("starting.adopted"),
            fingerprint=self.spec.fingerprint(),
            now=clock.now(),
            wall=clock.wall(),
        )
        self.state = lifecycle.spawned(begun, found.identity, self.spec)
        self._adopt(found)
        return True

    def _found(self, identity: Identity | None) -> Running | None:
        """What an earlier agent left running. If only children are left, their end begins."""
        after = lifecycle.latest_run(self.state, now=self._around.clock.now())
        found = self._driver.recover(self.spec, identity, after=after)
        if found is None and self._cleanup is None:
            self._cleanup = self._driver.sweep(replace(self.spec, stop=self._soon()))
        return found

    def _adopt(self, found: Running) -> None:
        self._running = found
        self._set(replace(self.state, adopted=True, identity=found.identity))
        self._watch = asyncio.create_task(self._watch_exit(found))
        if self.state.phase is Phase.STOPPING:
            self._begin(self._stop, self.state.reason)
        elif self.state.phase is Phase.STARTING:
            self._operation = asyncio.create_task(self._await_ready(self._around.clock.now()))
        else:
            self._monitor = asyncio.create_task(self._watch_health())

    def observe(self, *, passed: bool, output: str) -> None:
        """One answer, or one edge, of the health check of a service that was ready."""
        if self.state.phase not in {Phase.READY, Phase.UNHEALTHY}:
            return
        now = self._around.clock.now()
        self._judge(health.observe(self.state, passed=passed, output=output, now=now))

    def _judge(self, state: ServiceState) -> None:
        found = health.judge(state, self.spec.health, now=self._around.clock.now())
        if found.look_at is not None:
            self._call_at(found.look_at, self._still_failing)
        if found.state != self.state:
            self._set(found.state)

    async def probe(self) -> ProbeResult | None:
        """Ask the health check now, for `lictor health`; None when there is nothing to ask."""
        if self.spec.health.probe is None:
            return None
        return await self._around.prober.probe(self.spec.health.probe)

    def mark_registered(self, *, unregistered: bool) -> None:
        """Remember the operator's `lictor unregister` (or take it back)."""
        self._set(replace(self.state, unregistered=unregistered))

    def let_go(self) -> None:
        """Stop watching without touching the service: another agent will adopt it."""
        self._cancel_timer()
        for task in (self._operation, self._watch, self._monitor):
            if task is not None:
                task.cancel()

    def hurry(self) -> None:
        """End it with KILL, without grace: somebody pressed Ctrl-C twice."""
        self._hurried = True
        if self._ending is not None:
            self._hurry = asyncio.create_task(self._ending.stop(_AT_ONCE))

    # --- starting -----------------------------------------------------------------------

    def _start(self, reason: Reason, restart_wall: float | None) -> None:
        self._cancel_timer()
        clock = self._around.clock
        state = lifecycle.starting(
            self.state,
            reason,
            fingerprint=self.spec.fingerprint(),
            now=clock.now(),
            wall=clock.wall(),
        )
        if self._counts_as_restart:
            self._counts_as_restart = False
            state = replace(state, restarts=state.restarts + 1)
        self._set(replace(state, operator_restart_wall=restart_wall))
        self._operation = asyncio.create_task(self._run(self._around.dressed(self.spec)))

    async def _run(self, spec: ServiceSpec) -> None:
        try:
            await self._cleaned()  # never a new one before the old tree is gone
            await self._run_before_jobs(spec)
            self._around.refuse_taken_port(spec)
            running = await self._driver.start(spec)
        except StartFailed as error:
            params = {name: str(value) for name, value in error.params.items()}
            self._run_ended(Reason(error.reason_code, params), None, detail=error.message)
            return
        self._running = running
        self._set(lifecycle.spawned(self.state, running.identity, spec))
        self._watch = asyncio.create_task(self._watch_exit(running))
        await self._await_ready(self.state.started or self._around.clock.now())

    async def _run_before_jobs(self, spec: ServiceSpec) -> None:
        for number, job in enumerate(spec.before, start=1):
            argv = spec.argv(job)
            reason = because("starting.before", job=argv[0], number=number, count=len(spec.before))
            self._set(replace(self.state, reason=reason))
            exit_ = await self._driver.run_job(spec, argv)
            if exit_.code != 0:
                raise StartFailed(
                    last_line(self.log_path()) or f"{argv[0]} ended badly",
                    reason_code="start.before_failed",
                    params={"job": argv[0], "code": exit_.code if exit_.code is not None else "?"},
                )

    async def _await_ready(self, since: float) -> None:
        """Probe until the first pass; too long is a failed start."""
        probe, clock = self.spec.health.probe, self._around.clock
        if probe is None:
            await live_through(clock, _SETTLED)
            self._become_ready("")
            return
        deadline = since + self.spec.health.startup
        result = await until_it_passes(self._around.prober, clock, probe, deadline)
        if result.passed:
            self._become_ready(result.output)
            return
        why = because("start.timeout", startup=self.spec.health.startup, output=result.output)
        await self._end_processes()
        self._run_ended(why, None, detail=last_line(self.log_path()) or result.output)

    def _become_ready(self, output: str) -> None:
        if self._running is not None and self._running.over:
            return  # it ended meanwhile, which `_watch_exit` says once its last words are there
        self._set(lifecycle.ready(self.state, now=self._around.clock.now(), output=output))
        if self.spec.health.probe is not None:
            self._monitor = asyncio.create_task(self._watch_health())

    # --- while it runs ------------------------------------------------------------------

    async def _watch_exit(self, running: Running) -> None:
        exit_ = await running.wait()
        if self._running is not running or self.state.phase is Phase.STOPPING:
            return
        loading = self.state.phase is Phase.STARTING
        self._running = None
        self._cancel(self._operation)
        self._cancel(self._monitor)
        self._cleanup = asyncio.create_task(running.stop(self._soon()))
        reason = lifecycle.exit_reason(exit_, loading=loading)
        self._run_ended(reason, exit_, detail=last_line(self.log_path()))

    async def _watch_health(self) -> None:
        """Probe at the check's interval while Consul cannot do it. Never both."""
        probe = self.spec.health.probe
        while probe is not None:
            await asyncio.sleep(probe.interval)
            probe = self.spec.health.probe
            consul_can = probe is not None and probe.asked_by_consul
            if probe is None or (consul_can and self._around.consul_watches(self.key)):
                continue
            result = await ask(self._around.prober, self._around.clock, probe)
            self.observe(passed=result.passed, output=result.output)

    def _still_failing(self) -> None:
        """The time that `failures` failed checks take is over."""
        if self.state.phase is Phase.READY:
            self._judge(self.state)

    # --- ending -------------------------------------------------------------------------

    def _begin(self, end: _Ending, reason: Reason, noted: ServiceState | None = None) -> None:
        """Replace whatever is being done by a stop or restart. `noted`: with the order, at once."""
        self._cancel_timer()
        self._cancel(self._monitor)
        interrupted = self._operation
        self._cancel(interrupted)
        self._set(lifecycle.stopping(noted or self.state, reason, now=self._around.clock.now()))
        self._operation = asyncio.create_task(self._after(interrupted, end, reason))

    async def _after(
        self, interrupted: asyncio.Task[None] | None, operation: _Ending, reason: Reason
    ) -> None:
        if interrupted is not None and not interrupted.done():
            await asyncio.wait([interrupted])
        await operation(reason)

    async def _stop(self, reason: Reason) -> None:
        exit_ = await self._take_leave()
        now = self._around.clock.now()
        self._set(lifecycle.stopped(self.state, reason, exit_, now=now))

    async def _restart(self, reason: Reason) -> None:
        if reason.code == "unhealthy":
            await self._end_processes()
            self._run_ended(reason, None, detail=str(reason.params.get("output", "")))
            return
        exit_ = await self._take_leave()
        await asyncio.sleep(self.spec.stop.pause)
        self._counts_as_restart = True
        now = self._around.clock.now()
        if recycle.is_reason(reason):
            self._set(lifecycle.recycled(self.state, self.spec, reason, exit_, now=now))
        else:
            self._set(lifecycle.stopped(self.state, reason, exit_, now=now))

    async def _take_leave(self) -> Exit | None:
        """End a service that works: whoever would come to it is sent elsewhere first."""
        await self._around.leave(self.key)
        return await self._end_processes()

    async def _end_processes(self) -> Exit | None:
        # An end that was itself interrupted has left its process in `_ending`.
        running, self._running = self._running or self._ending, None
        await self._cleaned()
        if running is None:
            return None
        self._ending = running
        report = await running.stop(_AT_ONCE if self._hurried else self.spec.stop)
        self._ending = None
        if report.killed:
            log.warning("%s was killed after its grace time", self.key)
        return report.exit

    def _soon(self) -> StopSpec:
        """How what a dead main process left is ended."""
        return replace(self.spec.stop, timeout=min(_LEFTOVERS, self.spec.stop.timeout))

    async def _cleaned(self) -> None:
        """Wait for what a crashed run left behind; whoever stops waiting does not stop the work."""
        if self._cleanup is not None:
            await asyncio.shield(self._cleanup)
            self._cleanup = None

    def _run_ended(self, why: Reason, exit_: Exit | None, detail: str | None = None) -> None:
        around = self._around
        state = lifecycle.failed_run(
            self.state,
            self.spec,
            why,
            exit_,
            now=around.clock.now(),
            jitter=around.jitter(),
            detail=detail,
        )
        self._wake_at(state.next_start)
        self._set(state)

    # --- small things -------------------------------------------------------------------

    def _set(self, state: ServiceState) -> None:
        before, self.state = self.state, state
        self._around.changed(self, before)

    def _wait_as(self, phase: Phase, reason: Reason) -> None:
        now = self._around.clock.now()
        self._set(lifecycle.waiting(self.state, phase, reason, now=now))

    def _wake_at(self, when: float | None) -> None:
        if when is not None and when > self._around.clock.now():
            self._call_at(when, lambda: self._due(when))

    def _due(self, when: float) -> None:
        """Ask for a new plan; a timer may come a moment early, for which a plan would do nothing."""
        if self._around.clock.now() < when:
            # Not `_wake_at`: by then it may be time, and it would do nothing.
            self._call_at(when, lambda: self._due(when))
        else:
            self._around.wake(self.key)

    def _call_at(self, when: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        delay = max(0.0, when - self._around.clock.now())
        self._timer = asyncio.get_running_loop().call_later(delay, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _cancel(task: asyncio.Task[None] | None) -> None:
        if task is not None and task is not asyncio.current_task():
            task.cancel()
