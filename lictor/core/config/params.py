"""What a parameter's value may be.

A parameter is the only thing that KV and the API can put into a command line, so a value has the
type of its default, fits `choices` or `pattern`, and never begins with `-`: it must not become an
option of the service's program.
"""

from __future__ import annotations

import re
from math import isfinite

from lictor.core.locales import render
from lictor.core.model.line import LONGEST_LINE, is_line
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamSpec, ParamValue


def misfit(spec: ParamSpec, value: object) -> Reason | None:
    """Why `value` does not fit the parameter; None: it does."""
    got = repr(str(value)[:40])[1:-1]  # as Python writes it, so that nothing in it is invisible
    if not _same_type(spec.default, value):
        return _other_type(spec.default, got)
    if _option_like(value):
        return because("param.hyphen", got=got)
    if spec.choices and value not in spec.choices:
        return because("param.no_choice", choices=_listed(spec.choices), got=got)
    if spec.pattern is not None and not re.fullmatch(spec.pattern, str(value)):
        return because("param.no_match", got=got, pattern=spec.pattern)
    return None


def misfit_as_order(spec: ParamSpec, value: object) -> Reason | None:
    """Why a person may not set the parameter to `value`; None: it may be.

    More than the author of the config must: as a document of KV it would be refused.
    """
    problem = misfit(spec, value)
    if problem is not None or value == spec.default or value in spec.choices:
        return problem
    if isinstance(value, float) and not isfinite(value):
        return because("param.not_finite", got=str(value))
    if not is_line(str(value)):
        return because("param.no_line", limit=LONGEST_LINE)
    return None


def bad_value(spec: ParamSpec, value: object) -> str:
    """What `misfit` says, in English and as a part of a sentence; "" of a value that fits."""
    problem = misfit(spec, value)
    return "" if problem is None else render(problem.code, problem.params).removesuffix(".")


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


def _other_type(default: ParamValue, got: str) -> Reason:
    if isinstance(default, str):
        return because("param.no_text", got=got)
    if isinstance(default, bool):
        return because("param.no_bool", got=got)
    return because("param.no_int" if isinstance(default, int) else "param.no_number", got=got)


def _same_type(default: object, value: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


def _option_like(value: object) -> bool:
    return str(value).lstrip().startswith("-")


def _listed(choices: tuple[ParamValue, ...]) -> str:
    return ", ".join(str(choice) for choice in choices)
