"""What a parameter's value may be.

A parameter is the only thing that KV and the API can put into a command line, so a value has the
type of its default, fits `choices` or `pattern`, and never begins with `-`: it must not become an
option of the service's program.
"""

from __future__ import annotations

import re
from math import isfinite

from lictor.core.model.line import LONGEST_LINE, is_line
from lictor.core.model.spec import ParamSpec, ParamValue

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def bad_value(spec: ParamSpec, value: object) -> str:
    """Why `value` does not fit the parameter, or ""."""
    if not _same_type(spec.default, value):
        return f"expected {_WORDS[type(spec.default)]}, got {str(value)[:40]!r}"
    if _option_like(value):
        return f"a parameter never begins with a hyphen: {str(value)[:40]!r}"
    if spec.choices and value not in spec.choices:
        return f"expected one of {_listed(spec.choices)}, got {str(value)[:40]!r}"
    if spec.pattern is not None and not re.fullmatch(spec.pattern, str(value)):
        return f"{str(value)[:40]!r} does not match the pattern {spec.pattern}"
    return ""


def bad_order(spec: ParamSpec, value: object) -> str:
    """Why a person may not set the parameter to `value`, or "".

    More than the author of the config must: as a document of KV it would be refused.
    """
    problem = bad_value(spec, value)
    if problem or value == spec.default or value in spec.choices:
        return problem
    if isinstance(value, float) and not isfinite(value):
        return f"expected {_WORDS[float]}, got {value}"
    if not is_line(str(value)):
        return f"a parameter is one line of at most {LONGEST_LINE} characters"
    return ""


def fitted(spec: ParamSpec, value: ParamValue) -> ParamValue:
    """A value that passed `bad_value`, with the type of the default (1 becomes 1.0)."""
    return float(value) if isinstance(spec.default, float) else value


def bad_default(default: ParamValue, choices: tuple[ParamValue, ...], pattern: str | None) -> str:
    """Why this cannot be the definition of a parameter, or ""."""
    if choices and pattern is not None:
        return "`choices` and `pattern` are both given; keep one"
    if pattern is not None:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            return f"`pattern` is no regular expression: {error}"
    for choice in choices:
        if not _same_type(default, choice):
            return f"the choice {str(choice)[:40]!r} has another type than `default`"
        if _option_like(choice):
            return f"a parameter never begins with a hyphen: {str(choice)[:40]!r}"
    problem = bad_value(ParamSpec(default, choices, pattern), default)
    return f"`default`: {problem}" if problem else ""


def _same_type(default: object, value: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _option_like(value: object) -> bool:
    return str(value).lstrip().startswith("-")


def _listed(choices: tuple[ParamValue, ...]) -> str:
    return ", ".join(str(choice) for choice in choices)
