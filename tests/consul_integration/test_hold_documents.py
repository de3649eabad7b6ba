"""Orders to hold a service of another node, as text in KV and back."""

from __future__ import annotations

import json

import pytest

from lictor.consul_integration.client import KvItem
from lictor.consul_integration.hold_documents import hold_text, sort_holds
from lictor.core.model.desired import DesiredState, HoldOrder
from lictor.core.model.names import ServiceKey

FOLDER = "lictor/desired/b/"
GOOD = {"state": "stopped", "by": "anna", "reason": "new disk", "id": "1"}


def stored(text: str | bytes, name: str = "piper") -> list[KvItem]:
    value = text if isinstance(text, bytes) else text.encode()
    return [KvItem(f"{FOLDER}_holds/{name}", value, 7)]


@pytest.mark.parametrize(
    "order",
    [
        HoldOrder(ServiceKey("piper"), DesiredState.STOPPED, "anna", "new disk", index=7),
        HoldOrder(ServiceKey("piper", "a"), DesiredState.MAINTENANCE, "анна", "диск", 1e9, True, 7),
        HoldOrder(ServiceKey("piper"), None, "anna", index=7),
    ],
)
def test_an_order_is_read_as_it_was_written(order):
    text = hold_text(order, mark="m")
    orders, strays = sort_holds(stored(text, str(order.key)), folder=FOLDER)
    assert (orders, strays) == ((order,), {})
    assert hold_text(order, mark="n") != text  # each order is a text of its own


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        b"\xff\xfe",
        "[" * 100_000,
        json.dumps({**GOOD, "state": "paused"}),
        json.dumps({**GOOD, "state": None}),
        json.dumps({**GOOD, "by": 5}),
        json.dumps({**GOOD, "by": "a\x1b[31m"}),
        json.dumps({**GOOD, "reason": "x" * 5000}),
        json.dumps({**GOOD, "until": "soon"}),
        json.dumps({**GOOD, "command": "rm"}),
        json.dumps({"state": "stopped"}),
    ],
)
def test_what_is_no_order_is_named_and_nothing_is_done(text):
    orders, strays = sort_holds(stored(text), folder=FOLDER)
    assert orders == ()
    assert [(name, why.code) for name, why in strays.items()] == [("_holds/piper", "kv.bad_hold")]


def test_a_name_that_is_none_and_keys_of_others_are_no_orders():
    text = json.dumps(GOOD)
    items = [
        *stored(text, "no such/name"),
        KvItem("lictor/desired/c/_holds/piper", text.encode(), 3),
        KvItem(f"{FOLDER}_holds/", b"", 3),
        KvItem(f"{FOLDER}piper", text.encode(), 3),
    ]
    orders, strays = sort_holds(items, folder=FOLDER)
    assert (orders, list(strays)) == ((), ["_holds/no such/name"])
