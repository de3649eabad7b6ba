"""Lengths of time and amounts of memory as people write them.

`10s`, `5m`, `1h30m`, `500ms`, a bare number of seconds; `6GiB` (1024) and `6GB` (1000), a bare
number of bytes. Written back, a value reads back as itself: durations to the millisecond, sizes to
the byte. Bare `6G` is refused, because half of the world means 1000 by it and the other half 1024.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_TIME = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_BYTES = {"B": 1} | {
    f"{letter}{suffix}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_BY_LOWER = {unit.lower(): factor for unit, factor in _BYTES.items()}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")

#: Ten years: longer than any of them makes sense, and far from where floats lose milliseconds.
MAX_SECONDS = 3650 * 86400
MAX_SIZE = 1 << 60


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError whose message says what was expected."""
    text = _text(value, "a duration such as 10s, 5m or 1h30m")
    if _NUMBER.fullmatch(text) and len(text) < 300:
        seconds = float(text)
    else:
        parts = _TIME_PART.findall(text) if len(text) < 300 else []
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"expected a duration such as 10s, 5m or 1h30m, got {text[:40]!r}")
        seconds = float(sum(Fraction(number) * _TIME[unit] for number, unit in parts) / 1000)
    if seconds > MAX_SECONDS:
        raise ValueError(f"a duration of more than ten years: {text[:40]!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest usual way to write it, exact to the millisecond: 5400 is `1h30m`."""
    rest = round(seconds * 1000)
    text = ""
    for unit in ("d", "h", "m"):
        count, rest = divmod(rest, _TIME[unit])
        if count:
            text += f"{count}{unit}"
    if 0 < rest < 1000:
        return f"{text}{rest}ms"
    if rest or not text:
        text += f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return text


def parse_size(value: object) -> int:
    """Bytes. Raises ValueError whose message says what was expected."""
    text = _text(value, "a size such as 6GiB or 500MB")
    match = _SIZE.fullmatch(text) if len(text) < 300 else None
    factor = _BY_LOWER.get((match[2] or "B").lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"expected a size such as 6GiB or 500MB, got {text[:40]!r}")
    amount = Fraction(match[1]) * factor
    if amount > MAX_SIZE:
        raise ValueError(f"a size of more than 2^60 bytes: {text[:40]!r}")
    return int(amount)


def format_size(count: int) -> str:
    """The largest binary unit that is exact: 6442450944 is `6GiB`, 1500 is `1500B`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


def _text(value: object, expected: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        kind = "a list" if isinstance(value, (list, tuple)) else "a mapping"
        shown = str(value).lower() if isinstance(value, bool) else kind
        raise ValueError(f"expected {expected}, got {shown}")  # noqa: TRY004 - pydantic's word
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected {expected}, got {value}")
    return str(value).strip()
