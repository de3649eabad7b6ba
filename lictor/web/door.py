"""The one way from a route to the agent: operations by name, and whose service is whose.

Routers stay thin: they check the right, call an operation that the command line calls too, and give
the answer its shape. Whatever a router needs and cannot ask here is a missing operation, and belongs
into `core.runtime`. This holds no state of any service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request

from lictor.core.errors import LictorError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import services_meant
from lictor.core.runtime.operations import Operations
from lictor.core.worded import worded
from lictor.web.auth.gate import Person
from lictor.web.auth.rights import Right, Scope

_MOST_ORDERS = 64  # that are being carried out at a time
_TURNS = 4


class Busy(LictorError):
    """429: so many orders are on their way that another one has to wait its turn."""

    code = "busy"


class Unknown(LictorError):
    """501: this agent does not know the operation (an older one, or a part that is not there)."""

    code = "operation.unknown"


@dataclass(slots=True)
class Door:
    """The agent as routes see it."""

    agent: Agent
    operations: Operations
    #: For work that goes on for long in small pieces: so many pieces between two other requests.
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_TURNS), init=False)
    _orders: int = field(default=0, init=False)

    async def ask(self, op: str, args: dict[str, Any] | None = None, who: str = "web") -> Any:
        """The answer to a question; raises `LictorError`."""
        if not self.operations.knows(op):
            raise worded(Unknown, because("ask.operation", op=op))
        return await self.operations.handle(op, args or {}, who, _nothing)

    async def listing(
        self, op: str, args: dict[str, Any], who: str = "web"
    ) -> tuple[list[dict[str, Any]], Any]:
        """The items that an operation emits before its answer, and the answer."""
        items: list[dict[str, Any]] = []

        async def emit(item: dict[str, Any]) -> None:
            items.append(item)

        answer = await self.operations.handle(op, args, who, emit)
        return items, answer

    async def order(self, op: str, args: dict[str, Any], person: Person) -> Any:
        """Have something done. It is done whether or not the caller waits for the answer."""
        if self._orders >= _MOST_ORDERS:
            raise worded(Busy, because("order.too_many"), hint=because("next.in_a_second"))
        self._orders += 1
        try:
            return await self.ask(op, args, person.name)
        finally:
            self._orders -= 1

    def keys(self, names: Iterable[str]) -> list[ServiceKey]:
        """The services meant; raises `NoSuchService`."""
        return services_meant(self.agent, names, infrastructure=True)

    def owner(self, key: ServiceKey) -> str | None:
        """Whose service it is, as config.yml says."""
        runner = self.agent.reconciler.runners.get(key)
        return runner.spec.owner if runner is not None else None

    def require(self, person: Person, right: Right, names: Iterable[str]) -> list[ServiceKey]:
        """The services meant, if the right reaches every one of them; raises."""
        keys = self.keys(names)
        for key in keys:
            person.require(right, self.owner(key))
        return keys

    def reached(self, person: Person, right: Right) -> list[ServiceKey]:
        """All services that a right reaches with all their details."""
        keys = self.keys(())
        if person.scope(right) is Scope.ALL:
            return keys
        return [key for key in keys if person.reaches(right, self.owner(key))]


async def _nothing(_item: dict[str, Any]) -> None:
    """Nobody reads what an order emits on its way."""


async def the_door(request: Request) -> Door:
    """The door of the application that serves this request."""
    door: Door = request.app.state.door
    return door


TheDoor: TypeAlias = Annotated[Door, Depends(the_door)]
