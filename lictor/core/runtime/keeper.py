"""Keeps the desired documents: from KV while Consul answers, from disk while it does not.

Verbs, KV edits and config reloads all end here as documents in force. A verb given while Consul is
away takes effect at once, is remembered as pending, and is pushed when Consul is back, unless
somebody changed the same key meanwhile (then theirs stands, and the journal says so).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from lictor.core.errors import ConsulError
from lictor.core.model.desired import DesiredChange, DesiredState, KvSnapshot, Override
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.planning.overrides import InForce, keep_good
from lictor.core.ports import DesiredSource, Store
from lictor.core.runtime.codec import override_from, override_row

log = logging.getLogger(__name__)


class DesiredKeeper:
    """Owns the documents in force. Lives in the event loop's thread."""

    def __init__(
        self, store: Store, on_change: Callable[[], None], on_event: Callable[[str, Reason], None]
    ) -> None:
        self.documents = InForce()
        self.strays: Mapping[str, Reason] = {}
        self.unknown: Reason | None = because("desired.not_read_yet")
        self._store = store
        self._on_change = on_change
        self._on_event = on_event
        self._texts: dict[str, str] = {}
        self._memory: Mapping[str, object] | None = None
        self._pending: dict[ServiceKey, tuple[DesiredChange, str | None]] = {}
        self._source: DesiredSource | None = None

    # --- memory -------------------------------------------------------------------------

    def load(self) -> None:
        """The last documents in force, from disk."""
        node: dict[ServiceKey, Override] = {}
        everywhere: dict[ServiceKey, Override] = {}
        for name, row in self._store.load("documents").items():
            scope, _, key = name.partition("/")
            override = override_from(row)
            if override is not None and key:
                (node if scope == "node" else everywhere)[ServiceKey.parse(key)] = override
        self.documents = InForce(node=node, all_nodes=everywhere)
        for name, row in self._store.load("pending").items():
            change = row.get("change")
            base = row.get("base")
            if isinstance(change, dict):
                self._pending[ServiceKey.parse(name)] = (
                    _change_from(change),
                    base if isinstance(base, str) else None,
                )
        self._memory = self._store.load("kv").get("memory")

    @property
    def memory(self) -> Mapping[str, object] | None:
        """What the KV adapter of an earlier agent wanted the next one to know."""
        return self._memory

    @property
    def pending(self) -> tuple[ServiceKey, ...]:
        """Verbs that Consul has not been told yet."""
        return tuple(self._pending)

    # --- reading ------------------------------------------------------------------------

    async def follow(self, source: DesiredSource) -> None:
        """Take every snapshot of KV, for ever."""
        self._source = source
        async for view in source.watch():
            match view:
                case Known(snapshot):
                    await self._take(snapshot)
                case Unknown(reason):
                    if self.unknown is None:
                        log.warning("desired state cannot be read: %s", reason.code)
                        self._on_event("desired", reason)
                    self.unknown = reason
                    self._on_change()

    async def _take(self, snapshot: KvSnapshot) -> None:
        if self.unknown is not None:
            log.info("desired state is read from Consul")
        self.unknown = None
        self._texts = {str(key): entry.text for key, entry in snapshot.node.items()}
        if self._pending and await self._push():
            return  # the watch brings what was written; until then the local effect stands
        self._accept(snapshot)

    def _accept(self, snapshot: KvSnapshot) -> None:
        self.strays = snapshot.strays
        before = self.documents
        self.documents = keep_good(before, snapshot)
        self._remember(before)
        for key, reason in self.documents.refused.items():
            if before.refused.get(key) != reason:
                self._on_event(str(key), reason)
        self._on_change()

    def reconsider(self) -> None:
        """The config changed: what did not fit may fit now, and the other way round."""
        snapshot = self._source.current() if self._source is not None else None
        if snapshot is not None and self.unknown is None and not self._pending:
            self._accept(snapshot)

    async def _push(self) -> bool:
        """Tell Consul what was ordered while it was away; True if anything was written."""
        written = False
        for key, (change, base) in list(self._pending.items()):
            if self._texts.get(str(key)) != base:
                self._on_event(str(key), because("pending.overtaken"))
            elif self._source is not None:
                try:
                    await self._source.change(key, change)
                except ConsulError as error:
                    log.warning("pending order not written yet: %s", error.message)
                    return True
                written = True
                self._on_event(str(key), because("pending.written"))
            self._forget_pending(key)
        return written

    # --- writing ------------------------------------------------------------------------

    async def change(self, key: ServiceKey, change: DesiredChange) -> bool:
        """Write one change to KV; True if it is written, False if it waits for Consul."""
        if self._source is not None and self.unknown is None:
            try:
                await self._source.change(key, change)
            except ConsulError as error:
                log.warning("order kept for later, Consul did not take it: %s", error.message)
            else:
                return True
        earlier = self._pending.get(key)
        base = earlier[1] if earlier else self._texts.get(str(key))
        merged = merge_changes(earlier[0], change) if earlier else change
        self._pending[key] = (merged, base)
        self._store.save("pending", str(key), {"change": asdict(merged), "base": base})
        node = dict(self.documents.node)
        applied = apply_change(node.get(key), change)
        if applied is None:
            node.pop(key, None)
        else:
            node[key] = applied
        before = self.documents
        self.documents = replace(before, node=node)
        self._remember(before)
        self._on_change()
        return False

    def _remember(self, before: InForce) -> None:
        for scope, old, new in (
            ("node", before.node, self.documents.node),
            ("all", before.all_nodes, self.documents.all_nodes),
        ):
            for key in {**old, **new}:
                if old.get(key) != new.get(key):
                    row = override_row(new[key]) if key in new else None
                    self._store.save("documents", f"{scope}/{key}", row)
        memory = self._source.memory() if self._source is not None else None
        if memory is not None and memory != self._memory:
            self._memory = memory
            self._store.save("kv", "memory", memory)

    def _forget_pending(self, key: ServiceKey) -> None:
        self._pending.pop(key, None)
        self._store.save("pending", str(key), None)


def apply_change(override: Override | None, change: DesiredChange) -> Override | None:
    """The document after a change, as the KV adapter would write it; None: no document."""
    if change.remove:
        return None
    base = override or Override()
    params: dict[str, Any] = {**base.params, **change.params}
    for name in change.unset_params:
        params.pop(name, None)
    state = base.state
    if change.clear_state:
        state = None
    elif change.state is not None:
        state = DesiredState(change.state)
    return Override(
        state=state,
        params=params,
        restart=_unix(change.restart) if change.restart else base.restart,
        until=_unix(change.until) if change.until else (None if change.state else base.until),
        by=change.by or base.by,
        reason=change.reason if change.state else base.reason,
    )


def merge_changes(first: DesiredChange, then: DesiredChange) -> DesiredChange:
    """Two changes of one document as one."""
    if then.remove:
        return then
    unset = tuple(
        name for name in (*first.unset_params, *then.unset_params) if name not in then.params
    )
    return DesiredChange(
        state=then.state or (None if then.clear_state else first.state),
        params={**first.params, **then.params},
        unset_params=unset,
        clear_state=then.clear_state or (first.clear_state and then.state is None),
        restart=then.restart or first.restart,
        until=then.until or first.until,
        by=then.by or first.by,
        reason=then.reason or first.reason,
        remove=False,
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _change_from(row: Mapping[str, Any]) -> DesiredChange:
    fields = {**row, "unset_params": tuple(row.get("unset_params", ()))}
    return DesiredChange(**fields)
