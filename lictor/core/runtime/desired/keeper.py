"""Keeps the desired documents: from KV while Consul answers, from disk while it does not.

Verbs, KV edits and config reloads all end here as documents in force. A verb given while Consul is
away takes effect at once, is remembered as pending, and is pushed when Consul is back, unless
somebody changed the same key meanwhile (then theirs stands, and the journal says so). Documents
that vanish and would stop much are held until somebody confirms it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lictor.core.errors import Conflict, ConsulError, Forbidden
from lictor.core.model.desired import (
    Desired,
    DesiredChange,
    DesiredState,
    Entry,
    KvSnapshot,
    Override,
)
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.secret import shown_document
from lictor.core.planning.absence import HeldBack, hold_back
from lictor.core.planning.overrides import InForce, keep_good
from lictor.core.ports import DesiredSource, Store
from lictor.core.runtime.desired.hold_inbox import HoldInbox
from lictor.core.runtime.desired.order_words import as_document, unix
from lictor.core.runtime.storage.codec import key_from, override_from, override_row

log = logging.getLogger(__name__)

_PUSH_AGAIN = (
    2.0,
    10.0,
)  # seconds, first and longest, between tries to write what is pending while Consul can be read
_SHOWN = 5  # documents named in one sentence
_PATIENCE = 3.0  # seconds without an answer after which Consul is mute, and an order counts here


class DesiredKeeper:
    """Owns the documents in force. Lives in the event loop's thread.

    `merged` gives the desired state that documents make on this host. `held` is a change that is
    only inferred from absence and waits for `confirm`. `inbox` hears of orders to hold a service.
    """

    def __init__(
        self,
        store: Store,
        on_change: Callable[[], None],
        on_event: Callable[[str, Reason], None],
        merged: Callable[[InForce], Desired],
    ) -> None:
        self.held: HeldBack | None = None
        self.inbox: HoldInbox | None = None
        self._merged = merged
        self._believed = False
        self._push_failure: ConsulError | None = None
        self.documents = InForce()
        self.strays: Mapping[str, Reason] = {}
        self.unknown: Reason | None = because("desired.not_read_yet")
        self._store = store
        self._on_change = on_change
        self._on_event = on_event
        self._texts: dict[str, str] = {}
        self._memory: Mapping[str, object] | None = None
        self._pending: dict[ServiceKey, _Pending] = {}
        self._read: Mapping[ServiceKey, Entry] = {}  # this node's documents, as they were read last
        self._landed: dict[ServiceKey, int] = {}  # written since: the mark of what it replaced
        self._pushing = asyncio.Lock()
        self._source: DesiredSource | None = None

    # --- memory -------------------------------------------------------------------------

    def load(self) -> None:
        """The last documents in force, from disk."""
        node: dict[ServiceKey, Override] = {}
        everywhere: dict[ServiceKey, Override] = {}
        for name, row in self._store.load("documents").items():
            scope, _, service = name.partition("/")
            key, override = key_from(service), override_from(row)
            if key is not None and override is not None:
                (node if scope == "node" else everywhere)[key] = override
        self.documents = InForce(node=node, all_nodes=everywhere)
        for name, row in self._store.load("pending").items():
            key, pending = key_from(name), _pending_from(row)
            if key is not None and pending is not None:
                self._pending[key] = pending
        kv = self._store.load("kv")
        self._memory = kv.get("memory")
        self._texts = {name: str(text) for name, text in kv.get("texts", {}).items()}

    @property
    def memory(self) -> Mapping[str, object] | None:
        """What the KV adapter of an earlier agent wanted the next one to know."""
        return self._memory

    @property
    def pending(self) -> tuple[ServiceKey, ...]:
        """Verbs that Consul has not been told yet."""
        return tuple(self._pending)

    def entry(self, key: ServiceKey) -> Entry | None:
        """This node's document of a service as Consul had it when it was read last."""
        return self._read.get(key)

    # --- reading ------------------------------------------------------------------------

    async def follow(self, source: DesiredSource) -> None:
        """Take every snapshot of KV, for ever."""
        self._source = source
        pushing = asyncio.create_task(self._keep_pushing())
        try:
            async for view in source.watch():
                match view:
                    case Known(snapshot):
                        await self._take(snapshot)
                    case Unknown(reason):
                        self._lost(reason)
        finally:
            pushing.cancel()

    def _lost(self, reason: Reason) -> None:
        if self.unknown is None or self.unknown.code == "desired.not_read_yet":
            log.warning("desired state cannot be read: %s", reason.code)
            self._on_event("desired", reason)
        self.unknown = reason
        self._on_change()

    async def _take(self, snapshot: KvSnapshot) -> None:
        if self.unknown is not None:
            log.info("desired state is read from Consul")
        self.unknown = None
        texts = {str(key): entry.text for key, entry in snapshot.node.items()}
        if texts != self._texts:
            self._texts = texts
            # For the next agent: what its operator's orders will have been based on.
            self._store.save("kv", "texts", texts)
        self._read = snapshot.node
        await self._push()
        self._accept(snapshot)
        if self.inbox is not None and self._source is not None:
            await self.inbox.take(self._source, snapshot.hold_orders)

    def _accept(self, snapshot: KvSnapshot) -> None:
        """Take a snapshot; where it is older than what was ordered here, that stands.

        Such a document waits for Consul still, or was written when this snapshot was read already:
        to believe it would undo the order until the next one, and restart what runs by it.
        """
        self._landed = {
            key: old for key, old in self._landed.items() if _mark(snapshot.node.get(key)) == old
        }
        ours = {*self._pending, *self._landed}
        self.strays = snapshot.strays
        before = self.documents
        after = self._hold_back(keep_good(before, snapshot))
        node = {key: override for key, override in after.node.items() if key not in ours}
        node |= {key: before.node[key] for key in ours if key in before.node}
        self.documents = replace(after, node=node)
        self._remember(before)
        for key, reason in self.documents.refused.items():
            if before.refused.get(key) != reason:
                self._on_event(str(key), reason)
        self._on_change()

    def _hold_back(self, after: InForce) -> InForce:
        """The documents to be in force: those that are gone too, if too much would stop."""
        held = None
        if not self._believed:
            holding = self.held is not None
            held = hold_back(self.documents, after, self._merged, holding=holding)
        self._believed = False
        if held is not None and self.held is None:
            log.warning("deleted documents would stop %d services: held", len(held.services))
            self._on_event("desired", held_reason(held))
        self.held = held
        return after if held is None else held.kept

    def confirm(self) -> bool:
        """The operator says that what is gone is gone; whether a held change was released by it.

        Where it is still unknown what is there, the next good read is believed whole.
        """
        snapshot = self._source.current() if self._source is not None else None
        if self.held is not None and snapshot is not None:
            self._believed = True
            self._accept(snapshot)
            return True
        self._believed = self.unknown is not None
        return False

    def reconsider(self) -> None:
        """The config changed: what did not fit may fit now, and the other way round."""
        snapshot = self._source.current() if self._source is not None else None
        if snapshot is not None and self.unknown is None:
            self._accept(snapshot)

    async def _keep_pushing(self) -> None:
        """Try again with orders that Consul did not take although it can be read."""
        wait = _PUSH_AGAIN[0]
        while True:
            await asyncio.sleep(wait)
            if self._pending and self.unknown is None:
                await self._push()
            if self._push_failure is None:
                wait = _PUSH_AGAIN[0]
            elif isinstance(self._push_failure, Forbidden):
                wait = _PUSH_AGAIN[1]  # only a person can change that
            else:
                wait = min(_PUSH_AGAIN[1], 2 * wait)

    async def _push(self) -> None:
        """Tell Consul what was ordered while it was away.

        Raises nothing: what could not be written stays pending.
        """
        async with self._pushing:
            for key, pending in list(self._pending.items()):
                if (theirs := self._texts.get(str(key))) != pending.base:
                    asked = as_document(pending.changes)
                    both = because("pending.overtaken", theirs=shown_document(theirs), ours=asked)
                    self._on_event(str(key), both)
                    self._forget_pending(key)
                    continue
                if await self._push_one(key, pending):
                    self._on_event(str(key), because("pending.written"))

    async def _push_one(self, key: ServiceKey, pending: _Pending) -> bool:
        """Write one document's changes; the ones that Consul did not take stay pending."""
        if self._source is None:
            return False
        for number, change in enumerate(pending.changes):
            try:
                await self._source.change(key, change)
            except ConsulError as error:
                if self._push_failure is None:  # said once, not every few seconds
                    log.warning("pending order not written yet: %s", error.message)
                self._push_failure = error
                if number:  # only a removal is followed by anything, and after it there is no text
                    self._remember_pending(key, _Pending(pending.changes[number:], None))
                return False
        self._push_failure = None
        self._landed[key] = _mark(self._read.get(key))
        self._forget_pending(key)
        return True

    # --- writing ------------------------------------------------------------------------

    async def change(self, key: ServiceKey, change: DesiredChange) -> bool:
        """Write one change to KV; True if it is written, False if it waits for Consul.

        Raises `Conflict` where others write the same document all the time: theirs stands.
        """
        if key in self._pending:
            async with self._pushing:  # what is being written now goes before this
                pass
        if key not in self._pending and await self._written(key, change):
            if key in self._landed:
                # Taken back, it is as absent as in the read before it: no read will tell.
                self._take_effect(key, change)
            return True
        # Asked only now: while this one waited for Consul, another may have become pending.
        earlier = self._pending.get(key) or _Pending((), self._texts.get(str(key)))
        merged = merge_changes(earlier.changes, change)
        self._remember_pending(key, _Pending(merged, earlier.base))
        self._take_effect(key, change)
        return False

    async def _written(self, key: ServiceKey, change: DesiredChange) -> bool:
        if self._source is None or self.unknown is not None:
            return False
        try:
            await self._source.change(key, change, within=_PATIENCE)
        except Conflict:
            raise
        except ConsulError as error:
            log.warning("order kept for later, Consul did not take it: %s", error.message)
            return False
        except TimeoutError:
            log.warning("order kept for later, Consul does not answer")
            return False
        return True

    def _take_effect(self, key: ServiceKey, change: DesiredChange) -> None:
        """Let an order count here although Consul does not know it yet."""
        node = dict(self.documents.node)
        applied = apply_change(node.get(key), change)
        if applied is None:
            node.pop(key, None)
        else:
            node[key] = applied
        before = self.documents
        refused = {other: why for other, why in before.refused.items() if other != key}
        self.documents = replace(before, node=node, refused=refused)
        self._remember(before)
        self._on_change()

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

    def _remember_pending(self, key: ServiceKey, pending: _Pending) -> None:
        self._pending[key] = pending
        self._store.save("pending", str(key), asdict(pending))

    def _forget_pending(self, key: ServiceKey) -> None:
        self._pending.pop(key, None)
        self._store.save("pending", str(key), None)


