"""What `lictor doctor` found: one line each, with a sentence and, if something is to be done, a step."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lictor.core.model.reason import Reason


class Level(StrEnum):
    """How bad it is: `fail` keeps Lictor from its work, `warn` is worth knowing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `check` is a word of a closed set; `subject` may be a service."""

    check: str
    level: Level
    reason: Reason
    step: Reason | None = None
    subject: str = ""
