"""From the text of one KV document to what it wants, or to why it is refused. Pure.

Anybody who may write to KV can put anything there, so this is a gate: a document that does not fit
is refused whole, with one reason that names the place (design: a half-applied document is worse than
an old one). It can choose a state and set parameters that the host's config defines, each by its
type; it cannot carry a command, a path, an image or an environment variable, because there is no
field for one. It never raises, reads no clock and asks nobody.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from lictor.core.model.desired import DesiredState, Override
from lictor.core.model.line import LONGEST_LINE, is_line
from lictor.core.model.reason import Param, Reason, because
from lictor.core.model.secret import MASK, is_secret
from lictor.core.model.spec import ParamSpec, ParamValue

MAX_BYTES = 16 * 1024
MAX_DEPTH = 16
MAX_TEXT = LONGEST_LINE  # characters of one text: `by`, `reason`, or a parameter

FIELDS = ("state", "params", "restart", "until", "by", "reason")

# RFC 3339 §5.6; the zone is not optional, and only ASCII digits are digits.
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class _Refused(Exception):
    # Never leaves this module.
    def __init__(self, code: str, **params: Param) -> None:
        super().__init__(code)
        self.reason = because(code, **params)


def parse_document(text: str | bytes, params: Mapping[str, ParamSpec]) -> Override | Reason:
    """The override that `text` asks for, or the reason why the whole document is refused.

    `params` are the parameters of the service that the document is about. Fields: `state` (running,
    stopped, maintenance), `params` (object), `restart` and `until` (RFC 3339 with a zone), `by` and
    `reason` (one line each). Every one may be left out; `{}` asks for nothing.
    """
    try:
        document = _load(text)
        return Override(
            state=_state(document),
            params=_params(document, params),
            restart=_time(document, "restart"),
            until=_time(document, "until"),
            by=_line(document, "by"),
            reason=_line(document, "reason"),
        )
    except _Refused as refused:
        return refused.reason


def _load(text: str | bytes) -> Mapping[str, Any]:
    try:
        raw = text if isinstance(text, bytes) else text.encode()
        if len(raw) > MAX_BYTES:
            raise _Refused("kv.too_large", size=len(raw), limit=MAX_BYTES)
        document = json.loads(
            raw.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeError as error:
        raise _Refused("kv.not_text") from error
    except json.JSONDecodeError as error:
        raise _Refused(
            "kv.bad_json", error=error.msg, line=error.lineno, column=error.colno
        ) from error
    except RecursionError as error:
        raise _Refused("kv.too_deep", limit=MAX_DEPTH) from error
    except ValueError as error:  # an integer of thousands of digits
        raise _Refused("kv.bad_number", number=_show(error)) from error
    _check_depth(document)
    if not isinstance(document, dict):
        raise _Refused("kv.not_object")
    for field in document:
        if field not in FIELDS:
            raise _Refused("kv.unknown_field", field=_show(field), allowed=", ".join(FIELDS))
    return document


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    # JSON leaves it open which of two equal keys counts (RFC 8259 §4); we do not guess.
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _Refused("kv.duplicate_key", key=_show(key))
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise _Refused("kv.bad_number", number=name)  # NaN, Infinity: Python reads them, JSON has none


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused("kv.bad_number", number=_show(text))  # 1e999
    return number


def _check_depth(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        deeper: list[object] = []
        for value in level:
            if isinstance(value, dict):
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
        if not deeper:
            return
        level = deeper
    raise _Refused("kv.too_deep", limit=MAX_DEPTH)


def _state(document: Mapping[str, Any]) -> DesiredState | None:
    if "state" not in document:
        return None
    try:
        return DesiredState(document["state"])
    except ValueError as error:
        raise _Refused("kv.bad_state", value=_show(document["state"])) from error


def _time(document: Mapping[str, Any], field: str) -> float | None:
    if field not in document:
        return None
    value = document[field]
    moment = unix_seconds(value) if isinstance(value, str) else None
    if moment is None:
        raise _Refused("kv.bad_time", field=field, value=_show(value))
    return moment


def unix_seconds(text: str) -> float | None:
    """Unix seconds of an RFC 3339 time with a zone; None for any other text."""
    if _RFC3339.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):  # 31 February, or a zone that leaves the calendar
        return None


def _line(document: Mapping[str, Any], field: str) -> str:
    value = document.get(field, "")
    if not isinstance(value, str) or not is_line(value):
        raise _Refused("kv.bad_text", field=field, limit=MAX_TEXT)
    return value


def _params(
    document: Mapping[str, Any], specs: Mapping[str, ParamSpec]
) -> Mapping[str, ParamValue]:
    given = document.get("params", {})
    if not isinstance(given, dict):
        raise _Refused("kv.params_not_object")
    return {name: _param(name, value, specs) for name, value in given.items()}


def _param(name: str, value: object, specs: Mapping[str, ParamSpec]) -> ParamValue:
    spec = specs.get(name)
    if spec is None:
        known = ", ".join(sorted(specs)) or "-"
        raise _Refused("kv.unknown_param", param=_show(name), known=known)
    result = check_param(name, value, spec)
    if isinstance(result, Reason):
        raise _Refused(result.code, **result.params)
    return result


def check_param(name: str, value: object, spec: ParamSpec) -> ParamValue | Reason:
    """`value` as the parameter's own type, or why it does not fit.

    A whole number does for a fraction, never the other way round, and a boolean is no number. What
    the config's author wrote himself (the default, a choice) is always fine; nothing else may begin
    with `-`, so that no value turns into an option of the service's program.
    """
    shown = MASK if is_secret(name) else _show(value)
    typed = _typed(value, spec.default)
    if typed is None:
        kind = type(spec.default).__name__
        return because("kv.bad_param_type", param=name, value=shown, type=kind)
    if spec.choices:
        if any(type(choice) is type(typed) and choice == typed for choice in spec.choices):
            return typed
        choices = ", ".join(str(choice) for choice in spec.choices)
        return because("kv.bad_param_choice", param=name, value=shown, choices=choices)
    if typed == spec.default:
        return typed
    if not is_line(str(typed)):
        return because("kv.bad_text", field=f"params.{name}", limit=MAX_TEXT)
    if str(typed).startswith("-"):
        return because("kv.param_is_option", param=name, value=shown)
    if spec.pattern is not None and not _matches(spec.pattern, str(typed)):
        return because("kv.bad_param_pattern", param=name, value=shown, pattern=spec.pattern)
    return typed


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:  # a pattern that is none lets nothing through
        return False


def _typed(value: object, default: ParamValue) -> ParamValue | None:
    if isinstance(default, bool):
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if isinstance(default, float):
        return _as_float(value)
    if isinstance(default, int):
        return value if isinstance(value, int) else None
    return value if isinstance(value, str) else None


def _as_float(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _show(value: object) -> str:
    """What somebody wrote, fit to be shown in a sentence: short and printable."""
    text = value if isinstance(value, str) else repr(value)
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= 60 else f"{clean[:59]}…"