def _mark(entry: Entry | None) -> int:
    """What tells one state of a document from the next; absent is 0."""
    return 0 if entry is None else entry.modify_index


def held_reason(held: HeldBack) -> Reason:
    """What is held, for people."""
    return because(
        "desired.held",
        count=len(held.services),
        of=held.of,
        documents=", ".join(held.documents[:_SHOWN]) + (", …" if held.documents[_SHOWN:] else ""),
    )


def apply_change(override: Override | None, change: DesiredChange) -> Override | None:
    """The document after a change, as the KV adapter would write it; None: no document.

    As there, a change keeps what it does not mention, but `by` and `reason` tell about one edit.
    """
    if change.remove:
        return None
    base = Override() if override is None or change.anew else override
    params: dict[str, Any] = {**base.params, **change.params}
    for name in change.unset_params:
        params.pop(name, None)
    state = None if change.clear_state else base.state
    until = None if change.clear_until else base.until
    told = change if change.by or change.reason else base
    after = Override(
        state=DesiredState(change.state) if change.state is not None else state,
        params=params,
        restart=unix(change.restart) if change.restart else base.restart,
        until=unix(change.until) if change.until else until,
        by=told.by,
        reason=told.reason,
    )
    return after if replace(after, by="", reason="") != Override() else None


