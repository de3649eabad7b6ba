"""The command line's voice: which language a person reads, and every text in it.

The texts live in `core/locales/<language>/cli.json`; reasons of services come from the agent as a
code with parameters and an English sentence, and are said here in the person's language. This
module never touches JSON or YAML output: data stays English for every reader.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from lictor.core.locales import catalogue, duration, language_from, render, text
from lictor.core.worded import record

if TYPE_CHECKING:
    from lictor.core.errors import LictorError

#: A letter of each language, to see whether a stream can show it.
_LETTERS = {"ru": "ж", "zh": "中"}


def language() -> str:
    """The language of this run: LICTOR_LANG, then the locale.

    Where stdout or stderr cannot show its letters it is English: a line of `?????` tells nobody
    anything.
    """
    wanted = language_from(os.environ)
    letter = _LETTERS.get(wanted, "")
    return wanted if all(can_encode(letter, s) for s in (sys.stdout, sys.stderr)) else "en"


def can_encode(text: str, stream: TextIO | None) -> bool:
    """Whether the stream can show this text at all (a terminal of LANG=C may not)."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say(code: str, /, **params: object) -> str:
    """A text of the command line in the person's language."""
    return text(code, language=language(), subject="cli", **params)


def sentence(row: Mapping[str, Any]) -> str:
    """The sentence of something the agent said: translated if we know its reason, else as sent.

    An agent newer than this program may send reasons that are not in our catalogue; its own
    English sentence is better than a bare code.
    """
    sent = str(row.get("sentence") or "")
    wanted = language()
    if sent and wanted == "en":
        return sent
    parts = row.get("reasons")
    if not isinstance(parts, list) or not parts:
        parts = [{"code": row.get("reason"), "params": row.get("reason_params")}]
    said = [_translated(part, wanted) for part in parts]
    if any(one is None for one in said):
        return sent or str(row.get("reason") or "")
    gap = "" if wanted == "zh" else " "
    return gap.join(one for one in said if one)


def of_error(error: LictorError) -> tuple[str, str]:
    """Message and hint of an error in the person's language; in English where it has no other."""
    said = record(error)
    return (
        sentence({"sentence": error.message, "reasons": said["reasons"]}),
        sentence({"sentence": error.hint, "reasons": said["hint_reasons"]}),
    )


def _translated(part: object, wanted: str) -> str | None:
    """One reason in the person's language; None if this program cannot say it."""
    if not isinstance(part, Mapping):
        return None
    code, params = part.get("code"), part.get("params")
    if not isinstance(code, str) or code not in catalogue(wanted, "reasons"):
        return None
    try:
        return render(code, params if isinstance(params, Mapping) else {}, language=wanted)
    except (ValueError, TypeError, AttributeError):
        return None  # a parameter of another type than our template expects


def how_long(seconds: object) -> str:
    """A length of time in the person's words; `-` for what nobody measured."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return duration(float(seconds), language())
    return "-"


def word(kind: str, value: object) -> str:
    """The person's word for a value of a closed set (`phase`, `health`, `result`, ...).

    A value that this program has never heard of is shown as it came.
    """
    if value is None or value == "":
        return "-"
    key = f"{kind}.{value}"
    return say(key) if key in catalogue("en", "cli") else str(value)
