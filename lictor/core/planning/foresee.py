"""What would follow: the plan, and the plan after that, until nothing is left to do.

A plan holds only the next step of each service, because the next plan is made from what really
happened. A person who is about to press a button wants the whole row of steps. Here each step is
taken to succeed and the plan is made again, so that the preview and the deed come from the one
`plan` function and cannot differ in more than luck. Nothing is done, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lictor.core.model.desired import AFTER_VERB, Desired, DesiredService, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action, Verb
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning import gpu_plan
from lictor.core.planning.reconcile import plan

_SOMEBODY = Identity(pid=1, start_time=1, boot_id="foreseen")
_DEEDS = frozenset({Verb.START, Verb.STOP, Verb.RESTART, Verb.BLOCK, Verb.FORGET})


def ordered(
    desired: Desired, keys: Iterable[ServiceKey], verb: str, *, by: str, wall: float
) -> dict[ServiceKey, DesiredService]:
    """What would be desired after `verb` (start, stop, restart) was ordered for these services.

    Of what is no longer desired at all nothing can be ordered.
    """
    state, after = AFTER_VERB[verb], dict(desired)
    for key in keys:
        want = desired.get(key)
        if want is None:
            continue
        again = wall if verb == "restart" else want.restart_wall
        source = want.source if want.state is state and verb != "restart" else Source.KV_NODE
        after[key] = replace(
            want, state=state, source=source, by=by, why="", until=None, restart_wall=again
        )
    return after


def foresee(
    desired: Desired,
    actual: Mapping[ServiceKey, ServiceState],
    now: float,
    *,
    wall: float,
    board: gpu_plan.Board | None = None,
) -> list[Action]:
    """Every deed that would follow, in order, if each succeeds and nothing else happens.

    Steps that do nothing to any process (queue, rest) are left out. `wall` is Unix seconds.
    """
    states = dict(actual)
    deeds: list[Action] = []
    # Each service is stopped, started and blocked at most once on its way to what is wanted.
    for _ in range(4 * len(desired) + 4):
        todo = plan(desired, states, now, board=board)
        if not todo:
            break
        for action in todo.actions:
            if action.verb in _DEEDS:
                deeds.append(action)
            if board is not None:
                board = gpu_plan.afterwards(board, action, states.get(action.service))
            if action.verb is Verb.FORGET:
                states.pop(action.service, None)
            else:
                want = desired.get(action.service)
                states[action.service] = _after(action, states.get(action.service), want, wall)
    return deeds


def _after(
    action: Action, state: ServiceState | None, want: DesiredService | None, wall: float
) -> ServiceState:
    """The state that a step leads to when it succeeds."""
    before = state or ServiceState()
    match action.verb:
        case Verb.START | Verb.RESTART:
            assert want is not None  # noqa: S101 - only what is wanted is started
            return ServiceState(
                phase=Phase.READY,
                reason=action.reason,
                identity=_SOMEBODY,
                started_wall=wall,
                fingerprint=want.spec.fingerprint(),
                operator_restart_wall=want.restart_wall,
            )
        case Verb.QUEUE:
            return replace(before, phase=Phase.QUEUED, reason=action.reason)
        case Verb.BLOCK:
            return replace(before, phase=Phase.BLOCKED, reason=action.reason)
        case _:
            return ServiceState(phase=Phase.STOPPED, reason=action.reason)
