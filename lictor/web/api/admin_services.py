"""`/admin/services`: the cards of the dashboard, their buttons, and their changes as events."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request
from starlette.responses import Response

from lictor.core.runtime.answers.services_view import moment
from lictor.web.api import orders, shapes
from lictor.web.api.answer import answer
from lictor.web.api.status import StatusPages, reader_of
from lictor.web.api.streams import EventStream
from lictor.web.api.watch import Watch
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right, Scope
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin", tags=["services"])

_Reader = Annotated[Person, Depends(needs(Right.SERVICES_LIST))]
_Changer = Annotated[Person, Depends(needs(Right.SERVICES_CHANGE))]
_Everyone = Annotated[Person, Depends(needs(Right.SERVICES_CHANGE_ALL))]
_More = Annotated[shapes.OrderMore | None, Body()]
_Name = Annotated[str, Path(min_length=1, max_length=200)]
_ORDER = shapes.problems(409, 429, 502, 503, 504)
_STREAM: dict[int | str, dict[str, Any]] = {
    **shapes.problems(429, 503),
    200: {"content": {"text/event-stream": {}}, "description": "Events"},
}


@router.get("/services/status", response_model=shapes.Status, responses=shapes.problems())
async def status(request: Request, person: _Reader, door: TheDoor) -> Response:
    """All services, how Consul is, and what needs attention."""
    pages: StatusPages = request.app.state.pages
    page = await pages.rows(reader_of(person))
    page["timestamp"] = moment(time.time())
    if person.scope(Right.SERVICES_LIST) is Scope.ALL:
        about = await door.ask("overview")
        page |= {name: about[name] for name in ("consul", "warnings", "node", "version")}
    return answer(page)


@router.get("/services/stream", responses=_STREAM)
async def stream(request: Request, person: _Reader) -> Response:
    """All services, then each change of one."""
    watch: Watch = request.app.state.watch
    return EventStream(request, person, lambda box: watch.services(reader_of(person), box))


@router.post("/services/start-all", response_model=shapes.Operations, responses=_ORDER)
async def start_all(person: _Everyone, door: TheDoor) -> Response:
    """Start every service of this host."""
    return answer(await orders.every(door, person, "start"))


@router.post("/services/stop-all", response_model=shapes.Operations, responses=_ORDER)
async def stop_all(person: _Everyone, door: TheDoor) -> Response:
    """Stop every service of this host."""
    return answer(await orders.every(door, person, "stop"))


@router.post("/services/{name}/start", response_model=shapes.Ordered, responses=_ORDER)
async def start(name: _Name, person: _Changer, door: TheDoor, body: _More = None) -> Response:
    """Start a service."""
    return await _one("start", name, body, person, door)


@router.post("/services/{name}/stop", response_model=shapes.Ordered, responses=_ORDER)
async def stop(name: _Name, person: _Changer, door: TheDoor, body: _More = None) -> Response:
    """Stop a service."""
    return await _one("stop", name, body, person, door)


@router.post("/services/{name}/restart", response_model=shapes.Ordered, responses=_ORDER)
async def restart(name: _Name, person: _Changer, door: TheDoor, body: _More = None) -> Response:
    """Restart a service."""
    return await _one("restart", name, body, person, door)


async def _one(
    verb: str,
    name: str,
    body: shapes.OrderMore | None,
    person: Person,
    door: TheDoor,
) -> Response:
    given = body or shapes.OrderMore()
    options = {"config": given.config, "reason": given.reason, "force": given.force}
    return answer(await orders.one(door, person, verb, name, **options))


@router.get("/services/{name}", response_model=shapes.Row, responses=shapes.problems())
async def details(
    name: _Name,
    person: Annotated[Person, Depends(needs(Right.HEALTH))],
    door: TheDoor,
) -> Response:
    """Everything about one service but the values of its environment."""
    keys = door.require(person, Right.HEALTH, [name])
    page = await door.ask("services", {"names": [str(keys[0])]})
    more = await door.ask("status", {"names": [str(keys[0])], "verbose": True})
    row = page["services"][str(keys[0])]
    return answer({**more[0], **row, "hidden": False})


@router.get("/plan", response_model=shapes.Plan, responses=shapes.problems())
async def plan(
    person: Annotated[Person, Depends(needs(Right.SERVICES_CHANGE_ALL))], door: TheDoor
) -> Response:
    """What the agent would do now, and why."""
    return answer({"actions": await door.ask("plan", {}, person.name)})
