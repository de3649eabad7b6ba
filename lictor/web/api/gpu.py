"""`/admin/gpu`: the cards, who holds them, and what a start of each service would lead to.

Whose processes hold a card, by pid and program, is for those who may see the processes of the host;
others see the services and how much the rest holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import answer
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(prefix="/admin", tags=["monitor"])


@router.get("/gpu", response_model=shapes.Gpus, responses=shapes.problems())
async def gpus(person: Annotated[Person, Depends(needs(Right.MONITOR))], door: TheDoor) -> Response:
    """Every GPU with its owners, and who would have to leave for whom."""
    del person
    return answer(await door.ask("gpu"))


def nameless(cards: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """The cards without who the strangers on them are."""
    if cards is None:
        return None
    return [
        {**card, "owners": [{**owner, "pid": None, "name": None} for owner in card["owners"]]}
        for card in cards
    ]
