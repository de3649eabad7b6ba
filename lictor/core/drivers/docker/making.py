"""Making a service's container: for a start, or ahead of it while the present run goes on.

A container that was made and not started holds no port, no memory and no GPU, so the next one can be
there before the present one ends, under a name beside its own. A start that asks for exactly the same
takes it, and before it runs it gets the name of its definition. A start that asks for anything else
makes its own. What was made ahead is known to this agent alone: for the next one it is what an earlier
agent left, and goes. Nothing is started here, and no container of somebody else's is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lictor.core.drivers.docker.judging import name_taken
from lictor.core.drivers.docker.request import Request, name_beside
from lictor.core.drivers.docker.room import CALL, EngineRoom
from lictor.core.drivers.docker.terms import SERVICE, EngineAway, EngineRefused, Inspected, Seen
from lictor.core.errors import StartFailed

if TYPE_CHECKING:
    from lictor.core.drivers.docker.gate import Engine

_CREATE = 60.0  # seconds: an engine on a busy disk is slow
_REMOVE = 60.0
_TAKEN = 409  # HTTP status: the name is another's


class Making:
    """Makes containers in the name of `owner`. Raises `StartFailed`, `EngineAway`, `EngineRefused`."""

    def __init__(self, room: EngineRoom, owner: str) -> None:
        self._room = room
        self._owner = owner
        self._ahead: dict[str, tuple[str, Request]] = {}  # by the text of the service's key

    async def refuse_stranger(self, request: Request) -> None:
        """Raise `StartFailed` if the name belongs to a container that is not this service's."""
        holder = await self._inspect(request.name)
        if holder is None or (
            holder.owner == self._owner and holder.service in {"", request.labels[SERVICE]}
        ):
            return
        raise name_taken(request.name, holder)

    async def supersede(self, request: Request) -> None:
        """Remove what was made ahead for another definition, whatever becomes of this one."""
        _, wanted = self._ahead.get(request.labels[SERVICE], (None, None))
        if wanted is not None and wanted.labels != request.labels:
            await self.drop(request.labels[SERVICE])

    async def ahead(self, request: Request) -> None:
        """Make the container of the next run beside the present one. Given up, it is undone."""
        service = request.labels[SERVICE]
        if await self._stands(request):
            return
        await self.drop(service)
        await self.refuse_stranger(request)
        beside = replace(request, name=name_beside(request.name))
        await self._free(beside)
        making = asyncio.ensure_future(self._create(beside))
        try:
            container = await asyncio.shield(making)
        except asyncio.CancelledError:
            # A call in a thread cannot be called back: let it end, then undo it.
            with contextlib.suppress(EngineAway, EngineRefused, StartFailed):
                await self.undo(await making)
            raise
        self._ahead[service] = container, request

    def awaits(self, one: Seen, request: Request) -> bool:
        """Whether this is what was made ahead for just this request, and nobody started it."""
        return self._ahead.get(one.service) == (one.id, request) and one.state == "created"

    async def drop(self, service: str) -> None:
        """Remove what was made ahead for a service. An engine that is away keeps it for a later look."""
        container, _ = self._ahead.pop(service, (None, None))
        if container is not None:
            await self.undo(container)

    async def make(self, request: Request) -> str:
        """The container of this request, under its name, not started: made ahead or made now. Its id."""
        container, wanted = self._ahead.get(request.labels[SERVICE], (None, None))
        if container is not None and wanted == request:
            del self._ahead[request.labels[SERVICE]]
            if await self._named(container, request.name):
                return container
        return await self._create(request)

    async def undo(self, container: str) -> None:
        """Remove one that was made here, if the engine lets us: a listing will show it if not."""
        with contextlib.suppress(EngineAway, EngineRefused):
            await self._room.call(partial(_remove, container), _REMOVE)

    # --- within -------------------------------------------------------------------------

    async def _create(self, request: Request) -> str:
        try:
            return await self._room.call(lambda e: e.create(request, _CREATE), _CREATE)
        except EngineRefused as refused:
            if refused.status != _TAKEN:
                raise
            holder = await self._inspect(request.name)
            if holder is None:
                raise
            raise name_taken(request.name, holder) from refused

    async def _named(self, container: str, name: str) -> bool:
        """Give it its name; False: it is not to be had, and gone. `_create` finds out why."""
        try:
            await self._room.call(lambda e: e.rename(container, name, CALL))
        except EngineRefused:
            await self.undo(container)
            return False
        return True

    async def _stands(self, request: Request) -> bool:
        """Whether what is asked for was made ahead already, and is still there."""
        container, wanted = self._ahead.get(request.labels[SERVICE], (None, None))
        if container is None or wanted != request:
            return False
        found = await self._inspect(container)
        return found is not None and found.state == "created"

    async def _free(self, beside: Request) -> None:
        """Remove what an engine made for an agent that was killed before it heard of it."""
        left = await self._inspect(beside.name)
        ours = left is not None and left.owner == self._owner
        if left is not None and ours and not left.alive and left.service == beside.labels[SERVICE]:
            await self._room.call(partial(_remove, left.id), _REMOVE)

    async def _inspect(self, name: str) -> Inspected | None:
        return await self._room.call(lambda e: e.inspect(name, CALL))


def _remove(container: str, engine: Engine) -> None:
    engine.remove(container, _REMOVE)
