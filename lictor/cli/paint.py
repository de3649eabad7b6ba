"""How a state looks: a glyph, a word and a colour, always together.

Colour alone says nothing to a person who cannot see it, to a log file or to a screen reader, so
every phase has a glyph of its own shape and its word. This module decides when colour is allowed
(`--color`, NO_COLOR, CLICOLOR_FORCE, a terminal) and makes text from services safe to show; it
prints nothing.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from dataclasses import dataclass
from typing import Any, TextIO

import click

from lictor.cli.words import can_encode, word

#: Where `--color` is kept in click's context, for the group and its commands alike.
COLOR_KEY = "lictor.color"

#: Style names, as SGR codes (ECMA-48) and as rich's words.
SGR = {"good": "32", "busy": "33", "bad": "1;31", "quiet": "2", "odd": "35", "head": "1"}
RICH = {"good": "green", "busy": "yellow", "bad": "bold red", "quiet": "dim", "odd": "magenta"}

# state: (glyph, glyph where the terminal has only ASCII, style)
_LOOKS = {
    "ready": ("●", "+", "good"),
    "starting": ("◐", ">", "busy"),
    "queued": ("◌", ".", "busy"),
    "unhealthy": ("▲", "!", "bad"),
    "stopping": ("◑", "<", "busy"),
    "stopped": ("○", "-", "quiet"),
    "backoff": ("↻", "~", "busy"),
    "failed": ("✖", "x", "bad"),
    "blocked": ("⊘", "#", "odd"),
    "unknown": ("?", "?", "odd"),
    "passing": ("●", "+", "good"),
    "warning": ("▲", "!", "busy"),
    "critical": ("✖", "x", "bad"),
    "maintenance": ("◇", "=", "odd"),
    "done": ("●", "+", "good"),
    "already": ("●", "+", "good"),
    "requested": ("◐", ">", "busy"),
    "pending": ("◌", ".", "busy"),
    "held": ("◇", "=", "odd"),
    "refused": ("✖", "x", "bad"),
    "overtaken": ("◌", ".", "quiet"),
    "ok": ("●", "+", "good"),
    "gap": ("✖", "x", "bad"),
    "warn": ("▲", "!", "busy"),
    "fail": ("✖", "x", "bad"),
}

_SGR_SEQUENCE = re.compile(r"\x1b\[[0-9;:]*m")
_OTHER_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of text and the name of its style (a key of `SGR`; empty: plain)."""

    text: str
    style: str = ""


def state(kind: str, value: object) -> Cell:
    """Glyph, word and style of a phase, a health or a result; `-` for none."""
    if value is None or value == "":
        return Cell("-", "quiet")
    rich_glyph, plain_glyph, style = _LOOKS.get(str(value), ("?", "?", "odd"))
    glyph = rich_glyph if can_encode(rich_glyph, sys.stdout) else plain_glyph
    return Cell(f"{glyph} {word(kind, value)}", style)


def watched(stream: TextIO | None) -> bool:
    """Whether a person sits at this stream and it can move its cursor."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def color_on(stream: TextIO | None) -> bool:
    """Whether to colour: `--color`, then NO_COLOR, then CLICOLOR_FORCE, then a terminal."""
    context = click.get_current_context(silent=True)
    choice = context.meta.get(COLOR_KEY, "auto") if context is not None else "auto"
    if choice != "auto":
        return bool(choice == "always")
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        return True
    return watched(stream)


def painted(text: str, style: str, *, color: bool) -> str:
    """The text in its colour, if colour is on."""
    return f"\x1b[{SGR[style]}m{text}\x1b[0m" if color and style else text


def clean(text: Any) -> str:
    """One line without control characters: a service's words must not steer the terminal."""
    shown = _OTHER_SEQUENCE.sub("", str(text)) if "\x1b" in str(text) else str(text)
    return "".join(
        " " if char in "\n\r\t" else char
        for char in shown
        if char in "\n\r\t" or (unicodedata.category(char) != "Cc" and char not in _BIDI)
    )


def clean_log(line: str, *, color: bool) -> str:
    """A log line for a terminal: its colours may stay, anything else that steers it may not."""
    parts: list[str] = []
    end = 0
    for match in _SGR_SEQUENCE.finditer(line):
        parts += [_plain_log(line[end : match.start()]), match.group() if color else ""]
        end = match.end()
    parts.append(_plain_log(line[end:]))
    return "".join(parts) + ("\x1b[0m" if color and end else "")


def _plain_log(text: str) -> str:
    shown = _OTHER_SEQUENCE.sub("", text)
    return "".join(c for c in shown if c == "\t" or (unicodedata.category(c) != "Cc"))


def width(text: str) -> int:
    """Terminal cells that the text takes: Chinese takes two, combining marks none (UAX #11)."""
    if text.isascii():
        return len(text)
    cells = 0
    for char in text:
        if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
            continue
        cells += 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
    return cells


def cut(text: str, cells: int) -> str:
    """The text in at most so many cells, with an ellipsis if something was cut."""
    if width(text) <= cells:
        return text
    kept, used = "", 0
    for char in text:
        used += width(char)
        if used > cells - 1:
            break
        kept += char
    return kept + "…"
