"""`/supervisor`: the users' older supervisor API, field by field.

Programs were written against it, so its paths, names and types stay; `tests/web/examples` holds its
own examples. What is new stands behind the old fields. All work is done by operations.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from lictor.web.api import orders, shapes
from lictor.web.api.answer import answer, ready
from lictor.web.api.log_stream import log_stream
from lictor.web.api.status import StatusPages
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/supervisor", tags=["supervisor"])

_Changer = Annotated[Person, Depends(needs(Right.SERVICES_CHANGE))]
_ORDER = shapes.problems(409, 429, 502, 503, 504)


@router.get("/status", response_model=shapes.Status, responses=shapes.problems())
async def status(
    request: Request, person: Annotated[Person, Depends(needs(Right.SERVICES_LIST))]
) -> Response:
    """The status of all services."""
    pages: StatusPages = request.app.state.pages
    return ready(await pages.bytes_for(person))


@router.post("/start", response_model=shapes.Ordered, responses=_ORDER)
async def start(body: shapes.Order, person: _Changer, door: TheDoor) -> Response:
    """Start a service."""
    return await _one("start", body, person, door)


@router.post("/stop", response_model=shapes.Ordered, responses=_ORDER)
async def stop(body: shapes.Order, person: _Changer, door: TheDoor) -> Response:
    """Stop a service."""
    return await _one("stop", body, person, door)


@router.post("/restart", response_model=shapes.Ordered, responses=_ORDER)
async def restart(body: shapes.Order, person: _Changer, door: TheDoor) -> Response:
    """Restart a service."""
    return await _one("restart", body, person, door)


async def _one(verb: str, body: shapes.Order, person: Person, door: TheDoor) -> Response:
    options = {"config": body.config, "reason": body.reason, "force": body.force}
    return answer(await orders.one(door, person, verb, body.name, **options))


@router.post("/reload", response_model=shapes.Reloaded, responses=_ORDER)
async def reload(body: shapes.Reload, person: _Changer, door: TheDoor) -> Response:
    """Read config.yml again (`config`), or start a service anew (`code`)."""
    if body.type == "code":
        if body.name is None:
            return answer(await orders.every(door, _all(person), "restart"))
        given = await orders.one(door, person, "restart", body.name)
        message = f"Service {body.name} is started anew with its code of today"
        return answer({**given, "status": "reloading", "message": message})
    person.require(Right.RELOAD)
    if body.name is not None:
        door.keys([body.name])
    changes: dict[str, Any] = await door.order("reload", {}, person)
    subject = f"Service {body.name} configuration" if body.name else "The configuration"
    message = f"{subject} is being reloaded"
    return answer({"status": "reloading", "service": body.name, "message": message, **changes})


def _all(person: Person) -> Person:
    person.require(Right.SERVICES_CHANGE_ALL)
    return person


@router.get(
    "/logs/{service}",
    response_model=shapes.Logs,
    responses={
        **shapes.problems(429, 503),
        200: {"content": {"text/event-stream": {}}, "description": "The lines; an event each"},
    },
)
async def logs(
    service: str,
    request: Request,
    person: Annotated[Person, Depends(needs(Right.LOGS))],
    door: TheDoor,
    lines: Annotated[int, Query(ge=0, le=10_000)] = 100,
    follow: bool = False,  # noqa: FBT001, FBT002 - a parameter of the query
) -> Response:
    """The last lines of a service's log; `follow`: then each new line, as an event."""
    keys = door.require(person, Right.LOGS, [service])
    if follow:
        return log_stream(request, person, door, str(keys[0]), lines=lines)
    pages = [await door.ask("log_page", {"name": str(key), "lines": lines}) for key in keys]
    return answer(
        {
            "service": service,
            "logs": [line for page in pages for line in page["lines"]],
            "total_lines": sum(page["total_lines"] for page in pages),
            "empty": pages[0]["empty"],
        }
    )


@router.get("/health/{service}", response_model=shapes.Health, responses=shapes.problems(409, 503))
async def health(
    service: str, person: Annotated[Person, Depends(needs(Right.HEALTH))], door: TheDoor
) -> Response:
    """Run the checks of a service now; `response_time` is the slowest one's, in milliseconds."""
    door.require(person, Right.HEALTH, [service])
    rows = await door.ask("health", {"names": [service]}, person.name)
    several = len({row["service"] for row in rows}) > 1
    checks, details = {}, {}
    for row in rows:
        name = _check_name(row)
        name = f"{row['service']}/{name}" if several else name
        passing = row["status"] == "passing"
        checks[name] = "ok" if passing else "failed"
        details[name] = {key: row[key] for key in ("status", "output", "took_ms", "kind")}
    failed = any(word != "ok" for word in checks.values())
    asked = [row["took_ms"] for row in rows if row["kind"] != "process"]
    return answer(
        {
            "service": service,
            "status": ("unhealthy" if failed else "healthy") if checks else "unknown",
            "checks": checks,
            "response_time": round(max(asked)) if asked else None,
            "details": details,
        }
    )


def _check_name(row: dict[str, Any]) -> str:
    """The older API calls a service's own check by what it asks."""
    words = {"http": "http_endpoint", "tcp": "tcp_endpoint"}
    return words.get(row["kind"], row["check"]) if row["check"] == "health" else str(row["check"])


@router.post("/bulk", response_model=shapes.Operations, responses=_ORDER)
async def bulk(body: shapes.Bulk, person: _Changer, door: TheDoor) -> Response:
    """One action on several services; a name that is unknown refuses all of it."""
    names = list(dict.fromkeys(body.services))
    if not body.parallel:
        given = orders.one_by_one(door, person, body.action, names, force=body.force)
        return answer(given)
    rows = await orders.change(door, person, body.action, names, force=body.force)
    return answer({"status": "processing", "operations": rows})
