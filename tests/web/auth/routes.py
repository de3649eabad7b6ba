"""Every route of the whole application, and the right that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

from fastapi import FastAPI

from lictor.web import app as app_module
from lictor.web.auth.gate import Needs
from lictor.web.auth.rights import Right
from lictor.web.guarded import furnish


def routes(router: Any) -> Iterator[Any]:
    """Every route, of included routers too (newer FastAPI keeps those as they are)."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes(inner)
        else:
            yield route


def asked_for(dependant: Any) -> list[Right]:
    own = [dependant.call.right] if isinstance(dependant.call, Needs) else []
    return own + [right for inner in dependant.dependencies for right in asked_for(inner)]


def names_of(route: Any) -> list[str]:
    if not getattr(route, "methods", None):  # a folder of files
        return [f"GET {route.path.rstrip('/')}/*"]
    return [f"{method} {route.path}" for method in sorted(route.methods - {"HEAD"})]


def whole_app() -> FastAPI:
    app = app_module.make_app(MagicMock(), MagicMock())
    furnish(app, MagicMock())
    return app


def rights_of_routes() -> dict[str, Right]:
    """The right of each route that asks for one, by `METHOD /path` as the OpenAPI document has it."""
    return {
        name.replace(":path}", "}"): asked_for(route.dependant)[0]
        for route in routes(whole_app())
        if getattr(route, "dependant", None) is not None and asked_for(route.dependant)
        for name in names_of(route)
    }
