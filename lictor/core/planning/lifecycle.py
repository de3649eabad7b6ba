"""The life of one service as steps from state to state.

    stopped ─ start ─► starting ─ probe passes ─► ready ◄──► unhealthy
       ▲                  │  exit, start failed, startup exceeded     │ exit
       │                  ▼                                           ▼
    stopping ◄─ stop ─ (any running phase)                   backoff ─ time ─► starting
       ▲                                                     failed (gave up, or policy: never)
       └── restart = stopping, pause, starting

Runners apply these functions; nothing else writes a `ServiceState`.
"""

from __future__ import annotations

from dataclasses import replace

from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState
from lictor.core.planning import restart


def starting(
    state: ServiceState, reason: Reason, *, fingerprint: str, now: float, wall: float
) -> ServiceState:
    """A start begins: before-jobs, then the program. Counted as a restart if a run ended before.

    `fingerprint` is that of the definition which is started. It counts from here on: kept from the
    run before, it would look like a new definition for as long as the jobs take.
    """
    # A queue between the back-off and the start changes nothing: orders wipe `failures`.
    again = state.phase is Phase.BACKOFF or (state.phase is Phase.QUEUED and state.failures > 0)
    return replace(
        state,
        phase=Phase.STARTING,
        reason=reason,
        since=now,
        started=now,
        started_wall=wall,
        ready_since=None,
        next_start=None,
        fingerprint=fingerprint,
        identity=None,
        health=None,
        health_output="",
        failing_since=None,
        done=False,
        adopted=False,
        restarts=state.restarts + 1 if again else state.restarts,
    )


def spawned(state: ServiceState, identity: Identity, spec: ServiceSpec) -> ServiceState:
    """The program was executed; readiness is still to be shown, in the time that it has for it."""
    reason = because("starting.loading", startup=spec.health.startup)
    return replace(state, identity=identity, reason=reason)


def ready(state: ServiceState, *, now: float, output: str = "") -> ServiceState:
    """The first pass of the health probe (or there is nothing to ask)."""
    return replace(
        state,
        phase=Phase.READY,
        reason=because("ready"),
        since=now,
        ready_since=now,
        health=Health.PASSING,
        health_output=output,
        failing_since=None,
    )


def unhealthy(state: ServiceState, *, now: float) -> ServiceState:
    """The health check failed often enough. It keeps `ready_since`: it *was* ready since then."""
    return replace(
        state,
        phase=Phase.UNHEALTHY,
        reason=because("unhealthy", output=state.health_output),
        since=now,
    )


def recovered(state: ServiceState, *, now: float) -> ServiceState:
    """An unhealthy service passes again."""
    return replace(state, phase=Phase.READY, reason=because("ready.recovered"), since=now)


def stopping(state: ServiceState, reason: Reason, *, now: float) -> ServiceState:
    """The stop begins."""
    return replace(state, phase=Phase.STOPPING, reason=reason, since=now, next_start=None)


def stopped(state: ServiceState, reason: Reason, exit_: Exit | None, *, now: float) -> ServiceState:
    """Every process is gone, as ordered. The order wipes the count of failures."""
    return replace(
        _ended(state, exit_),
        phase=Phase.STOPPED,
        reason=reason,
        since=now,
        failures=0,
        spared=False,
        next_start=None,
        last_exit=None,  # an ordered end explains no later restart
        ended_because=None,
    )


def recycled(
    state: ServiceState, spec: ServiceSpec, reason: Reason, exit_: Exit | None, *, now: float
) -> ServiceState:
    """Ended to be started afresh. Nobody's failure and nobody's order: `failures` stays."""
    ready_for = 0.0 if state.ready_since is None else now - state.ready_since
    return replace(
        stopped(state, reason, exit_, now=now),
        failures=state.failures,
        ended_because=reason,
        recycles=1 if ready_for >= spec.restart.reset_after else state.recycles + 1,
    )


