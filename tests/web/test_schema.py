"""Invented requests against every route of the OpenAPI document, as everybody: never a fault.

Requests are sent by a client over the network to a real agent. Streams never end, so they are left
out here (`test_streams` has them), and so is what would end the agent's people or sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.web import Site

ROLES = ("admin", "user", "web", "guest", "nobody")
#: Routes that would sign the test's own people out, or make people by the hundred.
_SPARED = ("/admin/auth", "/admin/users", "/admin/tokens", "/admin/people")
_FAULTS = frozenset({500})
_CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def fuzzed(make_module_site) -> Iterator[tuple[Site, dict[str, httpx.Client]]]:
    site = make_module_site(
        {
            "brain": {"command": ["sleep", "1000"], "owner": "fuzz-user", "stop": {"pause": "0s"}},
            "vllm": {
                "command": ["sleep", "1000"],
                "params": {"model": {"default": "a/b", "pattern": r"[\w.-]+/[\w.-]+"}},
                "stop": {"pause": "0s"},
            },
        }
    )
    site.agent.wait_ready("brain", "vllm")
    clients = {role: site.as_(f"fuzz-{role}", role) for role in ("user", "web", "guest")}
    return site, {"admin": site.admin, "nobody": site.anybody(), **clients}


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_no_request_makes_the_agent_fail(fuzzed, role: str):
    site, clients = fuzzed
    client = clients[role]
    document = site.admin.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if "stream" in operation.path or operation.path.startswith(_SPARED):
            continue
        tried += 1
        _try(operation, client, names=role in {"admin", "user"})
    assert tried >= 20


def _try(operation: Any, client: httpx.Client, *, names: bool) -> None:
    name = st.sampled_from(["brain", "vllm", "nobody"])

    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), known=name)
    def each(case: Any, known: str) -> None:
        if names and case.path_parameters:
            for part in ("name", "service", "logfile"):
                if part in case.path_parameters:
                    case.path_parameters[part] = known
        if names and isinstance(case.body, dict) and isinstance(case.body.get("name"), str):
            case.body["name"] = known
        case.query.pop("follow", None)
        made = case.as_transport_kwargs(base_url=str(client.base_url))
        made["headers"] = {
            name: value
            for name, value in made.get("headers", {}).items()
            if name.lower() in {"content-type", "accept"}
        }
        made.pop("cookies", None)
        if isinstance(made.get("data"), bytes):
            made["content"] = made.pop("data")
        answer = client.request(**made)
        assert answer.status_code not in _FAULTS, (made, answer.text)
        case.validate_response(answer, checks=_CHECKS)

    each()
