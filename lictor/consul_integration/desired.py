"""Desired state in Consul KV: one watch, sentinels, and a memory that tells a loss from an order.

It is the adapter behind `ports.DesiredSource`. The hard part is that "nothing there", "not allowed"
and "lost its disk" look the same in Consul (a 404 or an empty list), and that taking one for the
other has erased whole trees (hashicorp/consul-replicate#82). So a read counts only with both
sentinel keys in it; without them this module finds out what happened, restores what it may restore,
and else says `Unknown`. It never deletes a key but through `change`, and decides nothing about
services.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Literal, TypeAlias

from lictor.consul_integration.batches import batches
from lictor.consul_integration.client import ConsulClient, KvItem, kv_set
from lictor.consul_integration.document import parse_document
from lictor.consul_integration.edit import edited
from lictor.consul_integration.hold_documents import HOLDS, hold_text
from lictor.consul_integration.lease import Lease
from lictor.consul_integration.memory import Remembered
from lictor.consul_integration.snapshot import (
    ALL_NODES,
    SENTINEL,
    ParamsOf,
    Tree,
    read_tree,
    remember,
    sort_keys,
)
from lictor.consul_integration.watch import Edge, Pace, Watch
from lictor.core.errors import BadRequest, Conflict, Forbidden
from lictor.core.model.desired import HoldOrder, KvSnapshot
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey, is_label
from lictor.core.model.reason import Reason, because
from lictor.core.model.secret import shown_document
from lictor.core.model.spec import ParamSpec
from lictor.core.ports import DesiredChange
from lictor.core.worded import worded

Restore: TypeAlias = Literal["auto", "never"]

_TRIES = 8  # of an edit whose compare-and-set lost
_LONGEST_PAUSE = 0.16  # seconds between two of them


class KvDesired:
    """`ports.DesiredSource` over `<prefix>/desired/`.

    `params_of` says what this host defines, at the time of asking. `remembered` is what an earlier
    agent left in its `remembered`; None means that this node never met a Consul, which is the only
    case in which missing sentinels are simply made. `kv_restore` `auto`: after Consul lost its
    state, write the last known documents again. `notify` hears of what was done to KV unasked
    (`desired.first_contact`, `desired.restored`), and once of each loss (`consul.emptied`). With a `lease` nothing of this node is written
    while another agent is known to have its name.
    """

    def __init__(
        self,
        client: ConsulClient,
        node: str,
        *,
        params_of: ParamsOf,
        prefix: str = "lictor",
        kv_restore: Restore = "auto",
        remembered: Remembered | None = None,
        notify: Callable[[Reason], None] | None = None,
        pace: Pace | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._client = client
        self.node = node
        self._lease = lease
        self._params_of = params_of
        self._base = f"{prefix.strip('/')}/desired/"
        self._restore_allowed = kv_restore == "auto"
        self._remembered = remembered
        self._notify = notify or (lambda _: None)
        self._pace = pace or Pace()
        self._servers: frozenset[str] = frozenset()
        self._tree: Tree | None = None
        self._confirmed = False
        self._loss_told = False

    @property
    def remembered(self) -> Remembered | None:
        """What the next agent should be given; changes with each good read."""
        return self._remembered

    def memory(self) -> Mapping[str, object] | None:
        """`remembered` as a plain row, for the agent's store."""
        return self._remembered.as_record() if self._remembered is not None else None

    def current(self) -> KvSnapshot | None:
        """The last good read, parsed with what the host defines *now*; None before the first.

        For a reload of the config: no document changed, but what fits may have.
        """
        if self._tree is None or self._remembered is None:
            return None
        return read_tree(self._tree, self._params_of, self._remembered, self._remembered.index)

    async def watch(self) -> AsyncGenerator[Known[KvSnapshot] | Unknown, None]:
        """The documents of this node and `_all`, on each real change, for ever.

        `Unknown` comes once when a read fails, is forbidden or is not proved complete, and again
        only if its reason changes.
        """
        loop = Watch(self._fetch, pace=self._pace, contact=self._client.transport.contact)
        edge = Edge()
        last: KvSnapshot | None = None
        async with aclosing(loop.answers()) as answers:
            async for answer in answers:
                found = answer if isinstance(answer, Unknown) else answer.data
                if isinstance(found, Unknown):
                    last = None
                    if edge.broke(found):
                        yield found
                # Other nodes' keys move the index of the prefix; they are no news here.
                elif last is None or replace(found, index=0) != replace(last, index=0):
                    last = found
                    edge.recovered()
                    yield Known(found)

    async def confirm(self) -> None:
        """Accept what KV says now, missing documents included, and make the sentinels again.

        The operator's answer to `desired.sentinel_missing` and its like. The watch wakes by itself.
        """
        _, items = await self._client.kv_list(self._base)
        tree = sort_keys(items, base=self._base, node=self.node)
        self._confirmed = True
        if not tree.all_nodes.sentinel:
            await self._make_sentinel(ALL_NODES)
        # Written even if it is there: the new text is what wakes the watch.
        await self._client.kv_put(self._key(self.node, SENTINEL), _sentinel_text())

    async def change(
        self, key: ServiceKey, change: DesiredChange, *, node: str | None = None, within: float = 0
    ) -> None:
        """Edit one document with compare-and-set, keeping what it does not mention.

        `node` None: this one; `_all`: every node's. Tries again when somebody else was faster;
        raises `Conflict`, with what both wanted, if that happens too often, and `BadRequest` for a
        node that cannot be one. `within`: seconds for each try, or `TimeoutError`; 0: no limit. (Not
        for all of them: a Consul that answers each is not mute, however often others are faster.)
        """
        where = node or self.node
        if where != ALL_NODES and not is_label(where):
            raise worded(BadRequest, because("ask.node_name", node=where))
        if where == self.node and self._lease is not None:
            self._lease.require()
        path = self._key(where, str(key))
        text: str | None = None
        for attempt in range(_TRIES):
            async with asyncio.timeout(within or None):
                item = await self._client.kv_get(path)
                text = self._edited(item, change, where, key)
                if await self._write_over(item, path, text):
                    return
            pause = min(_LONGEST_PAUSE, 0.01 * 2**attempt)
            await asyncio.sleep(random.random() * pause)  # noqa: S311 - not a secret
        theirs = await self._client.kv_get(path)
        contended = because(
            "desired.contended",
            service=str(key),
            theirs=shown_document(theirs.value if theirs is not None else None),
            ours=shown_document(text),
        )
        raise worded(Conflict, contended, hint=because("next.order_again"))

    def _edited(
        self, item: KvItem | None, change: DesiredChange, where: str, key: ServiceKey
    ) -> str | None:
        """What a document is to say after a change: as a rule what it says now, and the change.

        What does not fit was refused whole, so a change begins at the last good document, the one
        in force; else one slip of a hand in KV would get every later verb refused with it. Other
        nodes judge by their own config.
        """
        text = edited(None if item is None else item.value, change)
        params = self._params_of(key) if where == self.node else None
        if item is None or params is None or _fits(item.value, params):
            return text
        good = (self._remembered or Remembered()).node.get(str(key))
        for base in (good, None):
            again = edited(None if base is None else base.encode(), change)
            if again is None or _fits(again, params):
                return again
        return text  # it is the change itself that does not fit

    async def order_hold(self, order: HoldOrder, *, node: str) -> None:
        """Order a hold of another node's agent; `BadRequest` for a node that cannot be one."""
        if not is_label(node):
            raise worded(BadRequest, because("ask.node_name", node=node))
        path = self._key(node, f"{HOLDS}{order.key}")
        await self._client.kv_put(path, hold_text(order, mark=uuid.uuid4().hex))

    async def taken_up(self, order: HoldOrder) -> None:
        """Take away an order to this node; one that was replaced meanwhile stays."""
        if self._lease is not None:
            self._lease.require()
        await self._client.kv_delete(self._key(self.node, f"{HOLDS}{order.key}"), cas=order.index)

    async def _write_over(self, item: KvItem | None, path: str, text: str | None) -> bool:
        """Write (None: delete) a document over what was read; False if somebody was faster."""
        if item is None:
            return text is None or await self._client.kv_put(path, text, cas=0)
        if text is None:
            return await self._client.kv_delete(path, cas=item.modify_index)
        if text.encode() == item.value:
            return True
        return await self._client.kv_put(path, text, cas=item.modify_index)

    # --- reading -----------------------------------------------------------------------------

    async def _fetch(self, index: int, wait: float, /) -> tuple[int, KvSnapshot | Unknown]:
        seen, tree = await self._read(index, wait)
        if index == 0:  # the first read, and the first one after any failure
            self._servers = await self._client.server_ids()
        if not tree.complete:
            unknown = await self._complete(tree)
            if unknown is not None:
                return seen, unknown
            seen, tree = await self._read()
            if not tree.complete:
                return seen, Unknown(because("desired.hidden", prefix=self._base))
        return seen, await self._accept(tree, seen)

    async def _read(self, index: int = 0, wait: float = 0.0) -> tuple[int, Tree]:
        seen, items = await self._client.kv_list(self._base, index, wait)
        return seen, sort_keys(items, base=self._base, node=self.node)

    async def _accept(self, tree: Tree, seen: int) -> KvSnapshot | Unknown:
        before = self._remembered or Remembered()
        missing = [
            (folder, name)
            for folder, names in (
                (self.node, tree.node.missing_from(before.node)),
                (ALL_NODES, tree.all_nodes.missing_from(before.all_nodes)),
            )
            for name in names
        ]
        if missing and not self._confirmed:
            doubt = await self._doubt(before, seen, missing)
            if doubt is not None:
                return doubt
        self._confirmed = self._loss_told = False
        snapshot = read_tree(tree, self._params_of, before, seen)
        self._tree = tree
        self._remembered = remember(
            tree, self._params_of, before, index=seen, servers=self._servers
        )
        return snapshot

    async def _doubt(
        self, before: Remembered, seen: int, missing: Sequence[tuple[str, str]]
    ) -> Unknown | None:
        """Why documents that are gone from a read with sentinels are not known to be deleted."""
        hidden = Unknown(because("desired.keys_hidden", missing=len(missing)))
        if seen == before.index and self._tree is not None:
            # Nothing was written, and yet fewer keys: the token's rights were narrowed.
            return hidden
        if seen < before.index and await self._lost(before):
            return Unknown(because("desired.went_back", missing=len(missing)))
        # Something was written since, by anybody: only who may read these keys knows they are gone.
        try:
            for folder, name in missing:
                path = self._key(folder, name)
                await self._client.kv_may_read(path)
                item = await self._client.kv_get(path)
                # What was made after the list was gone when the list was made. What is older was
                # there all the time: the token may read it now, but could not then.
                if item is not None and item.create_index <= seen:
                    return hidden
        except Forbidden:
            return hidden
        return None

    async def _lost(self, before: Remembered) -> bool:
        # The index of a prefix without keys is that of the whole store, which only a loss lowers.
        index, _ = await self._client.kv_list(f"{self._base}{SENTINEL}/none/")
        lost = before.lost_since(index=index, servers=await self._client.server_ids())
        if lost and not self._loss_told:
            self._loss_told = True
            self._notify(because("consul.emptied"))
        return lost

    # --- sentinels ---------------------------------------------------------------------------

    async def _complete(self, tree: Tree) -> Unknown | None:
        """Make the sentinels, if that is right; else say why the read proves nothing.

        Raises `Forbidden` when the token may not read them, which a plain read does not tell.
        """
        lacking = [
            name
            for name, folder in ((ALL_NODES, tree.all_nodes), (self.node, tree.node))
            if not folder.sentinel
        ]
        for name in lacking:
            await self._client.kv_may_read(self._key(name, SENTINEL))
        if self._lease is not None:
            self._lease.require()  # else it is the other agent's to make and to restore
        before = self._remembered
        if before is None:
            for name in lacking:
                await self._make_sentinel(name)
            self._notify(because("desired.first_contact", node=self.node))
        elif self._confirmed:
            for name in lacking:
                await self._make_sentinel(name)
        elif not await self._lost(before):
            return Unknown(
                because("desired.sentinel_missing", key=self._key(lacking[-1], SENTINEL))
            )
        elif not self._restore_allowed:
            return Unknown(because("desired.state_lost"))
        else:
            await self._restore(before, lacking)
        return None

    async def _restore(self, before: Remembered, lacking: list[str]) -> None:
        """Write what was lost, each folder's sentinel last: whoever sees it sees all of it.

        A key that is there again was written after the loss, so it is newer and stays.
        """
        written = 0
        for name in lacking:
            texts = before.all_nodes if name == ALL_NODES else before.node
            paths = {self._key(name, last): text for last, text in texts.items()}
            for batch in batches(paths):
                written += await self._create([(path, text or "") for path, text in batch])
            await self._make_sentinel(name)
        self._notify(because("desired.restored", documents=written))

    async def _create(self, batch: Sequence[tuple[str, str]]) -> int:
        """Create keys in one transaction, or one by one if some are there; how many were made."""
        try:
            await self._client.kv_transaction(
                [kv_set(path, text, create_only=True) for path, text in batch]
            )
        except Conflict:
            made = [await self._client.kv_put(path, text, cas=0) for path, text in batch]
            return sum(made)
        return len(batch)

    async def _make_sentinel(self, name: str) -> None:
        await self._client.kv_put(self._key(name, SENTINEL), _sentinel_text(), cas=0)

    def _key(self, folder: str, last: str) -> str:
        return f"{self._base}{folder}/{last}"


def _fits(text: str | bytes, params: Mapping[str, ParamSpec]) -> bool:
    return not isinstance(parse_document(text, params), Reason)


def _sentinel_text() -> str:
    return json.dumps(
        {
            "note": "Lictor trusts an empty folder only while this key is in it.",
            "id": uuid.uuid4().hex,
        }
    )
