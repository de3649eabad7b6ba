"""`/admin/services/{name}/model` and `…/models`: which model a service serves, and those in its cache.

A switch takes minutes, so the answer comes when it stands (202) and nobody waits: how far it is
stands in the service's row (`model`), which `/admin/services/stream` tells as it changes. What may be
chosen, what is refused and what is done is the agent's (`core.runtime.model_orders`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from lictor.core.model.state import Phase
from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin/services/{name}", tags=["models"])

_Chooser = Annotated[Person, Depends(needs(Right.PARAMS))]
_Name = Annotated[str, Path(min_length=1, max_length=200)]
_Id = Annotated[str, Query(min_length=1, max_length=300)]
_ORDER = shapes.problems(409, 429, 502, 503, 504)
_BEGUN: dict[int | str, dict[str, Any]] = {
    **_ORDER,
    202: {"model": shapes.Switched, "description": "It is being switched"},
}


@router.post("/model", response_model=shapes.Switched, responses=_BEGUN)
async def switch(name: _Name, body: shapes.Model, person: _Chooser, door: TheDoor) -> Response:
    """Let a service serve another model; it goes back by itself if that one does not get ready."""
    door.require(person, Right.PARAMS, [name])
    args: dict[str, Any] = {"name": name, "model": body.model, "yes": body.force}
    if body.trust_remote_code is not None:
        args["trust_remote_code"] = body.trust_remote_code
    done = await door.order("model", args, person)
    status, message = _told(done)
    begun = done["switch"] is not None and done["switch"]["open"]
    page = {**done, "status": status, "service": name, "message": message}
    return answer(page, 202 if begun else 200)


def _told(done: dict[str, Any]) -> tuple[str, str]:
    """The older API's word for what is so now, and its sentence."""
    name, model, word = done["service"], done["model"], Phase(done["phase"]).seed_word
    if done["result"] == "already":
        return word, f"Service {name} is to serve {model} already"
    if done["result"] == "set":
        return word, f"Service {name} switches to {model} when it is started"
    if done["result"] in {"requested", "pending"}:
        return "restarting", f"Service {name} switches to {model}"
    return word, str(done["sentence"])


@router.get("/model/plan", response_model=shapes.ModelPlan, responses=_ORDER)
async def plan(name: _Name, model: _Id, person: _Chooser, door: TheDoor) -> Response:
    """What a switch to a model would lead to; a model that may not be is refused as there."""
    door.require(person, Right.PARAMS, [name])
    return answer(await door.ask("model.plan", {"name": name, "model": model}, person.name))


@router.get("/models", response_model=shapes.Models, responses=_ORDER)
async def models(name: _Name, person: _Chooser, door: TheDoor) -> Response:
    """The model of a service, the switch under way, and the models in its cache."""
    door.require(person, Right.PARAMS, [name])
    return answer(await door.ask("models", {"name": name}, person.name))


@router.delete("/models/{model:path}", response_model=shapes.ModelRemoved, responses=_ORDER)
async def remove(
    name: _Name,
    model: Annotated[str, Path(min_length=1, max_length=300)],
    person: _Chooser,
    door: TheDoor,
) -> Response:
    """Remove a model from the cache; one that a service of this host needs is refused."""
    door.require(person, Right.PARAMS, [name])
    return answer(await door.order("model.delete", {"name": name, "model": model}, person))
