"""The HTTP API: one small module of routes for each prefix, all over the same operations."""

from __future__ import annotations

from fastapi import FastAPI

from lictor.web import problems
from lictor.web.api import (
    admin_logs,
    admin_models,
    admin_services,
    dashboard,
    description,
    events,
    gpu,
    metrics,
    monitor,
    overrides,
    registry,
    supervisor,
)
from lictor.web.api.status import StatusPages
from lictor.web.api.streams import Streams
from lictor.web.api.watch import Watch
from lictor.web.door import Door


def include(app: FastAPI, door: Door) -> None:
    """Put every route of the API into the application, and what they share into its state."""
    app.state.door = door
    app.state.pages = StatusPages(door)
    app.state.streams = Streams()
    app.state.watch = Watch(door, app.state.pages)
    problems.install(app)
    for module in (
        supervisor,
        admin_services,
        overrides,
        admin_models,
        dashboard,
        description,
        admin_logs,
        events,
        monitor,
        gpu,
        registry,
        metrics,
    ):
        app.include_router(module.router)


def close(app: FastAPI) -> None:
    """End every stream now: nobody waits for a page that will get no more events."""
    app.state.streams.close()
    app.state.watch.close()
