"""Writes an audit line for every request that may change something, whatever route it took.

It stands around the application and not in the routes, so that none can forget it: the gate leaves
who asked, the router which route it was, and the answer its status. Of a body it takes only the
names that the action is about. Reading is not written down, nor is a stranger who was turned away
without a name: that would let anybody push the true lines out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lictor.web.auth.gate import Person
from lictor.web.auth.records import AuditLine

_READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SUBJECTS = ("name", "service", "services", "names", "username", "logfile")
_MOST_NAMES = 20


@dataclass(frozen=True, slots=True)
class Trail:
    """The layer: an ASGI application around `app`; `note` takes the lines."""

    app: ASGIApp
    note: Callable[[AuditLine], None]
    now: Callable[[], float] = time.time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, and write down what came of it."""
        if scope["type"] != "http" or scope["method"] in _READS:
            await self.app(scope, receive, send)
            return
        status, body = 0, b""

        async def heard(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def read() -> Message:
            nonlocal body
            message = await receive()
            if message["type"] == "http.request":
                body = body or message.get("body", b"")
            return message

        try:
            await self.app(scope, read, heard)
        finally:
            self._write(scope, status or 500, body)

    def _write(self, scope: Scope, status: int, body: bytes) -> None:
        state: Mapping[str, Any] = scope.get("state", {})
        person = state.get("person")
        tried = state.get("tried")  # the name that somebody tried to come in under
        if isinstance(person, Person):
            who, role, via = person.name, person.role.value, person.via
        elif isinstance(tried, str) and status != 429:
            who, role, via = tried, "", "password"
        else:
            return
        self.note(
            AuditLine(
                at=self.now(),
                who=who,
                role=role,
                via=via,
                remote=str(state.get("remote", "")),
                action=f"{scope['method']} {_route(scope)}",
                target=_target(scope, body),
                outcome=outcome_of(status),
                status=status,
            )
        )


def outcome_of(status: int) -> str:
    """The word for an HTTP status."""
    if status < 400:
        return "ok"
    if status in {401, 403, 404}:
        return "denied"
    return "refused" if status < 500 else "failed"


def _route(scope: Scope) -> str:
    """The route as it was declared: one action has one name, whatever it was about."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else str(scope.get("path", ""))[:200]


def _target(scope: Scope, body: bytes) -> str:
    names = [str(value) for value in scope.get("path_params", {}).values()]
    try:
        told = json.loads(body) if body else None
    except (ValueError, RecursionError):
        told = None
    if isinstance(told, dict):
        for key in _SUBJECTS:
            value = told.get(key)
            if isinstance(value, str):
                names.append(value)
            elif isinstance(value, list):
                names += [one for one in value if isinstance(one, str)]
        entries = told.get("entries")
        if isinstance(entries, list):
            ids = (one.get("id") for one in entries if isinstance(one, dict))
            names += [one for one in ids if isinstance(one, str)]
    return ", ".join(dict.fromkeys(names[:_MOST_NAMES]))
