"""`/openapi.json`: every route, what it takes and gives; for those who have come in.

Made once, in a thread, when the first reader asks. There are no pages that draw it: they would load
scripts from elsewhere.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response

from lictor.web.api import shapes
from lictor.web.api.answer import encode, ready
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right

router = APIRouter(tags=["description"])


@router.get("/openapi.json")
async def description(
    request: Request, person: Annotated[Person, Depends(needs(Right.API_DESCRIPTION))]
) -> Response:
    """This document."""
    del person
    state = request.app.state
    if not hasattr(state, "description"):
        state.description = encode(await asyncio.to_thread(_document, request.app))
    return ready(state.description)


def _document(app: FastAPI) -> dict[str, Any]:
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = shapes.Problem.model_json_schema()
    return document
