"""Orders to hold or release a service of another node: `<prefix>/desired/<node>/_holds/<service>`.

A hold lives on its own host, where it counts while Consul is away. From another node it is ordered:
the order is a key that the node's agent takes up once and takes away. It lies beneath the prefix
that is watched anyway, so it costs no watch of its own. Here orders become text and back; a text
that is no order becomes the reason why. Pure, and never about whether an order may be carried out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from lictor.consul_integration.client import KvItem
from lictor.consul_integration.document import MAX_BYTES, MAX_TEXT, unix_seconds
from lictor.core.model.desired import DesiredState, HoldOrder
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.reason import Reason, because

#: The folder of orders within a node's folder; no service can have such a name.
HOLDS = "_holds/"

_RELEASE = "released"
_FIELDS = frozenset({"state", "by", "reason", "until", "insist", "id"})


def hold_text(order: HoldOrder, *, mark: str) -> str:
    """The text of an order. `mark` makes each order another text, so that none is mistaken."""
    fields: dict[str, object] = {
        "state": _RELEASE if order.state is None else order.state.value,
        "by": order.by,
        "reason": order.reason,
        "id": mark,
    }
    if order.until is not None:
        when = datetime.fromtimestamp(order.until, UTC)
        fields["until"] = when.isoformat(timespec="milliseconds")
    if order.insist:
        fields["insist"] = True
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def sort_holds(
    items: Iterable[KvItem], *, folder: str
) -> tuple[tuple[HoldOrder, ...], Mapping[str, Reason]]:
    """The orders below `folder` (it ends with `/`), and why the other keys there are none."""
    orders: list[HoldOrder] = []
    strays: dict[str, Reason] = {}
    start = f"{folder}{HOLDS}"
    for item in sorted(items, key=lambda item: item.key):
        if not item.key.startswith(start) or item.key == start:
            continue
        order = _parsed(item.key.removeprefix(start), item)
        if order is None:
            shown = item.key[len(folder) - 1 :].strip("/")
            strays[shown] = because("kv.bad_hold", key=shown)
        else:
            orders.append(order)
    return tuple(orders), strays


def _parsed(name: str, item: KvItem) -> HoldOrder | None:
    try:
        if len(item.value) > MAX_BYTES:
            return None
        told = json.loads(item.value)
        if not isinstance(told, dict) or not told.keys() <= _FIELDS:
            return None
        until = None
        if "until" in told and (until := unix_seconds(str(told["until"]))) is None:
            return None
        return HoldOrder(
            key=ServiceKey.parse(name),
            state=None if told["state"] == _RELEASE else DesiredState(told["state"]),
            by=_line(told["by"]),
            reason=_line(told.get("reason", "")),
            until=until,
            insist=told.get("insist") is True,
            index=item.modify_index,
        )
    except (BadName, KeyError, ValueError, TypeError, RecursionError):
        return None


def _line(text: object) -> str:
    if not isinstance(text, str) or len(text) > MAX_TEXT or not all(map(_shows, text)):
        raise ValueError(text)
    return text


def _shows(char: str) -> bool:
    return char.isprintable() or char == " "
