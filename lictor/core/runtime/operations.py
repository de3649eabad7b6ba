"""What the CLI (and later the HTTP API) may ask of the agent: one service layer under all doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from lictor import __version__
from lictor.core.errors import UsageError
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.orders import Orders
from lictor.core.runtime.questions import Questions

Handler: TypeAlias = Callable[[dict[str, Any], str, Emit], Awaitable[Any]]


class Operations:
    """The handlers by name; `handle` is what the control socket calls."""

    def __init__(self, agent: Agent, reload: Callable[[], dict[str, Any]]) -> None:
        self._ops: Mapping[str, Handler] = {**Questions(agent).ops, **Orders(agent, reload).ops}

    async def handle(self, op: str, args: dict[str, Any], who: str, emit: Emit) -> Any:
        """Do one operation for `who`; raises `LictorError`."""
        handler = self._ops.get(op)
        if handler is None:
            raise UsageError(f"This agent ({__version__}) does not know the operation {op!r}.")
        return await handler(args, who, emit)
