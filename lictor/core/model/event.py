"""What happened, for the journal and for whoever watches."""

from __future__ import annotations

from dataclasses import dataclass, field

from lictor.core.model.reason import Reason


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal.

    `kind` is a stable word (`phase`, `verb`, `desired`, `config`, `consul`, `agent`); `subject` the
    service key or ""; `who` the person or part that caused it; `at` Unix seconds.
    """

    at: float
    kind: str
    subject: str
    reason: Reason
    who: str = "lictor"
    data: dict[str, str] = field(default_factory=dict)
