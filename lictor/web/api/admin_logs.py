"""`/admin/logs`: which logs there are, a page of one, and what is written to it now."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from lictor.core.runtime.answers.log_files import MOST_LINES, LogFiles
from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.api.log_stream import log_stream
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import Door, TheDoor

router = APIRouter(prefix="/admin/logs", tags=["logs"])

_Reader = Annotated[Person, Depends(needs(Right.LOGS))]
_Logfile = Annotated[str, Path(min_length=1, max_length=300)]
_Search = Annotated[str, Query(max_length=1000)]


@router.get("", response_model=shapes.LogList, responses=shapes.problems())
async def every(person: _Reader, door: TheDoor) -> Response:
    """The logs of the services that one may look into."""
    mine = {str(key) for key in door.reached(person, Right.LOGS)}
    rows: list[dict[str, Any]] = await door.ask("log_files")
    return answer({"logs": [row for row in rows if row["service"] in mine]})


@router.get(
    "/stream/{logfile}",
    responses={
        **shapes.problems(429, 503),
        200: {"content": {"text/event-stream": {}}, "description": "An event for each line"},
    },
)
async def stream(
    logfile: _Logfile,
    request: Request,
    person: _Reader,
    door: TheDoor,
    lines: Annotated[int, Query(ge=0, le=1000)] = 0,
    search: _Search = "",
    begin: Annotated[str | None, Query(alias="from", max_length=40)] = None,
) -> Response:
    """Each new line of a log, and first the last `lines` that are there."""
    _allowed(door, person, logfile)
    return log_stream(request, person, door, logfile, lines=lines, begin=begin, search=search)


@router.get("/{logfile}", response_model=shapes.LogPage, responses=shapes.problems())
async def page(
    logfile: _Logfile,
    person: _Reader,
    door: TheDoor,
    lines: Annotated[int, Query(ge=0, le=MOST_LINES)] = 100,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    search: _Search = "",
) -> Response:
    """The last lines, or those before the last `offset`; with `search`, of those that hold it."""
    _allowed(door, person, logfile)
    args = {"name": logfile, "lines": lines, "offset": offset, "search": search}
    return answer(await door.ask("log_page", args, person.name))


def _allowed(door: Door, person: Person, logfile: str) -> None:
    """Raises `NoSuchLog`, or what the right says."""
    found = LogFiles(door.agent).named(logfile)
    person.require(Right.LOGS, door.owner(found.service))
