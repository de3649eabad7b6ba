"""The FastAPI application: `/health` for whoever asks whether Lictor lives, and one word per service.

`/health` says only ok: it is what Consul's check of Lictor itself asks. `/health/services/{name}`
answers 200 with the state word when the service is ready, else 503, so that other tools can check
through us what they cannot reach themselves. Neither tells anything else, so both are open.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from lictor import __version__
from lictor.core.model.names import ServiceKey
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.operations import Operations
from lictor.web import api, pages
from lictor.web.api import shapes
from lictor.web.door import Door


def make_app(agent: Agent, operations: Operations) -> FastAPI:
    """The application over one agent; `guarded` puts people and borders around it."""
    app = FastAPI(
        title="Lictor",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        responses=shapes.problems(),
    )
    word = {"description": "The state word", "content": {"application/json": {}}}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/services/{name}", responses={404: word, 503: word})
    async def service_health(name: str) -> JSONResponse:
        phase = _phase_of(agent, name)
        if phase is None:
            return JSONResponse({"status": "unknown"}, status_code=404)
        return JSONResponse({"status": phase}, status_code=200 if phase == "ready" else 503)

    api.include(app, Door(agent, operations))
    app.include_router(pages.make_router())
    return app


def _phase_of(agent: Agent, name: str) -> str | None:
    try:
        key = ServiceKey.parse(name)
    except ValueError:
        return None
    runner = agent.reconciler.runners.get(key)
    return runner.state.phase.value if runner is not None else None
