"""Writes entries to the local Consul agent: several services at once, each in its own order.

One refused entry holds up no other, and what comes up too often is held back. Which writes are
needed is not decided here but in `planning.registration`; when to try again is the registrar's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

from lictor.core.errors import BadRequest, ConsulError, Forbidden, NotFound
from lictor.core.model.registration import (
    Register,
    RegistryView,
    SetStatus,
    Write,
)
from lictor.core.model.state import Health
from lictor.core.planning.groups import GROUP_META
from lictor.core.planning.registration import service_of
from lictor.core.runtime.registry.flaps import Flaps

log = logging.getLogger(__name__)

_AT_ONCE = 8  # writes under way at one time


class TakenOutMeanwhile(ConsulError):
    """Somebody took an entry out between two writes of ours. Consul itself is well."""


class EntryWriter:
    """Applies writes through `apply`. `refused`: Consul's own words, by the id of the entry.

    `forbidden` are those of the refused for which our token lacks a rule.
    """

    def __init__(self, apply: Callable[[Write], Awaitable[None]]) -> None:
        self._apply = apply
        self.flaps = Flaps()
        self.refused: dict[str, str] = {}
        self.forbidden: set[str] = set()

    async def write(self, writes: Sequence[Write]) -> None:
        """Apply them: in order for one service, several services at once. Raises `ConsulError`.

        `TakenOutMeanwhile` only when nothing worse happened to any of them.
        """
        lanes: dict[str, list[Write]] = {}
        for write in writes:
            lanes.setdefault(service_of(write), []).append(write)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def lane(service_id: str, work: Sequence[Write]) -> None:
            async with gate:
                try:
                    for write in work:
                        await self._apply(write)
                        self._count(write)
                except (BadRequest, Forbidden) as error:
                    if isinstance(error, Forbidden) and error.unknown_token:
                        raise
                    self._note_refusal(service_id, error)  # the others are not its hostages
                except NotFound as error:
                    if isinstance(write, SetStatus):
                        raise TakenOutMeanwhile(error.message) from error
                    raise
                else:
                    self.refused.pop(service_id, None)
                    self.forbidden.discard(service_id)

        results = await asyncio.gather(
            *(lane(service_id, work) for service_id, work in lanes.items()),
            return_exceptions=True,
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            raise min(failed, key=lambda error: isinstance(error, TakenOutMeanwhile))

    def forget_all_but(self, wanted: Collection[str]) -> None:
        """What is not wanted any more is not refused any more."""
        self.refused = {name: why for name, why in self.refused.items() if name in wanted}
        self.forbidden &= set(wanted)

    def permitted(self, writes: Sequence[Write], seen: RegistryView) -> list[Write]:
        """The writes without those that bring up an entry which came up too often lately."""
        late: set[str] = set()
        result: list[Write] = []
        for write in writes:
            service_id = service_of(write)
            if self.too_often(write):
                late.add(service_id)
            elif (
                isinstance(write, SetStatus)
                and service_id in late
                and write.check_id not in seen.checks
            ):
                continue  # without its registration there is no check whose status could be set
            else:
                result.append(write)
        return result

    def too_often(self, write: Write) -> bool:
        """Whether it brings up an entry that has to wait."""
        brings = _brings_up(write)
        return brings is not None and not self.flaps.may_come_up(*brings, _now())

    def _count(self, write: Write) -> None:
        brings = _brings_up(write)
        if brings is not None:
            self.flaps.came_up(*brings, _now())

    def _note_refusal(self, service_id: str, error: ConsulError) -> None:
        if self.refused.get(service_id) != error.message:
            log.warning("Consul refuses %s: %s", service_id, error.message)
        self.refused[service_id] = error.message
        if isinstance(error, Forbidden):
            self.forbidden.add(service_id)
        else:
            self.forbidden.discard(service_id)


def _brings_up(write: Write) -> tuple[str, str] | None:
    """The entry that a write makes visible, and by what; None for what takes away or warns."""
    match write:
        case Register(registration) if GROUP_META not in registration.meta:
            # Not for a place in a group: held back it would leave the group's name without an
            # answer. That has its own damping, the hold-down.
            return registration.service_id, "entry"
        case SetStatus(check_id, Health.PASSING):
            return service_of(write), check_id
    return None


def _now() -> float:
    return asyncio.get_running_loop().time()
