"""What a container needs before it can be made: its image, its network, an engine with GPUs.

Each is asked for before anything is created, so that a start which cannot succeed leaves nothing and
says what is missing. It creates networks and builds images, and never a container.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from lictor.core.drivers.docker.images import Images
from lictor.core.drivers.docker.request import Request, folder_of
from lictor.core.drivers.docker.room import CALL, EngineRoom
from lictor.core.errors import StartFailed
from lictor.core.model.reason import Reason
from lictor.core.model.spec import ServiceSpec


class Needs:
    """What has to be there, at one engine; networks are made in the name of `owner`."""

    def __init__(self, room: EngineRoom, owner: str) -> None:
        self._room = room
        self._owner = owner
        self._images = Images(room)
        self._networks = asyncio.Lock()

    async def meet(
        self, request: Request, spec: ServiceSpec, told: Callable[[Reason], None]
    ) -> Request:
        """See to all of it; the request as this engine takes it. `told` hears of a build's progress.

        Raises `StartFailed`, `EngineAway` and `EngineRefused`.
        """
        docker = spec.docker
        folder = folder_of(docker.build, spec.cwd) if docker is not None and docker.build else None
        await self._images.need(request.image, folder, str(spec.key), told)
        network = request.own_network
        if network is not None:
            async with self._networks:  # two at once would make two of one name
                await self._room.call(lambda e: e.need_network(network, self._owner, CALL))
        return await self._with_gpus(request) if request.gpus else request

    async def _with_gpus(self, request: Request) -> Request:
        facts = await self._room.call(lambda e: e.facts(CALL))
        if not facts.gpu:
            raise StartFailed(
                "the Docker engine has no support for GPUs",
                reason_code="docker.no_gpu_support",
                params={"version": facts.version},
            )
        return replace(request, gpu_by=facts.gpu)
