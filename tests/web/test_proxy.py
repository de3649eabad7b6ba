"""`supervisor_router` in an application of somebody else's, over a real agent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import RedirectResponse

from lictor.web.proxy import supervisor_router
from tests.support.agent import wait_until
from tests.support.children import free_port
from tests.support.web import Site, events


@contextmanager
def brain(base_url: str, token: str) -> Iterator[httpx.Client]:
    """An application that mounts the router, served by its own server in a thread."""
    app = FastAPI()
    app.include_router(supervisor_router(base_url, token))
    with served(app) as client:
        yield client


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    port = free_port()
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    made = site.agent.ask("tokens.create", {"name": "brain-app", "role": "admin"})
    return str(made["token"])


def test_the_application_shows_what_the_agent_says(site, token):
    with brain(site.url, token) as client:
        page = client.get("/supervisor/status").json()
        assert page["services"]["brain"]["status"] == "running"
        assert client.get("/supervisor/health/brain").json()["status"] == "healthy"
        lines = client.get("/supervisor/logs/brain?lines=1").json()["logs"]
        assert len(lines) <= 1
        answer = client.post("/supervisor/restart", json={"name": "brain"})
        assert answer.json()["status"] == "restarting"
        site.agent.wait_ready("brain")
        assert client.post("/supervisor/start", json={"name": "nobody"}).status_code == 404
        assert client.post("/supervisor/start", json={}).status_code == 422
        assert client.post("/supervisor/shutdown", json={}).status_code == 404


def test_a_log_that_is_followed_comes_through_as_it_is_written(site, token):
    with (
        brain(site.url, token) as client,
        events(client, "/supervisor/logs/tts?follow=true&lines=0") as stream,
    ):
        assert next(stream).kind == "empty"
        with (site.agent.data_dir / "logs" / "tts.log").open("a") as file:
            file.write("through the application\n")
        assert next(stream).data["line"] == "through the application"


def test_an_answer_of_many_pieces_comes_whole(site, token):
    with (site.agent.data_dir / "logs" / "tts.log").open("a") as file:
        file.writelines(f"{number} {'x' * 1000}\n" for number in range(900))
    with brain(site.url, token) as client:
        lines = client.get("/supervisor/logs/tts?lines=900").json()["logs"]
    assert [line.split()[0] for line in lines] == [str(number) for number in range(900)]


def test_an_answer_that_is_too_large_is_not_cut(site, token, monkeypatch):
    monkeypatch.setattr("lictor.web.proxy._MOST_ANSWER", 100)
    with brain(site.url, token) as client:
        answer = client.get("/supervisor/status")
    assert (answer.status_code, answer.json()["code"]) == (502, "agent.too_much")


def test_with_the_agent_away_the_answer_is_503_and_says_why():
    with brain(f"http://127.0.0.1:{free_port()}", "token") as client:
        answer = client.get("/supervisor/status")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "agent.unreachable"
    assert "does not answer" in answer.json()["detail"]


def test_a_wrong_token_of_the_application_is_not_its_users_fault(site):
    with brain(site.url, "wrong") as client:
        answer = client.get("/supervisor/status")
    assert answer.status_code == 503
    assert answer.json()["code"] == "agent.token"


def test_the_token_goes_to_the_agents_address_and_nowhere_else(site, token, monkeypatch):
    other, asked = FastAPI(), list[str]()

    @other.get("/{path:path}")
    async def lead_on(path: str) -> RedirectResponse:
        asked.append(path)
        return RedirectResponse("/elsewhere")

    with served(other) as stranger, brain(str(stranger.base_url), token) as client:
        answer = client.get("/supervisor/status")
    assert (answer.status_code, answer.json()["code"]) == (502, "agent.redirected")
    assert asked == ["supervisor/status"]
    with brain(site.url, token) as client:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
        assert client.get("/supervisor/status").status_code == 200


def test_no_credential_and_no_path_of_the_caller_reaches_the_agent(site, token):
    with brain(site.url, token) as client:
        for path in ("/supervisor/logs/..%2fadmin", "/supervisor/health/%2e%2e", "/supervisor//x"):
            assert client.get(path).status_code in {404, 405}
        signed = client.get("/supervisor/status", headers={"Authorization": "Bearer stolen"})
        assert signed.status_code == 200
        assert "set-cookie" not in signed.headers


@pytest.mark.parametrize("address", ["127.0.0.1:7031", "ftp://x", "http://", "http://a/?b=c"])
def test_an_address_that_is_none_is_refused_when_the_application_starts(address):
    with pytest.raises(ValueError, match="no address of an agent"):
        supervisor_router(address, "token")


def test_the_router_is_described_in_the_applications_own_document():
    app = FastAPI()
    app.include_router(supervisor_router("http://127.0.0.1:1", "token"))
    paths = json.loads(json.dumps(app.openapi()))["paths"]
    assert "/supervisor/status" in paths
    assert "/supervisor/{action}" in paths
