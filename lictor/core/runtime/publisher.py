"""Publishes the actual state to `lictor/actual/<node>/<service>`.

On change only, at most once a second per service, many services in one transaction: KV is a raft
log, no place for metrics.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lictor.core.errors import ConsulError
from lictor.core.model.names import ServiceKey
from lictor.core.ports import ActualSink

log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds between two transactions


class Publisher:
    """Collects which services changed and writes their documents.

    `document(key)` gives the present document without its time, or None when the service is gone.
    """

    def __init__(self, document: Callable[[ServiceKey], dict[str, Any] | None]) -> None:
        self._document = document
        self._dirty: set[ServiceKey] = set()
        self._written: dict[ServiceKey, Mapping[str, Any] | None] = {}
        self._wake = asyncio.Event()

    def touch(self, *keys: ServiceKey) -> None:
        """These services may have changed."""
        self._dirty.update(keys)
        self._wake.set()

    def begin_anew(self, sink: ActualSink, *keys: ServiceKey) -> None:
        """Consul is back: what it was told before it went does not count any more."""
        self._written.clear()
        sink.forget()
        self.touch(*keys)

    async def keep_publishing(self, sink: ActualSink) -> None:
        """Write for ever; a failure keeps the change for the next try."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush(sink)
            await asyncio.sleep(_PAUSE)

    async def flush(self, sink: ActualSink) -> None:
        """Write what changed, now."""
        dirty, self._dirty = self._dirty, set()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        documents = {key: self._document(key) for key in dirty}
        changed = {
            key: document
            for key, document in documents.items()
            if key not in self._written or self._written[key] != document
        }
        if not changed:
            return
        try:
            await sink.publish(
                {key: None if doc is None else {**doc, "at": at} for key, doc in changed.items()}
            )
        except ConsulError:
            self._dirty |= changed.keys()
            asyncio.get_running_loop().call_later(_PAUSE, self._wake.set)
            return
        self._written.update(changed)
