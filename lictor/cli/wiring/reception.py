"""People, for an agent that may not have loaded them yet.

The web's libraries and people.db are opened when the first services are already starting; a command
that asks about users before that waits here. It also writes down, for the audit log, whatever was
ordered on the Unix socket. Nothing about people is decided here.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lictor.core.errors import LictorError
from lictor.core.model.reason import because
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.operations import Operations

if TYPE_CHECKING:
    from lictor.web.auth.office import Office
    from lictor.web.auth.records import AuditLine

log = logging.getLogger(__name__)

#: Operations of people, by the names that the command line asks for.
OPS = (
    *("users.list", "users.create", "users.set_role", "users.passwd", "users.disable"),
    *("users.delete", "tokens.list", "tokens.create", "tokens.revoke", "dashboard"),
)
#: What is asked on the socket and changes something: only that is written down.
CHANGES = frozenset(
    {
        *("change", "set", "unset", "hold", "release", "register", "unregister", "confirm"),
        *("reload", "down", "clean_up", *OPS),
    }
) - {"users.list", "tokens.list"}

_EARLY = 1_000  # audit lines from before the file is open


def dashboard_url(agent: Agent) -> str | None:
    """Where the dashboard is, without the last `/`; None while nothing is served."""
    url = agent.web_url
    return None if url is None else f"{url}{agent.config.web.base_path}"


class Reception:
    """Opens the office once, for whoever asks first. Close it after everything that may ask."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._opening: asyncio.Task[Office] | None = None
        self._early: deque[tuple[str, Mapping[str, Any], str, str, str]] = deque(maxlen=_EARLY)

    def add_to(self, operations: Operations) -> None:
        """Make the operations known."""
        for op in OPS:
            operations.add(op, self._op(op))

    async def office(self) -> Office:
        """The open office. Raises `OperationFailed` when it cannot be opened; then try again."""
        if self._opening is None or (self._opening.done() and _failed(self._opening)):
            self._opening = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._opening)

    async def attend(self) -> None:
        """Open it when nobody asked yet, so that the first admin's password is there."""
        try:
            await self.office()
        except LictorError as error:
            log.error("people cannot be looked up: %s", error)  # noqa: TRY400 - a sentence says it

    async def watch(
        self, operations: Operations, op: str, args: dict[str, Any], who: str, emit: Emit
    ) -> Any:
        """What the socket calls: the operation, and a line of the audit log about what changes."""
        if op not in CHANGES:
            return await operations.handle(op, args, who, emit)
        try:
            answer = await operations.handle(op, args, who, emit)
        except LictorError as error:
            outcome = "failed" if error.exit_code == 1 else "refused"
            self._note(op, args, who, outcome, error.code)
            raise
        self._note(op, args, who, "ok", "")
        return answer

    async def close(self) -> None:
        """Finish writing, and close the file."""
        if self._opening is None:
            return
        try:
            office = await self._opening
        except (LictorError, asyncio.CancelledError):
            return
        await asyncio.to_thread(office.close)

    def _op(self, op: str) -> Any:
        async def handler(args: dict[str, Any], who: str, _emit: Emit) -> Any:
            return await (await self.office()).handle(op, args, who)

        return handler

    async def _open(self) -> Office:
        module = await asyncio.to_thread(importlib.import_module, "lictor.web.auth.office")
        agent = self._agent
        around = module.Surroundings(
            data_dir=agent.tools.datadir.path,
            agent_id=agent.tools.datadir.agent_id(),
            mode=lambda: agent.config.agent.mode,
            url=lambda: dashboard_url(agent),
            journal=self._journal,
        )
        office: Office = await module.Office.open(around)
        while self._early:
            office.audit.note(module.audit_line(*self._early.popleft()))
        return office

    def _note(self, op: str, args: Mapping[str, Any], who: str, outcome: str, why: str) -> None:
        opened = self._opening
        if opened is None or not opened.done() or _failed(opened):
            self._early.append((op, args, who, outcome, why))
            return
        office = importlib.import_module("lictor.web.auth.office")
        opened.result().audit.note(office.audit_line(op, args, who, outcome, why))

    def _journal(self, line: AuditLine) -> None:
        """The same in the agent's journal; what came through the socket stands there already."""
        if line.via == "socket":
            return
        said = because(
            "access.done",
            who=line.who,
            remote=line.remote,
            action=line.action,
            target=line.target or "-",
            outcome=line.outcome,
        )
        self._agent.record("access", "", said, who=line.who, remote=line.remote, via=line.via)


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None
