"""`/admin/services/{name}/hold` and `…/params`: what people lay over the config of one service.

The same operations as `lictor hold`, `release`, `set` and `unset`; a value that does not fit is
refused there, with what would fit, and nothing is changed.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin", tags=["services"])

_Holder = Annotated[Person, Depends(needs(Right.HOLDS))]
_Setter = Annotated[Person, Depends(needs(Right.PARAMS))]
_Name = Annotated[str, Path(min_length=1, max_length=200)]
_ORDER = shapes.problems(409, 429, 502, 503, 504)


@router.get("/services/{name}/hold", response_model=shapes.Holding, responses=shapes.problems())
async def holding(name: _Name, person: _Holder, door: TheDoor) -> Response:
    """Whether somebody holds the service, who, why, and until when."""
    return answer(await door.ask("holding", {"name": name}, person.name))


@router.post("/services/{name}/hold", response_model=shapes.Done, responses=_ORDER)
async def hold(name: _Name, body: shapes.Hold, person: _Holder, door: TheDoor) -> Response:
    """Hold a service running, stopped or in maintenance, against everybody but operators."""
    args = {"names": [name], **body.model_dump(exclude={"force"}), "yes": body.force}
    return answer(_one(name, await door.order("hold", args, person)))


@router.post("/services/{name}/release", response_model=shapes.Done, responses=_ORDER)
async def release(
    name: _Name, person: _Holder, door: TheDoor, body: shapes.Release | None = None
) -> Response:
    """End a hold: the service goes back to what documents and config say."""
    reason = body.reason if body is not None else ""
    rows = await door.order("release", {"names": [name], "reason": reason}, person)
    return answer(_one(name, rows))


@router.get("/services/{name}/params", response_model=shapes.Params, responses=shapes.problems())
async def params(name: _Name, person: _Setter, door: TheDoor) -> Response:
    """The parameters of a service: what may be set, what is in force, and who set it."""
    keys = door.require(person, Right.PARAMS, [name])
    return answer(await door.ask("params", {"name": str(keys[0])}, person.name))


@router.post("/services/{name}/params", response_model=shapes.Done, responses=_ORDER)
async def set_params(
    name: _Name, body: shapes.SetParams, person: _Setter, door: TheDoor
) -> Response:
    """Set parameters within what config.yml allows, or unset some: then the config's count again."""
    door.require(person, Right.PARAMS, [name])
    if bool(body.set) == bool(body.unset):
        raise worded(UsageError, because("ask.set_or_unset"))
    given: dict[str, Any] = {"name": name, "reason": body.reason}
    if body.set:
        done = await door.order("set", {**given, "params": body.set, "until": body.until}, person)
    else:
        done = await door.order("unset", {**given, "params": body.unset}, person)
    return answer(done)


def _one(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for one name; what concerned several instances is in `operations`."""
    if len(rows) == 1:
        return rows[0]
    return {**rows[0], "service": name, "operations": rows}
