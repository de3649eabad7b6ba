"""`/registry`: the cluster as Consul sees it, and what its DNS answers.

These routes ask Consul when they are asked, and say so when it is away; nothing else of the API
depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right, Scope
from lictor.web.door import TheDoor

router = APIRouter(prefix="/registry", tags=["registry"])

_Reader = Annotated[Person, Depends(needs(Right.REGISTRY))]
_Name = Annotated[str, Path(min_length=1, max_length=200)]
_Tag = Annotated[str | None, Query(max_length=200)]
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
    """Every node that has a service."""
    return answer({"nodes": await door.ask("registry_nodes", {}, person.name)})


@router.get("/resolve/{name}", responses=_CONSUL)
async def resolve(name: _Name, person: _Reader, door: TheDoor, tag: _Tag = None) -> Response:
    """What DNS answers for a service, who is left out, and why."""
    found = await door.ask("resolve", {"name": name, "tag": tag}, person.name)
    if person.scope(Right.REGISTRY) is not Scope.ALL:
        found["left_out"] = [{**one, "reason": None} for one in found["left_out"]]
    return answer(found)


@router.get("/explain/{name}", responses=shapes.problems(501, 502, 503, 504))
async def explain(
    name: _Name, person: Annotated[Person, Depends(needs(Right.HEALTH))], door: TheDoor
) -> Response:
    """Desired, process, agent, catalog, check and DNS side by side, and the first gap."""
    door.require(person, Right.HEALTH, [name])
    (found,) = await door.ask("explain", {"names": [name]}, person.name)
    return answer(found)
