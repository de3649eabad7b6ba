"""The one blocking-query loop: wake within milliseconds, and never believe an old index.

Consul's rules (developer.hashicorp.com/consul/api-docs/features/blocking) and what was measured on
1.8.7: an index that falls means start again at 0, and so does *any* error, because a query that
holds an index from before a state loss sleeps through every change (20.8 s of a wait of 20 s). So
does a new connection, since Consul may have been emptied between the two. An
answer is no proof of a change, so callers compare data. It never gives up and never spins: a failure
is answered with full-jitter back-off, a hot prefix with a tenth of a second between queries.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lictor.consul_integration.failures import reason_of
from lictor.consul_integration.transport import ConnectionRenewed
from lictor.core.errors import ConsulError, ConsulTimeout, ConsulUnreachable, Forbidden
from lictor.core.model.known import Unknown
from lictor.core.model.reason import Reason

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """One answer: the index it carries, and the data."""

    index: int
    data: T


class Fetch(Protocol[T_co]):
    """One query: at once when `index` is 0, else blocking up to `wait` seconds."""

    def __call__(self, index: int, wait: float, /) -> Awaitable[tuple[int, T_co]]:
        """Give index and data; raise `ConsulError`."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a watch paces itself, in seconds. `jitter` gives numbers from 0 to 1.

    `denied`: the least between two tries without rights, which only a person can change.
    """

    wait: float = 30.0
    gap: float = 0.1
    first_delay: float = 0.25
    max_delay: float = 30.0
    denied: float = 10.0
    jitter: Callable[[], float] = random.random

    def delay(self, failures: int) -> float:
        """How long to wait after that many failures in a row: full jitter below a doubling cap."""
        ceiling = min(self.max_delay, self.first_delay * 2.0 ** min(failures - 1, 30))
        return ceiling * self.jitter()


class Watch(Generic[T]):
    """Repeats one blocking query for ever.

    `contact` is an optional sleep that ends early when somebody else reached Consul (see
    `Transport.contact`): after an outage there is no point in waiting out half a minute.
    """

    def __init__(
        self,
        fetch: Fetch[T],
        *,
        pace: Pace | None = None,
        contact: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._fetch = fetch
        self._pace = pace or Pace()
        self._contact = contact or asyncio.sleep

    async def answers(self) -> AsyncGenerator[Fresh[T] | Unknown, None]:
        """Every answer as it comes, changed or not; `Unknown` when a failure begins.

        While the failure lasts `Unknown` comes again only when its kind changes (unreachable, then
        forbidden), so that what is shown stays true.
        """
        index, failures = 0, 0
        told = ""
        while True:
            began = _now()
            try:
                seen, data = await self._fetch(index, self._pace.wait)
            except ConnectionRenewed:
                # Nothing is known to be wrong; but what the index meant may be gone.
                index = 0
                continue
            except ConsulError as error:
                index = 0
                failures += 1
                reason = reason_of(error)
                if reason.code != told:
                    told = reason.code
                    yield Unknown(reason)
                await self._back_off(error, failures)
                continue
            failures, told = 0, ""
            yield Fresh(seen, data)
            # A query with index 0 never blocks; Consul says to use at least 1.
            index = 0 if seen < index else max(seen, 1)
            # Only a query that came back early is followed by a pause: a change after a quiet time
            # is never held up.
            await asyncio.sleep(max(0.0, self._pace.gap - (_now() - began)))

    async def _back_off(self, error: ConsulError, failures: int) -> None:
        delay = self._pace.delay(failures)
        if isinstance(error, Forbidden) and error.unknown_token:
            # Nobody's call works with this token: the first that does ends the wait for all.
            await self._contact(max(delay, self._pace.denied))
        elif isinstance(error, Forbidden):
            await asyncio.sleep(max(delay, self._pace.denied))
        elif isinstance(error, ConsulUnreachable | ConsulTimeout):
            # Not for other failures: a watch without rights would then run as fast as the calls.
            await asyncio.sleep(min(delay, self._pace.gap))
            await self._contact(max(0.0, delay - self._pace.gap))
        else:
            await asyncio.sleep(delay)


class Edge:
    """Tells a failure once: remembers the last `Unknown` that was passed on."""

    def __init__(self) -> None:
        self._told: Reason | None = None

    def broke(self, unknown: Unknown) -> bool:
        """Whether this one says something new."""
        new = self._told is None or self._told.code != unknown.reason.code
        self._told = unknown.reason
        return new

    def recovered(self) -> None:
        """Forget: the next failure is news again."""
        self._told = None


def _now() -> float:
    return asyncio.get_running_loop().time()
