"""What the agent refuses to do although it could: hurt others, touch its own, break a hold.

Each refusal names who would suffer or who decided, and what would be the way. They stand apart from
the orders so that every door (verbs, holds, switches of models) refuses the same things.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from lictor.core.errors import LictorError, NoSuchService, Refused, TimedOut, UsageError
from lictor.core.model.desired import DesiredState, Hold
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.planning.order import dependents
from lictor.core.planning.overrides import hold_of
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent
    from lictor.core.runtime.control import Emit

Handler: TypeAlias = Callable[[dict[str, Any], str, "Emit"], Awaitable[Any]]

#: Errors that are no event: a slip of the hand, or a wait that was over before the order was.
_UNTOLD = (UsageError, NoSuchService, TimedOut)


def telling_refusals(agent: Agent, op: str, handler: Handler) -> Handler:
    """The handler of an operation, with a line in the journal when it refuses."""

    async def told_one(args: dict[str, Any], who: str, emit: Emit) -> Any:
        try:
            return await handler(args, who, emit)
        except LictorError as error:
            if not isinstance(error, _UNTOLD):
                names = args.get("names") or [args.get("name") or ""]
                subject = str(names[0]) if len(names) == 1 else ""
                verb = str(args.get("verb") or op)
                why = because("outcome.refused", verb=verb, by=who, why=error.message)
                agent.record("outcome", subject, why, who=who, outcome="refused")
            raise

    return told_one


def refuse_infrastructure(agent: Agent, keys: Iterable[ServiceKey]) -> None:
    """What Lictor runs for itself is not the operator's to start or stop."""
    for key in keys:
        if key in agent.infrastructure:
            own = because("order.infrastructure", service=str(key))
            raise worded(Refused, own, hint=because("next.down"))


def hurt_by(agent: Agent, keys: list[ServiceKey]) -> list[ServiceKey]:
    """Running services that need one of `keys` and are not among them."""
    hurt = dict.fromkeys(other for key in keys for other in _hurt_by_one(agent, key, keys))
    return list(hurt)


def _hurt_by_one(agent: Agent, key: ServiceKey, keys: list[ServiceKey]) -> list[ServiceKey]:
    desired = agent.reconciler.desired
    return [
        other
        for other in dependents(key.name, desired)
        if other not in keys
        and agent.reconciler.runners[other].state.phase.running
        and any(dep.name == key.name and dep.required for dep in desired[other].spec.depends_on)
    ]


def refuse_to_hurt(agent: Agent, keys: list[ServiceKey], verb: str) -> None:
    """Stopping what others need is refused until it is said twice."""
    for key in keys:
        hurt = _hurt_by_one(agent, key, keys)
        if hurt:
            listed = ", ".join(str(other) for other in hurt)
            hurts = because("order.hurts", verb=verb, service=str(key), others=listed)
            raise worded(Refused, hurts, hint=because("next.insist"))


def held_against(agent: Agent, key: ServiceKey, verb: str) -> Hold | None:
    """The hold that forbids this verb on a service now; None: it may be done.

    A restart contradicts no hold that wants the service to run.
    """
    hold = hold_of(key, agent.holds.held, agent.tools.clock.wall())
    if hold is None or (verb == "restart" and hold.state is DesiredState.RUNNING):
        return None
    return hold


def told(hold: Hold) -> list[Reason]:
    """Who holds a service how, and until when."""
    said = because("hold.by", by=hold.by, state=hold.state.value, why=hold.reason)
    return [said] if hold.until is None else [said, because("until", until=hold.until)]


def refuse_held(agent: Agent, keys: Iterable[ServiceKey], verb: str) -> None:
    """A held service is moved by nobody, `-y` or not, before it is released."""
    for key in keys:
        hold = held_against(agent, key, verb)
        if hold is not None:
            ends = because("next.end_hold", service=str(key))
            held = because("order.held", service=str(key))
            raise worded(Refused, held, *told(hold), hint=ends, code="held")
