"""Which names say that a value is a secret, and what is shown of it.

Of the values of such names no answer, log, event or error says anything (reliability.md P15); that a
value is there is no secret. It is here, at the bottom, so that every part masks alike.
"""

from __future__ import annotations

import json
import re

MASK = "***"

_SECRET = re.compile(r"token|key|secret|password|passwd|credential", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether a variable or a parameter of that name holds a secret."""
    return _SECRET.search(name) is not None


def shown(name: str, value: object) -> object:
    """The value as it may be shown: itself, or the mask."""
    return MASK if is_secret(name) else value


def shown_document(text: str | bytes | None, limit: int = 300) -> str:
    """A JSON document as it may be shown in a sentence: one line, secrets masked, cut to `limit`.

    "nothing" for None; of a text that is no JSON object nothing but that is said.
    """
    if text is None:
        return "nothing"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return "no document"
    if isinstance(params := document.get("params"), dict):
        document["params"] = {name: shown(name, value) for name, value in params.items()}
    line = json.dumps(document, ensure_ascii=False, sort_keys=True)
    clean = "".join(char if char.isprintable() else "?" for char in line)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}…"
