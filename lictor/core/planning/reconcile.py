"""Desired × actual × now → plan. The one place where it is decided what runs.

The plan holds the next step of each service, not a script: when those steps have acted, the next
plan is made from the new snapshot. Waves of dependencies follow from that by themselves.

    desired    actual phase                    next step
    ─────────  ──────────────────────────────  ────────────────────────────────────────────
    gone       running / else                  stop / forget
    stopped    running                         stop, after its dependents that also stop
    stopped    queued backoff failed blocked   rest
    running    stopped queued blocked          start, or queue with the dependency's name
    running    backoff                         start when its time has come
    running    failed                          start only on a new order or a new definition
    running    starting ready unhealthy        restart on a new definition or a restart order
    running    unhealthy                       restart if `on_unhealthy` says so
    running    ready unhealthy                 restart if `recycle` says so
    any        stopping                        nothing: its runner is busy
    any        unknown                         nothing: nobody knows what would be done
    maintenance  any                           nothing: hands off
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from lictor.core.model.desired import Desired, DesiredService, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Plan, Verb
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import Dependency
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning import gpu_plan, recycle
from lictor.core.planning.order import instances_of

Actual = Mapping[ServiceKey, ServiceState]

_LATER = 0.001  # seconds; orders are written to the millisecond
_AT_REST = ServiceState()
_BEFORE_READY = frozenset({Phase.STOPPED, Phase.QUEUED, Phase.STARTING})
_HANDS_OFF = frozenset({Phase.STOPPING, Phase.UNKNOWN})
_WAITING = frozenset({Phase.STOPPED, Phase.QUEUED, Phase.BLOCKED})


def plan(
    desired: Desired,
    actual: Actual,
    now: float,
    *,
    only: Iterable[ServiceKey] | None = None,
    memory: Mapping[ServiceKey, int] | None = None,
    board: gpu_plan.Board | None = None,
) -> Plan:
    """The next step of every service that needs one; `only` restricts it to some services.

    `memory` is what the present runs use, in bytes, as far as it was measured (for `recycle`).
    `board` is what is known of the GPUs: with it, a service that needs one starts where it is put,
    and services that need one are all looked at if one of them is. Without it none needs any.
    Pure and deterministic. Applying the steps and planning again gives an empty plan unless
    something else happened (property-tested).
    """
    keys = dict.fromkeys((*desired, *actual) if only is None else only)
    if board is not None and any(gpu_plan.takes_gpu(desired.get(key)) for key in keys):
        keys |= dict.fromkeys(key for key, want in desired.items() if gpu_plan.takes_gpu(want))
    used = memory or {}
    held = _held_by_dependents(desired, actual)
    steps = (_step(key, desired, actual, now, used.get(key), held) for key in keys)
    found = Plan(tuple(step for step in steps if step is not None))
    return found if board is None else gpu_plan.admit(found, desired, actual, now, board)


def _step(
    key: ServiceKey,
    desired: Desired,
    actual: Actual,
    now: float,
    memory: int | None,
    held: Container[str],
) -> Action | None:
    state = actual.get(key, _AT_REST)
    want = desired.get(key)
    if state.phase in _HANDS_OFF:
        return None
    if want is None:
        if key not in actual:
            return None
        verb = Verb.STOP if state.phase.running else Verb.FORGET
        return Action(verb, key, because("config.removed"))
    if want.state is DesiredState.MAINTENANCE:
        return None
    if want.state is DesiredState.STOPPED:
        return _towards_stopped(key, want, state, held)
    if state.phase.running:
        return _while_running(key, want, state, now, memory)
    return _towards_running(key, want, state, desired, actual, now)


def _held_by_dependents(desired: Desired, actual: Actual) -> frozenset[str]:
    """Names of services that stop only after a dependent of theirs, which stops as well."""
    return frozenset(
        dependency.name
        for key, want in desired.items()
        if want.spec.depends_on
        and want.state is DesiredState.STOPPED
        and actual.get(key, _AT_REST).phase.running
        for dependency in want.spec.depends_on
    )


def _towards_stopped(
    key: ServiceKey, want: DesiredService, state: ServiceState, held: Container[str]
) -> Action | None:
    reason = stop_reason(want)
    if not state.phase.running:
        # Who once stopped it may be told for ever; who holds it, only while it is held.
        told = state.reason.code != "held.stopped" or state.reason == reason
        if state.phase is Phase.STOPPED and not state.done and told:
            return None
        return Action(Verb.REST, key, reason)
    if key.name in held:
        return None  # its dependent goes first; when that has ended, this is asked again
    return Action(Verb.STOP, key, reason)


def _while_running(
    key: ServiceKey, want: DesiredService, state: ServiceState, now: float, memory: int | None
) -> Action | None:
    if want.blocked is not None:
        return Action(Verb.STOP, key, want.blocked)
    if state.fingerprint and state.fingerprint != want.spec.fingerprint():
        return Action(Verb.RESTART, key, because("config.changed"))
    if ordered_again(want, state):
        return Action(Verb.RESTART, key, _restart_reason(want))
    if state.phase is Phase.UNHEALTHY and want.spec.health.on_unhealthy == "restart":
        return Action(Verb.RESTART, key, because("unhealthy", output=state.health_output))
    worn = recycle.due(want.spec, state, now=now, memory=memory)
    return Action(Verb.RESTART, key, worn) if worn is not None else None


def _towards_running(
    key: ServiceKey,
    want: DesiredService,
    state: ServiceState,
    desired: Desired,
    actual: Actual,
    now: float,
) -> Action | None:
    if want.blocked is not None:
        return _unless_said(Verb.BLOCK, Phase.BLOCKED, key, state, want.blocked)
    ordered = ordered_again(want, state)
    changed = bool(state.fingerprint) and state.fingerprint != want.spec.fingerprint()
    if state.phase is Phase.BACKOFF:
        if not (ordered or changed) and (state.next_start is None or now < state.next_start):
            return None
        reason = _restart_reason(want) if ordered else because("start.again")
    elif (state.phase is Phase.FAILED or state.done) and not (ordered or changed):
        return None
    elif changed and state.phase not in _WAITING:
        reason = because("config.changed")
    else:
        reason = start_reason(want)
    obstacle = _waits_for(want.spec.depends_on, desired, actual)
    if obstacle is not None:
        return _unless_said(Verb.QUEUE, Phase.QUEUED, key, state, obstacle)
    return Action(Verb.START, key, reason)


def _unless_said(
    verb: Verb, phase: Phase, key: ServiceKey, state: ServiceState, reason: Reason
) -> Action | None:
    said = state.phase is phase and state.reason == reason
    return None if said else Action(verb, key, reason)


def _waits_for(
    dependencies: Iterable[Dependency], desired: Desired, actual: Actual
) -> Reason | None:
    """The first thing that must be ready before, and is not."""
    for dependency in dependencies:
        for key in instances_of(dependency.name, desired):
            want, state = desired[key], actual.get(key, _AT_REST)
            if state.phase is Phase.READY or state.done:  # a job that ended well has done its part
                continue
            wanted = want.state is DesiredState.RUNNING and want.blocked is None
            if not dependency.required:
                # Only the order matters: wait while it is on its way, never for one that fails.
                if wanted and state.phase in _BEFORE_READY:
                    return because("dependency.waiting", dependency=str(key))
                continue
            if not wanted:
                return because("dependency.stopped", dependency=str(key))
            if state.phase is Phase.FAILED:
                return because("dependency.failed", dependency=str(key))
            if state.phase is Phase.BACKOFF:
                return because("dependency.retrying", dependency=str(key))
            return because("dependency.waiting", dependency=str(key))
    return None


def ordered_again(want: DesiredService, state: ServiceState) -> bool:
    """A restart order acts once: newer than the last start, and not the one already acted on.

    The second condition keeps an order dated in the future (another host's clock) from looping.
    """
    if want.restart_wall is None or want.restart_wall == state.operator_restart_wall:
        return False
    return state.started_wall is None or want.restart_wall > state.started_wall


def order_wall(keys: Iterable[ServiceKey], desired: Desired, actual: Actual, wall: float) -> float:
    """When an order is given: now, and after what it shall renew, even if the clock went back."""
    newest = wall
    for key in keys:
        want, state = desired.get(key), actual.get(key, _AT_REST)
        ordered = want.restart_wall if want is not None else None
        newest = max(newest, *((one or 0.0) + _LATER for one in (state.started_wall, ordered)))
    return newest


def start_reason(want: DesiredService) -> Reason:
    """Why it is to run."""
    if want.source is Source.CONFIG:
        return because("start.config")
    if want.source is Source.HOLD:
        return hold_reason(want)
    if want.why:
        return because("start.ordered_because", by=_by(want), why=want.why)
    return because("start.ordered", by=_by(want))


def stop_reason(want: DesiredService) -> Reason:
    """Why it is not to run."""
    if want.source is Source.CONFIG:
        return because("stopped.activation", activation=want.spec.activation)
    if want.source is Source.HOLD and not want.by:
        return because("agent.stopping")
    if want.source is Source.HOLD:
        return hold_reason(want)
    if want.why:
        return because("stopped.ordered_because", by=_by(want), why=want.why)
    return because("stopped.ordered", by=_by(want))


def hold_reason(want: DesiredService) -> Reason:
    """Who holds it as it is, and why. Only for a service that is held."""
    match want.state:
        case DesiredState.RUNNING:
            return because("held.running", by=want.by, why=want.why)
        case DesiredState.STOPPED:
            return because("held.stopped", by=want.by, why=want.why)
        case DesiredState.MAINTENANCE:
            return because("held.maintenance", by=want.by, why=want.why)


def maintenance_reason(want: DesiredService) -> Reason:
    """Who wants hands off, and why. Only for a document's word; a hold has `hold_reason`."""
    return because("maintenance", by=_by(want), why=want.why or "-")


def _restart_reason(want: DesiredService) -> Reason:
    return because("restart.ordered", by=_by(want))


def _by(want: DesiredService) -> str:
    return want.by or ("Consul KV (_all)" if want.source is Source.KV_ALL else "Consul KV")
