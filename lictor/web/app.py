"""The FastAPI application: `/health` for whoever asks whether Lictor lives, and one word per service.

`/health` says only ok: it is what Consul's check of Lictor itself asks. `/health/services/{name}`
answers 200 with the state word when the service is ready, else 503, so that other tools can check
through us what they cannot reach themselves. Neither tells anything else, so both are open.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from lictor import __version__

#: The phase of a service by the name that was asked for, or None if there is none.
PhaseOf = Callable[[str], str | None]


def make_app(phase_of: PhaseOf) -> FastAPI:
    """The application over one agent."""
    app = FastAPI(
        title="Lictor", version=__version__, docs_url=None, redoc_url=None, openapi_url=None
    )

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/services/{name}")
    async def service_health(name: str) -> JSONResponse:
        phase = phase_of(name)
        if phase is None:
            return JSONResponse({"status": "unknown"}, status_code=404)
        return JSONResponse({"status": phase}, status_code=200 if phase == "ready" else 503)

    return app
