r"""Text from strangers, made safe to show.

What a service prints or answers is bytes from somebody who may be hostile: terminal escapes, carriage
returns that overwrite a line, C1 controls, marks that turn the direction of text, forged line ends.
All of these are shown as what they are (`\x1b`), so that one line stays one line and says what it
said. This module never drops a byte silently and never raises.
"""

from __future__ import annotations

#: Bidirectional and other invisible formatting (UAX #9; "Trojan Source", CVE-2021-42574), line and
#: paragraph separators, interlinear annotation, byte order mark.
_INVISIBLE = (
    *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_TABLE: dict[int, str] = (
    {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
    | {code: f"\\u{code:04x}" for code in (*_INVISIBLE, *range(0xD800, 0xE000))}
    # "Tag" characters: invisible letters.
    | {code: f"\\U{code:08x}" for code in range(0xE0000, 0xE0080)}
    | {0x09: "    "}
)


def visible(raw: bytes | str) -> str:
    r"""`raw` as one line of harmless text: UTF-8, bad bytes as U+FFFD, controls as `\xNN`."""
    text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw
    # Most lines are plain: a look is ten times cheaper than a translation.
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_TABLE)


def one_line(raw: bytes | str, limit: int = 200) -> str:
    """The first line of `raw` that is not blank, safe, at most `limit` characters."""
    piece = raw[: 16 * limit]
    newline: bytes | str = b"\n" if isinstance(piece, bytes) else "\n"
    first = piece.strip().split(newline, 1)[0].strip()  # type: ignore[arg-type]
    text = visible(first)
    return text if len(text) <= limit else text[: limit - 1] + "…"
