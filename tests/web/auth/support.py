"""People of one agent in a folder of their own, and a small application behind the real guard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request

from lictor.core.config.settings import WebSettings
from lictor.web import problems
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.office import Office, Surroundings
from lictor.web.auth.rights import Right, Role
from lictor.web.guarded import furnish, guarded

AGENT_ID = "0123abcd-0000-4000-8000-000000000000"
HOST = "127.0.0.1:7031"
PASSWORD = "correct horse battery"


class Clock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def opened(folder: Path, **around: Any) -> AsyncIterator[Office]:
    """An office, closed after."""
    folder.mkdir(exist_ok=True, parents=True)
    office = await Office.open(Surroundings(data_dir=folder, agent_id=AGENT_ID, **around))
    try:
        yield office
    finally:
        office.close()


def small_app() -> FastAPI:
    """One route of each kind: they do nothing, the guard does."""
    app = FastAPI()
    problems.install(app)

    @app.get("/open")
    async def free(request: Request) -> dict[str, Any]:
        return {"scheme": request.scope["scheme"], "remote": request.state.remote}

    @app.get("/logs")
    async def logs(person: Annotated[Person, Depends(needs(Right.LOGS))]) -> dict[str, str]:
        return {"name": person.name, "via": person.via, "remote": person.remote}

    @app.post("/change")
    async def change(
        body: dict[str, Any],
        person: Annotated[Person, Depends(needs(Right.SERVICES_CHANGE))],
    ) -> dict[str, Any]:
        return {"name": person.name, "body": body}

    @app.get("/fault")
    async def fault() -> None:
        raise RuntimeError("no matter")

    return app


def client(
    office: Office,
    *,
    web: WebSettings | None = None,
    peer: str = "127.0.0.1",
    hosts: tuple[str, ...] = (),
    base: str = f"http://{HOST}",
) -> httpx.AsyncClient:
    """Speaks to the small application through the whole guard, from `peer`."""
    app = small_app()
    furnish(app, office)
    around = guarded(app, office, web or WebSettings(), hosts)
    transport = httpx.ASGITransport(app=around, client=(peer, 40000), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base)


async def somebody(office: Office, name: str, role: Role) -> str:
    """A user with the usual password, and an API token of theirs."""
    await office.people.create(name, role, PASSWORD)
    return (await office.tokens.create(f"{name}-t", user=name, role=None))[1]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