@dataclass(frozen=True, slots=True)
class _Pending:
    """Orders for one document that Consul has not been told; `base` is the text they were made on."""

    changes: tuple[DesiredChange, ...]
    base: str | None


def merge_changes(
    earlier: tuple[DesiredChange, ...], then: DesiredChange
) -> tuple[DesiredChange, ...]:
    """The fewest changes that do the same: one, or two where a document begins anew."""
    if then.remove or then.anew:
        return (then,)
    if not earlier or earlier[-1].remove:
        return (*earlier, then)
    return (*earlier[:-1], _merged(earlier[-1], then))


def _merged(first: DesiredChange, then: DesiredChange) -> DesiredChange:
    unset = tuple(name for name in first.unset_params if name not in then.params)
    told = then if then.by or then.reason else first
    return DesiredChange(
        state=then.state or (None if then.clear_state else first.state),
        params={**first.params, **then.params},
        unset_params=(*unset, *then.unset_params),
        clear_state=then.clear_state or first.clear_state,
        restart=then.restart or first.restart,
        until=then.until or (None if then.clear_until else first.until),
        clear_until=then.clear_until or first.clear_until,
        anew=first.anew,
        by=told.by,
        reason=told.reason,
    )


def _pending_from(row: Mapping[str, Any]) -> _Pending | None:
    """What `asdict` made of it; None for a row of another version."""
    try:
        changes = tuple(
            DesiredChange(**{**change, "unset_params": tuple(change["unset_params"])})
            for change in row["changes"]
        )
        return _Pending(changes, row["base"])
    except (KeyError, TypeError):
        return None
