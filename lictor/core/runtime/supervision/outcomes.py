"""What came of each order: one line of the journal when it is done, has failed or was overtaken.

A verb returns before its service is ready or gone; whoever reads the journal wants to know how it
ended and who had asked. Open orders are kept in the store, so that an agent that dies in between
leaves the line to the next one. This watches; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.state import Phase
from lictor.core.runtime import views
from lictor.core.runtime.storage.codec import key_from
from lictor.core.runtime.supervision.waiting import Goal, in_force, outcome_of

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_TABLE = "orders"


@dataclass(slots=True)
class Order:
    """One verb on one service that has not come to its end. `at` and `restart` are Unix seconds."""

    verb: str
    who: str
    at: float
    restart: float | None = None
    seen: bool = False  # it was what was wanted, so that anything else later has overtaken it

    @property
    def goal(self) -> Goal:
        """What would be its end."""
        phase = Phase.STOPPED if self.verb == "stop" else Phase.READY
        return Goal(phase, order=True, restart=self.restart)


class Outcomes:
    """The open orders, by service. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: dict[ServiceKey, Order] = {}

    def load(self) -> None:
        """Orders that an earlier agent did not see the end of; call it when all else is known."""
        for name, row in self._agent.tools.store.load(_TABLE).items():
            key, order = key_from(name), _order_from(row)
            if key is not None and order is not None:
                self._open[key] = order
        self.look_at_all()

    def ordered(self, key: ServiceKey, order: Order) -> None:
        """An order was written; its end will be told."""
        if key in self._open:
            self._end(key, "overtaken")
        self._open[key] = order
        self._agent.tools.store.save(_TABLE, str(key), asdict(order))
        self.look(key)

    def open_order(self, key: ServiceKey) -> dict[str, Any] | None:
        """The order on this service whose end has not come: verb, who, and when (Unix seconds)."""
        order = self._open.get(key)
        return None if order is None else {"verb": order.verb, "who": order.who, "at": order.at}

    def look(self, key: ServiceKey) -> None:
        """Something about this service changed."""
        order = self._open.get(key)
        if order is None:
            return
        want = self._agent.reconciler.desired.get(key)
        wanted = want is not None and in_force(want, order.goal)
        if order.seen and not wanted:
            self._end(key, "overtaken")
            return
        order.seen = wanted
        outcome = outcome_of(self._agent, key, order.goal)
        if outcome:
            self._end(key, outcome)

    def look_at_all(self) -> None:
        """What is desired changed."""
        for key in list(self._open):
            self.look(key)

    def _end(self, key: ServiceKey, outcome: str) -> None:
        agent, order = self._agent, self._open.pop(key)
        agent.tools.store.save(_TABLE, str(key), None)
        took = round(max(0.0, agent.tools.clock.wall() - order.at), 1)
        what = because("outcome.done", verb=order.verb, by=order.who, took=took)
        if outcome == "overtaken":
            what = because("outcome.overtaken", verb=order.verb, by=order.who)
        elif outcome == "failed":
            runner = agent.reconciler.runners.get(key)
            why = views.say(runner.state.reason) if runner is not None else "-"
            what = because("outcome.failed", verb=order.verb, by=order.who, why=why)
        agent.record("outcome", str(key), what, who=order.who, outcome=outcome)


def _order_from(row: Mapping[str, Any]) -> Order | None:
    try:
        restart = row["restart"]
        return Order(
            verb=str(row["verb"]),
            who=str(row["who"]),
            at=float(row["at"]),
            restart=None if restart is None else float(restart),
            seen=bool(row["seen"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
