"""`/admin/monitor`: what the host does, at once or every two seconds.

The figures are measured when somebody asks and by nobody otherwise. A reader with the summary only
gets totals: no processes, disks, networks or containers, which name what others run here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.api.gpu import nameless
from lictor.web.api.streams import EventStream
from lictor.web.api.watch import Watch
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin/monitor", tags=["monitor"])

_STREAM: dict[int | str, dict[str, Any]] = {
    **shapes.problems(429, 503),
    200: {"content": {"text/event-stream": {}}, "description": "Events"},
}
_PRIVATE = ("disks", "network", "docker", "processes")


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """Totals only."""
    unknown = {
        name: why for name, why in found["unknown"].items() if name.split(".")[0] not in _PRIVATE
    }
    cards = nameless(found["gpu"])
    return {**found, **dict.fromkeys(_PRIVATE), "gpu": cards, "unknown": unknown}


@router.get("", response_model=shapes.Monitor, responses=shapes.problems())
async def monitor(
    person: Annotated[Person, Depends(needs(Right.MONITOR_SUMMARY))], door: TheDoor
) -> Response:
    """GPU, CPU, memory, disks, network, Docker and the ten busiest processes."""
    found = await door.ask("monitor")
    return answer(found if person.may(Right.MONITOR) else summary(found))


@router.get("/stream", responses=_STREAM)
async def stream(
    request: Request, person: Annotated[Person, Depends(needs(Right.MONITOR))]
) -> Response:
    """The same every two seconds."""
    watch: Watch = request.app.state.watch
    return EventStream(request, person, lambda box: watch.monitor("monitor", box))


@router.get("/gpu/stream", responses=_STREAM)
async def gpu_stream(
    request: Request, person: Annotated[Person, Depends(needs(Right.MONITOR_SUMMARY))]
) -> Response:
    """The GPUs every two seconds."""
    watch: Watch = request.app.state.watch
    return EventStream(request, person, lambda box: watch.monitor("gpu", box))
