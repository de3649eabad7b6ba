"""The HTTP side of a running agent, asked as any client would ask: over the network, signed in.

`Site` waits until the agent serves HTTP and signs its first admin in; `as_` makes somebody else.
Events are read with `events`, by a parser of our own that follows the rules of the WHATWG's page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx

from tests.support.agent import PATIENCE, RunningAgent, wait_until


@dataclass(frozen=True)
class Event:
    """One server-sent event, as a browser would see it."""

    kind: str
    data: Any
    id: str | None


class Site:
    """One agent's HTTP side. Close it, or use it as a context manager."""

    def __init__(self, agent: RunningAgent) -> None:
        self.agent = agent
        self.url: str = wait_until(lambda: agent.ask("overview")["web"], what="the web's address")
        wait_until(self._answers, what="the web answers")
        secret = agent.data_dir / "admin-password"
        wait_until(secret.exists, what="the first admin's password")
        self._open: list[httpx.Client] = []
        self.admin = self.sign_in("admin", secret.read_text().strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._open:
            client.close()

    def anybody(self) -> httpx.Client:
        """A client without any credential."""
        client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self._open.append(client)
        return client

    def sign_in(self, name: str, password: str) -> httpx.Client:
        """A client of that person, with a bearer token."""
        client = self.anybody()
        answer = client.post("/admin/auth/login", json={"username": name, "password": password})
        assert answer.status_code == 200, answer.text
        client.cookies.clear()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client

    def as_(self, name: str, role: str) -> httpx.Client:
        """A client of a new person with a role."""
        password = f"a long password of {name}"
        self.agent.ask("users.create", {"name": name, "role": role, "password": password})
        return self.sign_in(name, password)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def events(client: httpx.Client, path: str, **headers: str) -> Iterator[Iterator[Event]]:
    """Open a stream; the events come as they are sent."""
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parse(answer)


def parse(answer: httpx.Response) -> Iterator[Event]:
    """Lines end with LF, CR or CRLF; a blank line ends an event (WHATWG HTML, 9.2.6)."""
    kind, data, mark = "message", [], None
    text = ""
    for chunk in answer.iter_text():
        text += chunk
        *lines, text = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            if not line:
                if data:
                    yield Event(kind, json.loads("\n".join(data)), mark)
                kind, data = "message", []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                mark = value
