"""The sentences people read, in English, Russian and Chinese.

One JSON file per language and subject (`reasons`, `cli`, ...): a flat map from a stable code to a
template. Codes and parameters come from the core, prose lives only here; a test holds the three
languages to the same keys and parameters. JSON output and the agent's log are always English.

Templates are `str.format` templates with four more format specs: `{delay:duration}` (seconds),
`{needs:size}` (bytes), `{until:time}` (Unix seconds, shown as the reader's local time) and
`{holders:holders}` (who is on a GPU; see `gpu_words`).
"""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from lictor.core.locales.gpu_words import holders

LANGUAGES = ("en", "ru", "zh")

_UNITS = {
    "en": ("s", "min", "h", "d"),
    "ru": ("с", "мин", "ч", "д"),
    "zh": ("秒", "分钟", "小时", "天"),
}


@cache
def catalogue(language: str, subject: str) -> Mapping[str, str]:
    """All templates of one subject in one language."""
    source = files(__package__).joinpath(language, f"{subject}.json")
    loaded: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))
    return loaded


def render(
    code: str, params: Mapping[str, object], *, language: str = "en", subject: str = "reasons"
) -> str:
    """The sentence for a code. An unknown code yields itself, so that nothing is ever hidden."""
    template = catalogue(language, subject).get(code)
    if template is None:
        template = catalogue("en", subject).get(code)
    if template is None:
        extra = ", ".join(f"{name}={value}" for name, value in params.items())
        return f"{code} ({extra})" if extra else code
    return _Formatter(language).vformat(template, (), params)


def text(code: str, /, *, language: str = "en", subject: str = "reasons", **params: object) -> str:
    """`render` with the parameters as keywords."""
    return render(code, params, language=language, subject=subject)


def language_from(env: Mapping[str, str]) -> str:
    """The language a person wants: LICTOR_LANG, then the locale (LC_ALL, LC_MESSAGES, LANG)."""
    for name in ("LICTOR_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = env.get(name, "")
        if value:
            wanted = value[:2].lower()
            return wanted if wanted in LANGUAGES else "en"
    return "en"


def duration(seconds: float, language: str = "en") -> str:
    """A length of time as people say it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    second, minute, hour, day = _UNITS[language]
    gap = "" if language == "zh" else " "
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + gap + second
    whole = round(seconds)
    for size, big, small_size, small in (
        (86400, day, 3600, hour),
        (3600, hour, 60, minute),
        (60, minute, 1, second),
    ):
        if whole >= size:
            rest = (whole % size) // small_size
            tail = f" {rest}{gap}{small}" if rest else ""
            return f"{whole // size}{gap}{big}{tail}"
    return f"{whole}{gap}{second}"


def size(count: float) -> str:
    """An amount of memory or disk: `512 B`, `6.1 GiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def moment(seconds: float) -> str:
    """A time as people say it, with its zone, because the reader's may be another: never relative."""
    try:
        return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds)).strip()
    except (ValueError, OverflowError, OSError):
        return "?"


class _Formatter(string.Formatter):
    """`str.format` with our four specs, and `?` for a parameter that is missing."""

    def __init__(self, language: str) -> None:
        self._language = language

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        return (
            kwargs.get(key, "?") if isinstance(key, str) else super().get_value(key, args, kwargs)
        )

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "duration":
            return duration(float(value), self._language) if _is_number(value) else "?"
        if format_spec == "time":
            return moment(float(value)) if _is_number(value) else "?"
        if format_spec == "holders":
            return holders(value, self._language, size=size, duration=duration)
        if format_spec == "size":
            return size(float(value)) if _is_number(value) else "?"
        return str(super().format_field(value, format_spec))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
