"""From the keys of KV to a `KvSnapshot`: which key is about what, and which are nobody's. Pure.

Layout (design §4.4): `<prefix>/desired/<node>/<service[@instance]>` for one node, `_all` in the place
of the node for every node, and `_lictor` as the sentinel of each of the two. Keys of other nodes are
passed over. It never writes and never asks Consul; what the documents say is `document`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from lictor.consul_integration.client import KvItem
from lictor.consul_integration.document import parse_document
from lictor.consul_integration.hold_documents import HOLDS, sort_holds
from lictor.consul_integration.memory import Remembered
from lictor.core.model.desired import Entry, HoldOrder, KvSnapshot
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamSpec

ALL_NODES = "_all"
SENTINEL = "_lictor"

#: The parameters that the host's config defines for a service; None: it defines no such service.
ParamsOf: TypeAlias = Callable[[ServiceKey], Mapping[str, ParamSpec] | None]


@dataclass(frozen=True, slots=True)
class Folder:
    """The documents of one folder, by the service that they are about."""

    items: Mapping[ServiceKey, KvItem] = field(default_factory=dict)
    strays: Mapping[str, Reason] = field(default_factory=dict)
    sentinel: bool = False

    def missing_from(self, before: Mapping[str, str]) -> list[str]:
        """The documents that were there before and are not now, by the last part of the key."""
        there = {str(key) for key in self.items}
        return [name for name in before if name not in there]


@dataclass(frozen=True, slots=True)
class Tree:
    """What one read of the prefix brought, for this node and for all nodes."""

    node: Folder
    all_nodes: Folder
    hold_orders: tuple[HoldOrder, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both sentinels are there, so that what is missing is really not there."""
        return self.node.sentinel and self.all_nodes.sentinel


def sort_keys(items: Iterable[KvItem], *, base: str, node: str) -> Tree:
    """Sort the keys below `base` (which ends with `/`) into this node's and everybody's."""
    listed = list(items)
    orders, strays = sort_holds(listed, folder=f"{base}{node}/")
    own = _folder(listed, base, node)
    own = replace(own, strays={**own.strays, **strays})
    return Tree(own, _folder(listed, base, ALL_NODES), orders)


def _folder(items: Iterable[KvItem], base: str, name: str) -> Folder:
    start = f"{base}{name}/"
    found: dict[ServiceKey, KvItem] = {}
    strays: dict[str, Reason] = {}
    sentinel = False
    for item in sorted(items, key=lambda item: item.key):
        if not item.key.startswith(start) or item.key.endswith("/"):
            continue  # another node's, or a folder that Consul's UI made
        last = item.key.removeprefix(start)
        if last == SENTINEL:
            sentinel = True
            continue
        if last.startswith(HOLDS) and name != ALL_NODES:
            continue
        shown = f"{name}/{last}"
        try:
            key = ServiceKey.parse(last)
        except BadName:
            strays[shown] = because("kv.bad_name", key=shown)
            continue
        # `gpt_sovits` and `gpt-sovits` are one service: the name as Lictor writes it wins.
        if key in found and str(key) != last:
            strays[shown] = because("kv.duplicate_name", key=shown, service=str(key))
            continue
        if key in found:
            other = f"{name}/{found[key].key.removeprefix(start)}"
            strays[other] = because("kv.duplicate_name", key=other, service=str(key))
        found[key] = item
    return Folder(found, strays, sentinel)


def read_tree(tree: Tree, params_of: ParamsOf, before: Remembered, index: int) -> KvSnapshot:
    """Every document, parsed.

    A refused one carries its reason *and* the last good override of the same key, if there was one:
    that stays in force, also when it was an earlier agent that read it.
    """
    node = {
        key: _entry(key, item, params_of, before.node.get(str(key)))
        for key, item in tree.node.items.items()
    }
    everybody = {
        key: _entry(key, item, params_of, before.all_nodes.get(str(key)))
        for key, item in tree.all_nodes.items.items()
        if params_of(key) is not None  # other hosts have it; that is what `_all` is for
    }
    strays = {**tree.all_nodes.strays, **tree.node.strays}
    return KvSnapshot(node, everybody, strays, index, tree.hold_orders)


def remember(
    tree: Tree, params_of: ParamsOf, before: Remembered, *, index: int, servers: frozenset[str]
) -> Remembered:
    """What to remember of this read: the last good text of each document that is still there."""
    return Remembered(
        index=index,
        servers=servers or before.servers,
        node=_good_texts(tree.node, params_of, before.node),
        all_nodes=_good_texts(tree.all_nodes, params_of, before.all_nodes),
    )


def _entry(key: ServiceKey, item: KvItem, params_of: ParamsOf, last_good: str | None) -> Entry:
    text = item.value.decode(errors="replace")[:MAX_SHOWN]
    params = params_of(key)
    if params is None:
        return Entry(text, refused=_undefined(key, params_of), modify_index=item.modify_index)
    parsed = parse_document(item.value, params)
    if not isinstance(parsed, Reason):
        return Entry(text, override=parsed, modify_index=item.modify_index)
    good = None if last_good is None else parse_document(last_good, params)
    return Entry(
        text,
        override=None if isinstance(good, Reason) else good,
        refused=parsed,
        modify_index=item.modify_index,
    )


#: Characters of a document that are kept to be shown; a good one is never longer.
MAX_SHOWN = 16 * 1024


def _undefined(key: ServiceKey, params_of: ParamsOf) -> Reason:
    if key.instance and params_of(ServiceKey(key.name)) is not None:
        return because("kv.unknown_instance", service=key.name, instance=key.instance)
    return because("kv.unknown_service", service=str(key))


def _good_texts(
    folder: Folder, params_of: ParamsOf, before: Mapping[str, str]
) -> Mapping[str, str]:
    texts: dict[str, str] = {}
    for key, item in folder.items.items():
        # A service that this host does not define now may come back with the next reload, so its
        # document is kept if it is at all readable.
        params = params_of(key)
        good = params is None or not isinstance(parse_document(item.value, params), Reason)
        if good and len(item.value) <= MAX_SHOWN:
            texts[str(key)] = item.value.decode(errors="replace")
        elif str(key) in before:
            texts[str(key)] = before[str(key)]
    return texts
