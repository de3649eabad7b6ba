"""Holds: an operator's word that no document of KV can overrule.

They live in the store of this host, so that they survive the agent and count while Consul is away;
other nodes learn of them from the actual state, and order one through KV (`hold_inbox`). Which hold
counts is decided in `planning.overrides`; here they are kept, and ended when their time is over.
Nothing here starts or stops a service.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from lictor.core.model.desired import Hold
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.ports import Store
from lictor.core.runtime.storage.codec import hold_from, hold_row, key_from

log = logging.getLogger(__name__)

_TABLE = "holds"


class Holds:
    """The holds of this host, by service. Lives in the event loop's thread."""

    def __init__(self, store: Store, on_event: Callable[[str, Reason], None]) -> None:
        self._store = store
        self._on_event = on_event
        self._held: dict[ServiceKey, Hold] = {}

    @property
    def held(self) -> Mapping[ServiceKey, Hold]:
        """All holds, for the merge."""
        return self._held

    def load(self) -> None:
        """What an earlier agent was told. A row that is no hold is left where it is, and ignored."""
        for name, row in self._store.load(_TABLE).items():
            key, hold = key_from(name), hold_from(row)
            if key is None or hold is None:
                log.warning("hold ignored: its row is of another version", extra={"key": name})
                continue
            self._held[key] = hold

    def place(self, key: ServiceKey, hold: Hold) -> None:
        """Hold a service, or hold it otherwise."""
        self._held[key] = hold
        self._store.save(_TABLE, str(key), hold_row(hold))

    def release(self, key: ServiceKey) -> Hold | None:
        """Let go of exactly this key; the hold that it had."""
        hold = self._held.pop(key, None)
        if hold is not None:
            self._store.save(_TABLE, str(key), None)
        return hold

    def expire(self, wall: float) -> None:
        """End those whose time is over, and say so."""
        for key, hold in list(self._held.items()):
            if hold.until is not None and hold.until <= wall:
                self.release(key)
                self._on_event(str(key), because("hold.expired", by=hold.by, why=hold.reason))
