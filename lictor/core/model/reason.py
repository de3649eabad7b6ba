"""Why: a stable code with parameters.

The sentence that a person reads is made at the edge, in English, Russian or Chinese, from
`lictor/core/locales/*.json`, where each code has exactly one template. The core never builds prose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Param: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Reason:
    """`code` is dotted and lower case (`exit.code`, `dependency.waiting`); `params` fill its text."""

    code: str
    params: Mapping[str, Param] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.code, tuple(sorted((k, str(v)) for k, v in self.params.items()))))


def because(code: str, /, **params: Param) -> Reason:
    """Shorthand that reads well where decisions are made: `because("exit.code", code=1)`."""
    return Reason(code, params)
