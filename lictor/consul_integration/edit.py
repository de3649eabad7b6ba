"""Editing one desired document: what it says now, plus a change, is what it shall say. Pure.

A click, a CLI verb and a hand with `consul kv put` all write the same documents, so an edit keeps
what it does not mention. It judges nothing: whether a value fits is found when the document is read.
"""

from __future__ import annotations

import json
from typing import Any

from lictor.consul_integration.document import FIELDS
from lictor.core.ports import DesiredChange

#: Fields that ask for something; without any of them a document says nothing and is deleted.
_ASKING = ("state", "params", "restart", "until")


def edited(text: bytes | None, change: DesiredChange) -> str | None:
    """The new text (compact JSON, sorted keys); None: the key should not be there.

    `text` None: there is no key yet. Of a text that is no such document only the known fields are
    kept, so that a verb repairs what a slip of a hand made unreadable. `by` and `reason` tell about
    the last edit: when one of them is given, the other does not survive from an older edit.
    """
    if change.remove:
        return None
    document = {} if change.anew else _fields(text)
    if change.clear_until:
        document.pop("until", None)
    if change.clear_state:
        document.pop("state", None)
    if change.state is not None:
        document["state"] = change.state
    _edit_params(document, change)
    for name, value in (("restart", change.restart), ("until", change.until)):
        if value is not None:
            document[name] = value
    if change.by or change.reason:
        for name, value in (("by", change.by), ("reason", change.reason)):
            document.pop(name, None)
            if value:
                document[name] = value
    if not any(name in document for name in _ASKING):
        return None
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(", ", ": "))


def _edit_params(document: dict[str, Any], change: DesiredChange) -> None:
    if not change.params and not change.unset_params:
        return
    before = document.pop("params", None)
    params = dict(before) if isinstance(before, dict) else {}
    params.update(change.params)
    for name in change.unset_params:
        params.pop(name, None)
    if params:
        document["params"] = params


def _fields(text: bytes | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        document = json.loads(text.decode())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: value for name, value in document.items() if name in FIELDS}
