"""Puts the guard around an application: people, the audit trail, and the borders.

Here the order is decided: borders outermost, so that nothing of ours sees a request that is not
meant for us; then the trail, which writes down what came of it; then the routes with their gates.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from fastapi import FastAPI
from starlette.types import ASGIApp

from lictor.core.config.settings import WebSettings
from lictor.web.api import audit, auth, people
from lictor.web.auth import gate
from lictor.web.auth.office import Office
from lictor.web.borders import Borders
from lictor.web.origins import Origins
from lictor.web.trail import Trail


def furnish(app: FastAPI, office: Office) -> None:
    """The routes of people, and the doorkeeper that every other route's gate asks."""
    app.state.office = office
    gate.install(app, office.keeper)
    for module in (auth, people, audit):
        app.include_router(module.router)


def guarded(app: FastAPI, office: Office, web: WebSettings, hosts: Iterable[str] = ()) -> ASGIApp:
    """The application as it may be offered to the network. `hosts` are further names of ours."""
    origins = Origins(
        hosts=[*_own_names(web.host), *web.allowed_hosts, *hosts],
        cors=web.cors_origins,
        behind_proxy=web.behind_proxy,
        secure=web.tls is not None,
    )
    return Borders(Trail(app, office.audit.note), origins, base_path=web.base_path)


def _own_names(host: str) -> list[str]:
    """The address we listen on, unless it stands for all of them."""
    with suppress(ValueError):
        return [] if ip_address(host).is_unspecified else [host]
    return [host]
