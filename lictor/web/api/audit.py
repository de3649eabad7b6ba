"""`/admin/audit`: who did what, from where, and what came of it; also as a file, and cut back.

Cutting back is an action itself, so the log always says by whom and when it was shortened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from lictor.web.api.auth import TheOffice
from lictor.web.auth.audit import MAX_LINES, Audit, AuditQuery, as_csv, as_json_lines
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right

router = APIRouter(prefix="/admin/audit", tags=["audit"])

Auditor = Annotated[Person, Depends(needs(Right.AUDIT))]
Word = Annotated[str, Query(max_length=200)]
Moment = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False)]


class Line(BaseModel):
    """One action. `at` is Unix seconds; `status` is 0 for what was asked on the socket."""

    id: int
    at: float
    who: str
    role: str
    via: str
    remote: str
    action: str
    target: str
    outcome: Literal["ok", "denied", "refused", "failed"]
    status: int
    detail: str


class Lines(BaseModel):
    """Lines, the newest first; `next` is `before` of the next page, or null."""

    entries: list[Line]
    next: int | None


class Cleanup(BaseModel):
    """Delete what is older than so many days."""

    model_config = ConfigDict(extra="forbid")
    older_than_days: float = Field(ge=0, le=36_500, allow_inf_nan=False)


async def _query(
    who: Word = "",
    action: Word = "",
    target: Word = "",
    outcome: Literal["", "ok", "denied", "refused", "failed"] = "",
    search: Word = "",
    since: Moment = None,
    until: Moment = None,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = 100,
) -> AuditQuery:
    return AuditQuery(
        who=who,
        action=action,
        target=target,
        outcome=outcome,
        search=search,
        since=since,
        until=until,
        before=before,
        limit=limit,
    )


Wanted = Annotated[AuditQuery, Depends(_query)]


@router.get("")
async def audit(query: Wanted, _person: Auditor, office: TheOffice) -> Lines:
    """The newest lines that fit."""
    lines = await office.audit.lines(query)
    full = len(lines) == query.limit
    return Lines(
        entries=[Line(**line.plain()) for line in lines],
        next=lines[-1].id if full and lines else None,
    )


@router.get("/export", response_class=StreamingResponse)
async def export(
    query: Wanted,
    _person: Auditor,
    office: TheOffice,
    form: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
) -> StreamingResponse:
    """All lines that fit, as a file; the newest first."""
    kind = "text/csv" if form == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="lictor-audit.{form}"'}
    return StreamingResponse(
        _pages(office.audit, query, form), media_type=f"{kind}; charset=utf-8", headers=headers
    )


@router.post("/cleanup")
async def cleanup(body: Cleanup, _person: Auditor, office: TheOffice) -> dict[str, Any]:
    """Shorten the log; that this was done stays in it."""
    deleted = await office.audit.cleanup(body.older_than_days * 86_400)
    return {"status": "ok", "deleted": deleted}


async def _pages(audit: Audit, query: AuditQuery, form: str) -> AsyncIterator[str]:
    """Page by page: a long log never lies in memory as a whole."""
    first = True
    page = replace(query, limit=MAX_LINES)
    while True:
        lines = await audit.lines(page)
        yield as_csv(lines, heading=first) if form == "csv" else as_json_lines(lines)
        if len(lines) < MAX_LINES:
            return
        first = False
        page = replace(page, before=lines[-1].id)
