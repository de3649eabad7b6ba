"""`/admin/dashboard`: what only the dashboard asks for: a look ahead, and the last quarter of an hour."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin/dashboard", tags=["dashboard"])

_Changer = Annotated[Person, Depends(needs(Right.SERVICES_CHANGE))]
_Reader = Annotated[Person, Depends(needs(Right.SERVICES_LIST))]
_Names = Annotated[list[str] | None, Query(max_length=200)]


@router.get("/preview", responses=shapes.problems())
async def preview(
    person: _Changer,
    door: TheDoor,
    verb: Literal["start", "stop", "restart"],
    service: _Names = None,
) -> Response:
    """What an order would lead to, step by step; without `service`: for all services."""
    names = service or []
    if names:
        door.require(person, Right.SERVICES_CHANGE, names)
    else:
        person.require(Right.SERVICES_CHANGE_ALL)
    found: dict[str, Any] = await door.ask("preview", {"verb": verb, "names": names}, person.name)
    return answer(found)


@router.get("/history", responses=shapes.problems())
async def history(person: _Reader, door: TheDoor) -> Response:
    """CPU and memory of the services whose details one may see, one figure each 15 seconds."""
    mine = {str(key) for key in door.reached(person, Right.SERVICES_LIST)}
    found = await door.ask("history", {}, person.name)
    shown = {name: rows for name, rows in found["services"].items() if name in mine}
    return answer({**found, "services": shown})
