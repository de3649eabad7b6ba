"""How orders are written, read and told: times, parameters, results. Plain functions of values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from lictor.core.errors import UsageError
from lictor.core.model.desired import AFTER_VERB, DesiredChange
from lictor.core.model.line import LONGEST_LINE, as_line
from lictor.core.model.reason import Reason, because
from lictor.core.model.secret import shown, shown_document
from lictor.core.worded import worded

_WORDS = {"running": "start", "stopped": "stop"}


def verb_of(args: dict[str, Any]) -> str:
    """The verb of an order; raises `UsageError` for a word that is none."""
    verb = str(args.get("verb"))
    if verb not in AFTER_VERB:
        raise worded(UsageError, because("ask.verb", verb=verb))
    return verb


def result_word(result: dict[str, Any], written: str, *, waited: bool) -> str:
    """How an order went, as one word for people and programs; takes `outcome` out of `result`."""
    outcome = str(result.pop("outcome", ""))
    if waited and outcome:
        return "already" if written == "already" and outcome == "done" else outcome
    return written or "requested"


def limit_of(args: dict[str, Any]) -> float | None:
    """How long the asker waits, in seconds; None: as long as it takes."""
    value = args.get("timeout")
    return float(value) if isinstance(value, int | float) and value > 0 else None


def reason_of(args: dict[str, Any]) -> str:
    """Why it was ordered, as one line; raises `UsageError` for more than a document may carry."""
    reason = as_line(str(args.get("reason") or ""))
    if len(reason) > LONGEST_LINE:
        raise worded(UsageError, because("ask.reason_long", limit=LONGEST_LINE))
    return reason


def rfc3339(moment: datetime) -> str:
    """A moment as orders carry it, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")


def unix(text: str) -> float:
    """The same in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def as_document(changes: Iterable[DesiredChange]) -> str:
    """What orders for one document ask of it, in the words of the document."""
    asked: dict[str, object] = {}
    for change in changes:
        if change.remove or change.anew:
            asked.clear()
        given = {name: getattr(change, name) for name in ("state", "restart", "until")}
        asked |= {name: value for name, value in given.items() if value is not None}
        if change.params or change.unset_params:
            asked["params"] = {**change.params, **dict.fromkeys(change.unset_params)}
        asked |= {"by": change.by} if change.by else {}
    return shown_document(json.dumps(asked, default=str) if asked else None)


def spoken(change: DesiredChange) -> Reason:
    """The order as a line of the journal."""
    what = _WORDS.get(change.state or "", "params")
    if change.remove:
        what = "unset"
    elif change.restart:
        what = "restart"
    elif change.params:
        what = ", ".join(f"{name}={shown(name, value)}" for name, value in change.params.items())
    elif change.unset_params:
        what = f"unset {', '.join(change.unset_params)}"
    if change.reason:
        return because("verb.ordered_because", by=change.by or "?", what=what, why=change.reason)
    return because("verb.ordered", by=change.by or "?", what=what)
