"""Publishes the actual state to `lictor/actual/<node>/<service>`.

On change only, at most once a second per service, many services in one transaction: KV is a raft
log, no place for metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from lictor.core.errors import ConsulError, Forbidden
from lictor.core.model.names import ServiceKey
from lictor.core.ports import ActualSink

log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds between two transactions
_LONGEST = 10.0  # seconds between two tries while Consul takes none


class Publisher:
    """Collects which services changed and writes their documents.

    `document(key)` gives the present document without its time, or None when the service is gone;
    `jitter` a number from -1 to 1.
    """

    def __init__(
        self,
        document: Callable[[ServiceKey], dict[str, Any] | None],
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._document = document
        self._jitter = jitter
        self._anew = asyncio.Event()
        self._beginnings = 0
        self._dirty: set[ServiceKey] = set()
        self._written: dict[ServiceKey, Mapping[str, Any] | None] = {}
        self._wake = asyncio.Event()
        #: Why Consul takes nothing from us although it answers; empty while it does.
        self.refused = ""

    def touch(self, *keys: ServiceKey) -> None:
        """These services may have changed."""
        self._dirty.update(keys)
        self._wake.set()

    def begin_anew(self, sink: ActualSink, *keys: ServiceKey) -> None:
        """Consul is back: what it was told before it went does not count any more."""
        self._written.clear()
        self._beginnings += 1
        sink.forget()
        self.touch(*keys)
        self._anew.set()

    async def keep_publishing(self, sink: ActualSink) -> None:
        """Write for ever; a failure keeps the change for the next try, later each time."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._anew.clear()
            # While Consul takes nothing, one document shows as well as all when it does again.
            failure = await self.flush(sink, most=1 if failures else None)
            self._tell(failure)
            if failure is None:
                failures = 0
                if self._dirty:
                    self._wake.set()
                else:
                    await asyncio.sleep(_PAUSE)
                continue
            failures += 1
            delay = min(_LONGEST, _PAUSE * 2.0 ** min(failures - 1, 10))
            if isinstance(failure, Forbidden):
                delay = _LONGEST
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * (0.75 + 0.25 * abs(self._jitter()))):
                    await self._anew.wait()
            self._wake.set()

    def _tell(self, failure: ConsulError | None) -> None:
        """A token that lacks the rule is noticed by nobody else: all other calls go well."""
        refused = failure.message if isinstance(failure, Forbidden) else ""
        if refused and not self.refused:
            log.warning("actual state is not published: %s", refused)
        elif self.refused and failure is None:
            log.info("actual state is published again")
        self.refused = refused

    async def flush(self, sink: ActualSink, *, most: int | None = None) -> ConsulError | None:
        """Write what changed, now, of `most` services (None: all); why it was not taken, if so."""
        dirty = set(islice(self._dirty, most))
        self._dirty -= dirty
        begun = self._beginnings
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        documents = {key: self._document(key) for key in dirty}
        changed = {
            key: document
            for key, document in documents.items()
            if key not in self._written or self._written[key] != document
        }
        if not changed:
            return None
        try:
            await sink.publish(
                {key: None if doc is None else {**doc, "at": at} for key, doc in changed.items()}
            )
        except ConsulError as error:
            self._dirty |= changed.keys()
            return error
        if begun == self._beginnings:  # else Consul may have lost it again since
            self._written.update(changed)
        return None
