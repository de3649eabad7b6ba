"""`/admin/events`: the journal, a page at a time and as it is written.

A reader who may see only some services hears of these only; one who may see states only hears of
phases, without the sentence. Ids are those of the journal, so a stream that was cut goes on where
it was, even if the agent was started anew in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from lictor.core.errors import NoSuchService
from lictor.core.runtime.storage.journal import MAX_LINES
from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.api.streams import EventStream, Mailbox, event
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right, Scope
from lictor.web.door import Door, TheDoor

router = APIRouter(prefix="/admin/events", tags=["events"])

_Reader = Annotated[Person, Depends(needs(Right.EVENTS))]
_Names = Annotated[list[str] | None, Query(alias="service", max_length=50)]
_Kinds = Annotated[list[str] | None, Query(alias="kind", max_length=20)]
_PAGES = 20  # that are looked through for lines that a reader may see
_BIGGEST = 2**53 - 1


def shown_to(door: Door, person: Person, line: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line as that person may see it; None: not at all."""
    scope = person.scope(Right.EVENTS)
    if scope is Scope.ALL:
        return dict(line)
    name = line.get("service")
    if not name:
        return None
    if scope is Scope.NAMES:
        if line["kind"] != "phase":
            return None
        hidden: dict[str, Any] = {
            "sentence": None,
            "reason": None,
            "reason_params": {},
            "who": None,
        }
        return {**line, **hidden}
    try:
        mine = all(person.reaches(Right.EVENTS, door.owner(key)) for key in door.keys([name]))
    except NoSuchService:  # no longer in the config
        mine = False
    return dict(line) if mine else None


@router.get("", response_model=shapes.Events, responses=shapes.problems())
async def page(
    person: _Reader,
    door: TheDoor,
    service: _Names = None,
    kind: _Kinds = None,
    lines: Annotated[int, Query(ge=1, le=MAX_LINES)] = 50,
    before: Annotated[int | None, Query(ge=1, le=_BIGGEST)] = None,
) -> Response:
    """The newest events, or those before one, oldest first."""
    found: list[dict[str, Any]] = []
    place = before
    for _ in range(_PAGES):
        args = {"names": service or [], "kinds": kind or [], "lines": lines, "before": place}
        items, told = await door.listing("events", args, person.name)
        seen = [row for row in (shown_to(door, person, item) for item in items) if row is not None]
        found = seen + found
        place = told["next"]
        if place is None or len(found) >= lines:
            break
    if len(found) > lines:  # the next page begins where this one ends
        found = found[-lines:]
        place = found[0]["id"]
    return answer({"events": found, "more": place is not None, "next": place})


@router.get(
    "/stream",
    responses={
        **shapes.problems(429, 503),
        200: {"content": {"text/event-stream": {}}, "description": "An event for each line"},
    },
)
async def stream(
    request: Request,
    person: _Reader,
    door: TheDoor,
    service: _Names = None,
    kind: _Kinds = None,
) -> Response:
    """Each new event; after `Last-Event-ID`, what came since."""
    after = _number(request.headers.get("last-event-id"))
    args: dict[str, Any] = {"names": service or [], "kinds": kind or [], "follow": True}
    args |= {"lines": 0} if after is None else {"lines": MAX_LINES, "after": after}

    async def feed(box: Mailbox) -> None:
        async def emit(line: dict[str, Any]) -> None:
            row = shown_to(door, person, line)
            if row is not None:
                box.put(event("event", row, str(row["id"])))
                await asyncio.sleep(0)

        await door.operations.handle("events", args, person.name, emit)

    return EventStream(request, person, feed)


def _number(text: str | None) -> int | None:
    known = text is not None and text.isascii() and text.isdecimal() and len(text) < 16
    return int(text) if known and text is not None else None
