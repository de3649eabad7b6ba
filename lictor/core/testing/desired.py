"""Desired documents in memory, edited and judged like those in Consul KV.

It judges less than the real gate does (`consul_integration.document`): state words, parameter names
and times, not types, lengths or patterns.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from lictor.core.errors import ConsulError
from lictor.core.model.desired import (
    DesiredChange,
    DesiredState,
    Entry,
    HoldOrder,
    KvSnapshot,
    Override,
)
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamSpec

ALL_NODES = "_all"


class FakeDesired:
    """Desired documents in memory. `params_of` says what may be set, as the host's config would.

    `put` writes as an operator would by hand; `hide` makes reads `Unknown`; `fail` makes Consul go
    away. It judges state words, parameter names and times, not the types of parameters.
    """

    def __init__(
        self,
        params_of: Callable[[ServiceKey], Mapping[str, ParamSpec] | None] = lambda _: {},
        *,
        node: str = "host1",
    ) -> None:
        self.node = node
        self.changes: list[tuple[ServiceKey, DesiredChange]] = []
        self._params_of = params_of
        self._texts: dict[str, dict[str, str]] = {node: {}, ALL_NODES: {}}
        self._good: dict[str, dict[ServiceKey, Override]] = {node: {}, ALL_NODES: {}}
        self._good_texts: dict[str, str] = {}  # of this node's documents
        self._index = 1
        self._indexes: dict[tuple[str, str], int] = {}
        self._unknown: Reason | None = None
        self._failure: ConsulError | None = None
        self._read = False
        self._bell = asyncio.Event()
        self._orders: dict[str, dict[ServiceKey, HoldOrder]] = {}

    def put(self, key: str, document: Mapping[str, Any] | str | None, node: str = "") -> None:
        """Write (None: delete) one document, as text or as fields."""
        folder = self._texts.setdefault(node or self.node, {})
        if document is None:
            folder.pop(key, None)
        else:
            folder[key] = document if isinstance(document, str) else json.dumps(dict(document))
        self._index += 1
        self._indexes[node or self.node, key] = self._index
        self._ring()

    def text(self, key: str, node: str = "") -> str | None:
        """What a document says; None when there is none."""
        return self._texts.get(node or self.node, {}).get(key)

    def hide(self, reason: Reason | None = None) -> None:
        """Reads prove nothing from now on, as without a sentinel; `confirm` ends it."""
        self._unknown = reason or because("desired.sentinel_missing", key=f"{self.node}/_lictor")
        self._ring()

    def fail(self, error: ConsulError | None) -> None:
        """Reads and changes fail with `error` from now on (None: they work again)."""
        self._failure = error
        self._ring()

    async def watch(self) -> AsyncGenerator[Known[KvSnapshot] | Unknown, None]:
        """The documents, on each real change."""
        last: object = None
        while True:
            bell = self._bell
            reason = because(self._failure.code) if self._failure is not None else self._unknown
            orders = dict(self._orders.get(self.node, {}))
            found = dict(self._texts[self.node]), dict(self._texts[ALL_NODES]), orders
            if (reason or found) != last:
                last = reason or found
                if reason is None:
                    self._read = True
                yield Unknown(reason) if reason is not None else Known(self._snapshot())
                continue  # something may have changed while the caller worked on it
            await bell.wait()

    async def change(
        self, key: ServiceKey, change: DesiredChange, *, node: str | None = None, within: float = 0
    ) -> None:
        """Edit one document, keeping what the change does not mention."""
        async with asyncio.timeout(within or None):
            await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        self.changes.append((key, change))
        before = self.text(str(key), node or "")
        base = before
        if before is not None and isinstance(_parsed(key, before, self._params_of(key)), Reason):
            base = self._good_texts.get(str(key)) if node in {None, self.node} else None
        text = _edited(base, change)
        if text != before:
            self.put(str(key), text, node or "")

    async def order_hold(self, order: HoldOrder, *, node: str) -> None:
        """Order a hold; a new order for the same service replaces the old one."""
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        self._index += 1
        self._orders.setdefault(node, {})[order.key] = replace(order, index=self._index)
        self._ring()

    async def taken_up(self, order: HoldOrder) -> None:
        """Take away exactly this order."""
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        mine = self._orders.setdefault(self.node, {})
        if mine.get(order.key) == order:
            del mine[order.key]
            self._ring()

    def current(self) -> KvSnapshot | None:
        """The last good read, judged by what `params_of` says now."""
        return self._snapshot() if self._read else None

    def memory(self) -> Mapping[str, object] | None:
        """The texts of the last good read."""
        return {name: dict(texts) for name, texts in self._texts.items()} if self._read else None

    async def confirm(self) -> None:
        """What is gone is gone: ends `hide`."""
        if self._failure is not None:
            raise self._failure
        self._unknown = None
        self._ring()

    def _snapshot(self) -> KvSnapshot:
        node, everywhere = self._entries(self.node), self._entries(ALL_NODES)
        orders = tuple(self._orders.get(self.node, {}).values())
        return KvSnapshot(node, everywhere, index=self._index, hold_orders=orders)

    def _entries(self, folder: str) -> dict[ServiceKey, Entry]:
        entries: dict[ServiceKey, Entry] = {}
        for name, text in self._texts[folder].items():
            key = ServiceKey.parse(name)
            params = self._params_of(key)
            if params is None and folder == ALL_NODES:
                continue  # other hosts have it
            index = self._indexes[folder, name]
            parsed = _parsed(key, text, params)
            if isinstance(parsed, Override):
                self._good[folder][key] = parsed
                if folder == self.node:
                    self._good_texts[name] = text
                entries[key] = Entry(text, override=parsed, modify_index=index)
            else:
                last = self._good[folder].get(key)
                entries[key] = Entry(text, last, parsed, index)
        return entries

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()


def _parsed(
    key: ServiceKey, text: str, params: Mapping[str, ParamSpec] | None
) -> Override | Reason:
    if params is None:
        return because("kv.unknown_service", service=str(key))
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        return because("kv.bad_json", error=error.msg, line=error.lineno, column=error.colno)
    if not isinstance(document, dict):
        return because("kv.not_object")
    strange = [name for name in document.get("params", {}) if name not in params]
    if strange:
        return because("kv.unknown_param", param=strange[0], known=", ".join(sorted(params)) or "-")
    try:
        return Override(
            state=DesiredState(document["state"]) if "state" in document else None,
            params=document.get("params", {}),
            restart=_unix(document.get("restart")),
            until=_unix(document.get("until")),
            by=document.get("by", ""),
            reason=document.get("reason", ""),
        )
    except ValueError as error:
        return because("kv.bad_state", value=str(error))


def _unix(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _edited(text: str | None, change: DesiredChange) -> str | None:
    """The document after a change; None: no document, because nothing is asked for any more."""
    if change.remove:
        return None
    document: dict[str, Any] = json.loads(text) if text and not change.anew else {}
    if change.clear_until:
        document.pop("until", None)
    if change.clear_state:
        document.pop("state", None)
    params = {**document.pop("params", {}), **change.params}
    document |= {"params": {k: v for k, v in params.items() if k not in change.unset_params}}
    document |= {
        name: value
        for name in ("state", "restart", "until")
        if (value := getattr(change, name)) is not None
    }
    if change.by or change.reason:
        document |= {"by": change.by, "reason": change.reason}
    kept = {name: value for name, value in document.items() if value}
    return json.dumps(kept, sort_keys=True) if kept.keys() - {"by", "reason"} else None
