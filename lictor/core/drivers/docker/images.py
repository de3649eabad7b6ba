"""Images: whether one is there, building one from its folder, and pulling one when somebody asks.

A start never pulls: a model server's image has gigabytes, and nobody who typed `start` meant that.
It does build, if the definition names a folder, because there is no other way to get that image.
Building goes on when the start that began it is given up, and the next start finds it under way.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lictor.core.drivers.docker.room import CALL, EngineRoom
from lictor.core.drivers.docker.terms import EngineAway, EngineRefused
from lictor.core.errors import OperationFailed, StartFailed
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.drivers.docker.answers import Step
    from lictor.core.drivers.docker.gate import Engine

_STALL = 600.0  # seconds without a word from a build or a pull until it counts as hung
_SHOWN = 80  # characters of a step

#: Told of a build.
Told = Callable[[Reason], None]
#: Told of a pull: what is done just now, bytes so far, bytes in all (0: not known yet).
Progress = Callable[[str, int, int], None]


def pull(image: str, progress: Progress, *, address: str | None = None) -> None:
    """Bring an image from its registry, for `lictor install`. Blocking; called again it goes on.

    Layers that are there already are not fetched again, so it may be interrupted at any time.
    Raises `OperationFailed` with the registry's own words.
    """
    gate = importlib.import_module("lictor.core.drivers.docker.gate")
    engine: Engine = gate.Engine(address)
    try:
        for step in engine.pull(image, _STALL):
            progress(step.said, step.done, step.total)
    except EngineRefused as refused:
        why = because("docker.pull_refused", image=image, error=refused.said)
        hint = _pull_hint(refused)
        raise worded(OperationFailed, why, hint=hint, code="docker.pull_refused") from refused
    except EngineAway as away:
        raise _away(away) from away


def _away(away: EngineAway) -> OperationFailed:
    return worded(OperationFailed, away.reason, code=away.reason.code)


class EnginePuller:
    """The same for `lictor install`: what is there is not fetched, and progress is a share."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def has(self, image: str) -> bool:
        """Whether the image is there already. Raises `OperationFailed` without an engine."""
        engine: Engine = importlib.import_module("lictor.core.drivers.docker.gate").Engine(
            self._address
        )
        try:
            return engine.has_image(image, CALL)
        except EngineRefused as refused:
            raise OperationFailed(refused.said, code="docker.refused") from refused
        except EngineAway as away:
            raise _away(away) from away
        finally:
            engine.leave()

    def pull(self, image: str, told: Callable[[str, float | None], None]) -> None:
        """Fetch it; `told` hears what is done and how much of it, 0 to 1, if that is known."""

        def tell(said: str, done: int, total: int) -> None:
            told(said, done / total if total else None)

        pull(image, tell, address=self._address)


def _pull_hint(refused: EngineRefused) -> Reason | None:
    said = refused.said.lower()
    if any(word in said for word in ("denied", "unauthorized", "authentication")):
        return because("next.docker_login")
    if "not found" in said or "manifest unknown" in said:
        return because("next.image_name")
    return None


class _Build:
    """One build under way, told to everybody who waits for it: who began it may have given up."""

    def __init__(self, work: Callable[[Told], Coroutine[None, None, None]]) -> None:
        self._said: Reason | None = None
        self._listeners: list[Told] = []
        self.task = asyncio.get_running_loop().create_task(work(self._tell))

    def listen(self, told: Told) -> None:
        """Tell this one too, at once if something was said already: a step may take minutes."""
        self._listeners.append(told)
        if self._said is not None:
            told(self._said)

    def _tell(self, said: Reason) -> None:
        self._said = said
        for told in self._listeners:
            told(said)


class Images:
    """What a start needs of images. `told` hears how far a build has come."""

    def __init__(self, room: EngineRoom) -> None:
        self._room = room
        self._builds: dict[str, _Build] = {}

    async def need(self, image: str, folder: Path | None, service: str, told: Told) -> None:
        """Return if the image is there or could be built. Raises `StartFailed`, `EngineAway`."""
        if image not in self._builds and await self._room.call(lambda e: e.has_image(image, CALL)):
            return
        if image not in self._builds:  # (another may have begun one since)
            if folder is None:
                raise StartFailed(
                    f"the image {image} is not on this host",
                    reason_code="docker.image_missing",
                    params={"image": image, "service": service},
                )
            build = _Build(partial(self._build, image, folder))
            build.task.add_done_callback(lambda _: self._builds.pop(image, None))
            self._builds[image] = build
        build = self._builds[image]
        build.listen(told)
        await asyncio.shield(build.task)

    async def _build(self, image: str, folder: Path, told: Told) -> None:
        told(because("docker.building", image=image, step=str(folder)))
        loop = asyncio.get_running_loop()

        def work(engine: Engine) -> None:
            for step in engine.build(folder, image, _STALL):
                if _is_step(step):
                    said = because("docker.building", image=image, step=step.said[:_SHOWN])
                    loop.call_soon_threadsafe(told, said)

        try:
            await self._room.at_length(work)
        except EngineRefused as refused:
            raise _not_built(image, refused.said) from refused
        except (OSError, TypeError) as error:  # (the library's words for a folder that is none)
            raise _not_built(image, str(error)) from error


def _is_step(step: Step) -> bool:
    return step.said.startswith(("Step ", "#"))


def _not_built(image: str, error: str) -> StartFailed:
    return StartFailed(
        f"the image {image} was not built: {error}",
        reason_code="docker.build_failed",
        params={"image": image, "error": error},
    )