def failed_run(
    state: ServiceState,
    spec: ServiceSpec,
    why: Reason,
    exit_: Exit | None,
    *,
    now: float,
    jitter: float,
    detail: str | None = None,
) -> ServiceState:
    """A run ended by itself (or never came to run): decide what follows.

    `why` names the end, `detail` is its last log line or error text, shown as the last error.
    """
    ready_for = None if state.ready_since is None else now - state.ready_since
    verdict = restart.decide(
        spec.restart,
        failures=state.failures,
        ready_for=ready_for,
        exit_=exit_,
        jitter=jitter,
        spared=state.spared,
    )
    after = replace(_ended(state, exit_), since=now, failures=verdict.failures, ended_because=why)
    if isinstance(verdict, restart.Again):
        return replace(
            after,
            phase=Phase.BACKOFF,
            reason=why,
            spared=verdict.spared,
            next_start=now + verdict.delay,
            last_error=detail,
        )
    if verdict.done:
        return replace(
            after, phase=Phase.STOPPED, reason=verdict.reason, next_start=None, done=True
        )
    return replace(after, phase=Phase.FAILED, reason=why, next_start=None, last_error=detail)


def exit_reason(exit_: Exit, *, loading: bool) -> Reason:
    """The reason that names this exit; one that ended while loading is a failed start."""
    if not loading or exit_.left:
        return exit_.reason()
    if exit_.oom:
        return because("start.exit_oom")
    named = exit_.reason()
    if exit_.signal is not None:
        return because("start.exit_signal", **named.params)
    if exit_.code is not None:
        return because("start.exit_code", code=exit_.code)
    return because("start.exit_unknown")


def at_rest(state: ServiceState, reason: Reason, *, now: float) -> ServiceState:
    """No longer wanted, and nothing runs: forget queue and back-off."""
    return replace(
        state,
        phase=Phase.STOPPED,
        reason=reason,
        since=now,
        next_start=None,
        failures=0,
        spared=False,
        identity=None,
        done=False,
    )


def waiting(state: ServiceState, phase: Phase, reason: Reason, *, now: float) -> ServiceState:
    """Queued or blocked, with the reason."""
    since = state.since if state.phase is phase else now
    return replace(state, phase=phase, reason=reason, since=since, next_start=None)


def still_waiting(state: ServiceState, spec: ServiceSpec, *, now: float) -> ServiceState:
    """A back-off that another agent began: if the host's clock began anew, its time means nothing."""
    longest = now + 1.1 * spec.restart.max_backoff
    if (state.next_start or 0.0) > longest:
        return replace(state, next_start=now)
    return state


def in_doubt(state: ServiceState, why: Reason, *, now: float) -> ServiceState:
    """Nobody can say any more how it is. Everything else that is known of it is kept."""
    since = state.since if state.phase is Phase.UNKNOWN else now
    return replace(state, phase=Phase.UNKNOWN, reason=why, since=since)


def out_of_doubt(
    state: ServiceState,
    spec: ServiceSpec,
    *,
    now: float,
    before: tuple[Phase, Reason] | None = None,
) -> ServiceState:
    """It can be said again: as it was `before`, or (an earlier agent doubted) as what is known tells.

    A start of which nothing is known is over: the plan begins it anew, and finds what came of it.
    """
    if before is not None:
        phase, reason = before
    elif state.identity is None:
        phase, reason = Phase.STOPPED, because("stopped.start_unknown")
    elif state.ready_since is not None:
        phase, reason = Phase.READY, because("ready")
    else:
        startup = spec.health.startup
        phase, reason = Phase.STARTING, because("starting.loading", startup=startup)
    return replace(state, phase=phase, reason=reason, since=now)


def latest_run(state: ServiceState, *, now: float) -> float:
    """When the latest run began, at the earliest, that may still go on: older ones are over.

    Of those only children can be left. Zero: nothing is known, as after a new start of the host.
    """
    since = state.started if state.phase.running else state.since
    return since if since is not None and since <= now else 0.0


def _ended(state: ServiceState, exit_: Exit | None) -> ServiceState:
    return replace(
        state,
        identity=None,
        ready_since=None,
        last_exit=exit_ if exit_ is not None else state.last_exit,
        health=None,
        health_output="",
        failing_since=None,
        adopted=False,
    )
