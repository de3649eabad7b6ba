"""`/registry`: the cluster as Consul sees it, and what its DNS answers.

These routes ask Consul when they are asked, and say so when it is away; nothing else of the API
depends on them. One of them writes: it takes out what was left over, entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right, Scope
from lictor.web.door import TheDoor

router = APIRouter(prefix="/registry", tags=["registry"])

_Reader = Annotated[Person, Depends(needs(Right.REGISTRY))]
_Changer = Annotated[Person, Depends(needs(Right.REGISTRY_CHANGE))]
_Name = Annotated[str, Path(min_length=1, max_length=200)]
_Tag = Annotated[str | None, Query(max_length=200)]
_Kind = Annotated[Literal["service", "query"], Query()]
_CONSUL = shapes.problems(502, 503, 504)


@router.get("/services", response_model=shapes.Services, responses=_CONSUL)
async def services(person: _Reader, door: TheDoor, tag: _Tag = None) -> Response:
    """Every service that Consul knows, with the health of its instances."""
    return answer({"services": await door.ask("registry_services", {"tag": tag}, person.name)})


@router.get("/services/{name}", response_model=shapes.Instances, responses=_CONSUL)
async def service(name: _Name, person: _Reader, door: TheDoor, tag: _Tag = None) -> Response:
    """Every instance of one service, and why one is not passing."""
    found = await door.ask("registry_service", {"name": name, "tag": tag}, person.name)
    if person.scope(Right.REGISTRY) is not Scope.ALL:
        found["instances"] = [_named(one) for one in found["instances"]]
    return answer(found)


def _named(one: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a check said and what a service tells about itself."""
    return {**one, "output": None, "meta": {}}


@router.get("/nodes", response_model=shapes.Nodes, responses=_CONSUL)
async def nodes(person: _Reader, door: TheDoor) -> Response:
    """Every node that has a service or an agent, and how its agents are."""
    return answer({"nodes": await door.ask("registry_nodes", {}, person.name)})


@router.get("/groups", response_model=shapes.Groups, responses=_CONSUL)
async def groups(person: _Reader, door: TheDoor) -> Response:
    """Every group of this node: who answers for it, who stands by and why, and its DNS names."""
    return answer({"groups": await door.ask("registry_groups", {}, person.name)})


@router.get("/resolve/{name}", responses=_CONSUL)
async def resolve(
    name: _Name, person: _Reader, door: TheDoor, tag: _Tag = None, kind: _Kind = "service"
) -> Response:
    """What DNS answers for a service (or a group's query), who is left out, and why."""
    args = {"name": name, "tag": tag, "query": kind == "query"}
    found = await door.ask("resolve", args, person.name)
    if person.scope(Right.REGISTRY) is not Scope.ALL:
        hidden: dict[str, Any] = {"reason": None, "sentence": None, "reasons": []}
        found["left_out"] = [{**one, **hidden} for one in found["left_out"]]
    return answer(found)


@router.get("/clean-up", response_model=shapes.Leftovers, responses=_CONSUL)
async def leftovers(person: _Changer, door: TheDoor) -> Response:
    """What was left over in Consul, why it counts as that, and whether it may be taken out."""
    return answer({"leftovers": await door.ask("leftovers", {}, person.name)})


@router.post("/clean-up", response_model=shapes.CleanedUp, responses=_CONSUL)
async def clean_up(body: shapes.CleanUp, person: _Changer, door: TheDoor) -> Response:
    """Take out entries that are left over, each named as the list shows it."""
    args = {"entries": [one.model_dump() for one in body.entries]}
    return answer({"entries": await door.order("clean_up", args, person)})


@router.get("/explain/{name}", responses=shapes.problems(501, 502, 503, 504))
async def explain(
    name: _Name, person: Annotated[Person, Depends(needs(Right.HEALTH))], door: TheDoor
) -> Response:
    """Desired, process, agent, catalog, check and DNS side by side, and the first gap."""
    door.require(person, Right.HEALTH, [name])
    (found,) = await door.ask("explain", {"names": [name]}, person.name)
    return answer(found)
