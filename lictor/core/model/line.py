"""One line of text that somebody wrote: who may be shown it, and what becomes of a slip. Pure.

Reasons and parameters come from a shell, a web page or a hand in KV, and go into tables, journals and
command lines. So they are one line: a document of KV that has more is refused whole, and a reason
that a person typed is made one.
"""

from __future__ import annotations

#: Characters of one reason or parameter.
LONGEST_LINE = 1000


def is_line(text: str) -> bool:
    """Whether a text may be shown, written and put into an argv: short, and no control characters.

    Nor half of a surrogate pair, which JSON can carry and UTF-8 cannot.
    """
    if len(text) > LONGEST_LINE:
        return False
    return not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or _lone(char) for char in text)


def as_line(text: str) -> str:
    """What was typed, as one line of any length: a break is a space, what cannot be shown is `?`."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _lone(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"
