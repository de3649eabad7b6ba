"""The recorded examples are the contract: each answer has the fields and the types of its example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import wait_until
from tests.support.web import Site

FOLDER = Path(__file__).parent / "examples"
EXAMPLES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
CALM = sorted(
    name for name, one in EXAMPLES.items() if one["method"] == "GET" and "response" in one
)
#: Maps whose keys are names and not fields.
OPEN = {"services", "reason_params", "params", "meta", "details", "unknown", "checks", "errors"}


def differences(example: Any, found: Any, where: str = "") -> list[str]:
    """What an answer lacks of its example, or has with another type; null is any type."""
    if example is None or found is None:
        return []
    if isinstance(example, dict):
        if not isinstance(found, dict):
            return [f"{where}: {found!r} is no object"]
        if where.rsplit(".", 1)[-1] in OPEN:
            return _of_values(example, found, where)
        lacking = [f"{where}.{name} is not there" for name in example if name not in found]
        wrong = [
            each
            for name in example
            if name in found
            for each in differences(example[name], found[name], f"{where}.{name}")
        ]
        return lacking + wrong
    if isinstance(example, list):
        if not isinstance(found, list):
            return [f"{where}: {found!r} is no list"]
        return [
            each
            for one in found[:5]
            if example
            for each in differences(example[0], one, f"{where}[]")
        ]
    kinds = (int, float) if type(example) in {int, float} else (type(example),)
    if isinstance(found, bool) != isinstance(example, bool) or not isinstance(found, kinds):
        return [f"{where}: {found!r} is not like {example!r}"]
    return []


def _of_values(example: dict[str, Any], found: dict[str, Any], where: str) -> list[str]:
    values = [value for value in example.values() if value is not None]
    return [
        each
        for name, value in found.items()
        for each in (differences(values[0], value, f"{where}.<{name}>") if values else ())
    ]


def path_of(name: str) -> str:
    return str(EXAMPLES[name]["path"])


@pytest.mark.parametrize(
    "name", [name for name in CALM if not name.startswith("registry") and name != "problem"]
)
def test_an_answer_has_the_fields_and_types_of_its_example(site: Site, name: str):
    answer = site.admin.get(path_of(name).replace("search=ERROR", "search=GET"))
    assert answer.status_code == EXAMPLES[name]["status"], answer.text
    assert differences(EXAMPLES[name]["response"], answer.json()) == []


@pytest.mark.parametrize("verb", ["start", "restart", "stop"])
@pytest.mark.parametrize("where", ["supervisor", "admin"])
def test_the_verbs_answer_as_their_examples_do(site: Site, verb: str, where: str):
    name = f"supervisor_{verb}" if where == "supervisor" else f"admin_service_{verb}"
    example = EXAMPLES[name]
    service = example["response"]["service"]
    if verb == "stop":  # so that there is something to be stopped
        site.admin.post("/supervisor/start", json={"name": service})
        site.agent.wait_ready(service)
    answer = site.admin.post(example["path"], json=example.get("request"))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert differences(example["response"], found) == []
    assert found["status"] == example["response"]["status"]
    assert found["service"] == service
    assert found["message"].startswith(example["response"]["message"])
    if verb == "stop":
        site.agent.wait_phase(service, "stopped")
    else:
        site.agent.wait_ready(service)
    if service == "memory":
        site.admin.post("/supervisor/stop", json={"name": service})
        site.agent.wait_phase(service, "stopped")


def test_a_bulk_answers_as_its_example_and_refuses_a_name_that_is_unknown(site: Site):
    example = EXAMPLES["supervisor_bulk"]
    body = {**example["request"], "services": ["brain", "nobody"]}
    before = site.agent.row("brain")["pid"]
    refused = site.admin.post("/supervisor/bulk", json=body)
    assert refused.status_code == 404
    assert site.agent.row("brain")["pid"] == before
    answer = site.admin.post("/supervisor/bulk", json={**body, "services": ["brain", "tts"]})
    assert differences(example["response"], answer.json()) == []
    assert [one["service"] for one in answer.json()["operations"]] == ["brain", "tts"]
    site.agent.wait_ready("brain", "tts")
    site.admin.post("/supervisor/stop", json={"name": "tts"})
    site.agent.wait_phase("tts", "stopped")


def test_a_bulk_one_by_one_goes_on_when_the_one_before_is_there(site: Site):
    pid = site.agent.service_pid("brain")
    body = {"action": "restart", "services": ["brain", "tts"], "parallel": False}
    answer = site.admin.post("/supervisor/bulk", json=body).json()
    assert [one["status"] for one in answer["operations"]] == ["restarting", "queued"]
    site.agent.wait_ready("tts")
    row = site.agent.row("brain")
    assert row["phase"] == "ready"
    assert row["pid"] != pid
    site.admin.post("/supervisor/stop", json={"name": "tts"})
    site.agent.wait_phase("tts", "stopped")


def test_a_reload_and_a_new_model_answer_as_their_examples(site: Site):
    for name in ("supervisor_reload", "admin_service_model"):
        example = EXAMPLES[name]
        answer = site.admin.post(example["path"], json=example["request"])
        assert answer.status_code == 200, answer.text
        assert differences(example["response"], answer.json()) == []
    site.admin.post("/supervisor/start", json={"name": "vllm"})
    site.agent.wait_ready("vllm")
    log = "/supervisor/logs/vllm"
    wait_until(lambda: site.admin.get(log).json()["logs"])
    assert site.admin.get(log).json()["logs"][-1] == "serving Qwen/Qwen2.5-7B-Instruct-AWQ"
    refused = site.admin.post("/admin/services/vllm/model", json={"model": "--trust=all"})
    assert refused.status_code == 400
    site.admin.post("/supervisor/stop", json={"name": "vllm"})
    site.agent.wait_phase("vllm", "stopped")


def test_every_problem_has_the_form_of_its_example(site: Site):
    example = EXAMPLES["problem"]
    answer = site.admin.get(example["path"])
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert differences(example["response"], answer.json()) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing/here", None, 404),
        ("PUT", "/supervisor/status", None, 405),
        ("POST", "/supervisor/start", {}, 422),
        ("POST", "/supervisor/start", {"name": "x" * 300}, 422),
        ("POST", "/supervisor/start", {"name": "brain", "config": {"cmd": ["sh"]}}, 422),
        ("POST", "/supervisor/bulk", {"action": "delete", "services": ["brain"]}, 422),
        ("GET", "/admin/logs/brain?lines=1000000000", None, 422),
        ("GET", "/admin/logs/brain?offset=-1", None, 422),
        ("GET", "/admin/logs/..%2f..%2fstate.db", None, 404),
        ("GET", "/admin/logs/%2fetc%2fpasswd", None, 404),
        ("GET", "/admin/logs/" + "x" * 2000, None, 422),
    ],
)
def test_what_is_wrong_is_a_problem_and_never_a_fault(site: Site, method, path, body, status):
    answer = site.admin.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_an_error_never_repeats_what_was_sent(site: Site):
    secret = "the-password-in-the-wrong-field"
    answer = site.admin.post("/supervisor/start", json={"name": {"x": secret}, "config": secret})
    assert answer.status_code == 422
    assert secret not in answer.text
