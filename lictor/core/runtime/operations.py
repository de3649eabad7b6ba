"""What the CLI and the HTTP API may ask of the agent: one service layer under all doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from lictor import __version__
from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.log_files import LogFiles
from lictor.core.runtime.answers.monitor import Monitor
from lictor.core.runtime.answers.overrides_view import OverridesView
from lictor.core.runtime.answers.questions import Questions
from lictor.core.runtime.answers.registry_view import RegistryView
from lictor.core.runtime.answers.services_view import ServicesView
from lictor.core.runtime.control import Emit
from lictor.core.runtime.gpu.view import GpuView
from lictor.core.runtime.orders.clean_up import CleanUp
from lictor.core.runtime.orders.foresight import Foresight
from lictor.core.runtime.orders.local import Orders
from lictor.core.runtime.orders.models import ModelOrders
from lictor.core.worded import worded

Handler: TypeAlias = Callable[[dict[str, Any], str, Emit], Awaitable[Any]]


class Operations:
    """The handlers by name; `handle` is what the control socket calls."""

    def __init__(self, agent: Agent, reload: Callable[[], dict[str, Any]]) -> None:
        self.foresight = Foresight(agent)
        self._ops: dict[str, Handler] = {
            **self.foresight.ops,
            **Questions(agent).ops,
            **ServicesView(agent).ops,
            **LogFiles(agent).ops,
            **RegistryView(agent).ops,
            **CleanUp(agent).ops,
            **OverridesView(agent).ops,
            **Monitor(agent).ops,
            **GpuView(agent).ops,
            **ModelOrders(agent).ops,
            **Orders(agent, reload).ops,
        }

    def add(self, op: str, handler: Handler) -> None:
        """One more operation, from somebody who sees more of the world than the agent does."""
        self._ops[op] = handler

    def knows(self, op: str) -> bool:
        """Whether there is an operation of that name."""
        return op in self._ops

    async def handle(self, op: str, args: dict[str, Any], who: str, emit: Emit) -> Any:
        """Do one operation for `who`; raises `LictorError`."""
        handler = self._ops.get(op)
        if handler is None:
            raise worded(UsageError, because("ask.operation_of", version=__version__, op=op))
        return await handler(args, who, emit)
