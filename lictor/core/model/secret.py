"""Which names say that a value is a secret, and what is shown of it.

Of the values of such names no answer, log, event or error says anything (reliability.md P15); that a
value is there is no secret. It is here, at the bottom, so that every part masks alike.
"""

from __future__ import annotations

import re

MASK = "***"

_SECRET = re.compile(r"token|key|secret|password|passwd|credential", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a variable or a parameter of that name holds a secret."""
    return _SECRET.search(name) is not None


def shown(name: str, value: object) -> object:
    """The value as it may be shown: itself, or the mask."""
    return MASK if is_secret(name) else value
