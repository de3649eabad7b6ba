"""Errors whose sentences are reasons, so that they are told in the language of the reader.

An error is raised deep inside, where nobody knows who will read it. `worded` gives it its English
sentence, which goes into logs and JSON, and keeps the codes with their parameters beside it; the
command line and the dashboard make their own sentence of these. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from lictor.core.errors import ConsulError, InstallFailed, LictorError, Said, StartFailed
from lictor.core.locales import render
from lictor.core.model.reason import Reason

E = TypeVar("E", bound=LictorError)


def worded(
    kind: Callable[..., E],
    *why: Said,
    hint: Said | None = None,
    code: str | None = None,
    **more: Any,
) -> E:
    """An error of this kind that says `why`, and `hint` as the next step.

    `code` takes the place of the kind's own; `more` goes to the kind as it is.
    """
    error = kind(" ".join(_english(one) for one in why), **more)
    error.reasons = why
    if hint is not None:
        error.hint, error.hint_reasons = _english(hint), (hint,)
    if code is not None:
        error.code = code
    return error


def record(error: LictorError) -> dict[str, Any]:
    """What every channel says of an error: English in `message` and `hint`, codes beside them.

    `reasons` and `hint_reasons` are lists of `{code, params}` in the order of the sentences; they
    are empty where the text exists in English only.
    """
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "reasons": _parts(_reasons(error)),
        "hint_reasons": _parts(error.hint_reasons),
    }


def _reasons(error: LictorError) -> Iterable[Said]:
    if error.reasons:
        return error.reasons
    if isinstance(error, StartFailed | InstallFailed):
        return (Reason(error.reason_code, error.params),)  # type: ignore[arg-type]
    if isinstance(error, ConsulError):
        # Each kind has its own sentence, which takes what Consul said as it is.
        return (Reason(error.code, {"message": error.message}),)
    return ()


def _parts(reasons: Iterable[Said]) -> list[dict[str, Any]]:
    return [{"code": one.code, "params": dict(one.params)} for one in reasons]


def _english(reason: Said) -> str:
    return render(reason.code, reason.params)
