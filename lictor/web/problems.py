"""Every error as `application/problem+json` (RFC 9457): one table from the error tree to a status.

A client may rely on `status`, `code` (stable, machine-readable), `detail` (one sentence) and `hint`
(what to do next), both in English; `reasons` and `hint_reasons` are these two as codes with parameters,
for who tells them in another language. Nothing of a traceback and nothing of a request's body is ever
part of an answer: a password that was typed into the wrong field must not come back in an error.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lictor.core import errors
from lictor.core.model.reason import Reason, because
from lictor.core.runtime.answers.log_files import NoSuchLog
from lictor.core.runtime.answers.registry_view import NotInConsul
from lictor.core.worded import record, worded
from lictor.web.auth.errors import DoorError
from lictor.web.door import Busy, Unknown

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

#: The nearest class of an error decides.
STATUS: Mapping[type[errors.LictorError], int] = {
    errors.LictorError: 500,
    errors.UsageError: 400,
    errors.ConfigError: 422,
    errors.NotRunning: 409,
    errors.NoSuchService: 404,
    NoSuchLog: 404,
    NotInConsul: 404,
    errors.AgentUnreachable: 503,
    errors.ConsulError: 502,
    errors.ConsulUnreachable: 503,
    errors.ConsulTimeout: 504,
    errors.NoLeader: 503,
    errors.Conflict: 409,
    errors.RateLimited: 503,
    errors.NotPermitted: 403,
    errors.Refused: 409,
    errors.TimedOut: 504,
    errors.OperationFailed: 500,
    Busy: 429,
    Unknown: 501,
}


def status_of(error: errors.LictorError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, DoorError):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """The answer itself."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if hint:
        body["hint"] = hint
    given = {"Cache-Control": "no-store", **(headers or {})}
    if status in {429, 503}:
        given.setdefault("Retry-After", "1")
    content = json.dumps({**body, **more}, ensure_ascii=False).encode()
    return Response(content, status, given, MEDIA_TYPE)


def told(error: errors.LictorError) -> dict[str, Any]:
    """What is said of one of our own errors, in an answer or in a stream."""
    said = record(error)
    return {"detail": said.pop("message")} | {name: value for name, value in said.items() if value}


def of_error(error: errors.LictorError) -> Response:
    """The answer for one of our own errors."""
    headers = error.headers if isinstance(error, DoorError) else None
    return problem(status_of(error), headers=headers, **told(error))


def said(
    status: int,
    code: str,
    why: Reason,
    *,
    hint: Reason | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for what was not raised as one of our own errors."""
    error = worded(errors.LictorError, why, hint=hint, code=code)
    return problem(status, headers=headers, **told(error))


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LictorError)  # noqa: S101 - as it was registered
    return of_error(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as it was registered
    # `input` and `ctx` hold what was sent; they stay here.
    found = [
        {
            "where": ".".join(str(part) for part in one["loc"])[:200],
            "message": str(one["msg"])[:300],
        }
        for one in error.errors()[:20]
    ]
    detail = "; ".join(f"{one['where']}: {one['message']}" for one in found[:3])
    why = because("ask.invalid_because", found=detail) if detail else because("ask.invalid")
    error = worded(errors.LictorError, why, code="request.invalid")
    return problem(422, errors=found, **told(error))


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as it was registered
    words = {404: "page.unknown", 405: "method.unknown", 413: "body.too_large"}
    code = words.get(error.status_code, "http")
    whys = {404: because("page.none"), 405: because("ask.method")}
    why = whys.get(error.status_code)
    if why is not None:
        return said(error.status_code, code, why, headers=error.headers)
    return problem(error.status_code, code, str(error.detail), headers=error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    log.error("a request failed: %s %s", request.method, request.url.path, exc_info=error)
    return said(500, "fault", because("agent.fault_logged"))


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""
    app.add_exception_handler(errors.LictorError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)
