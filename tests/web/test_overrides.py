"""Holds and parameters over HTTP: the same orders as on the command line, with the same refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.web import Site
from tests.web.test_examples import EXAMPLES, differences

MODEL = {"default": "Qwen/small", "pattern": r"[\w.-]+/[\w.-]+"}


@pytest.fixture(scope="module")
def site(make_module_site) -> Site:
    """An agent with a service of anna's whose parameters have every form, and one that needs it."""
    base = {"command": ["sleep", "1000"], "stop": {"pause": "0s"}}
    params = {
        "model": MODEL,
        "voice": {"default": "anna", "choices": ["anna", "boris"]},
        "speed": {"default": 1.5},
        "beams": {"default": 4},
        "loud": {"default": False},
        "api_key": {"default": "a secret of vllm"},
    }
    return make_module_site(
        {
            "vllm": {**base, "params": params, "owner": "anna"},
            "bot": {**base, "depends_on": ["vllm"]},
            "plain": dict(base),
        }
    )


def params_of(site: Site) -> dict[str, dict[str, object]]:
    answer = site.admin.get("/admin/services/vllm/params")
    assert answer.status_code == 200, answer.text
    return {one["name"]: one for one in answer.json()["params"]}


def test_a_hold_is_placed_shown_and_released(site: Site):
    example = EXAMPLES["admin_service_hold"]
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    body = {"state": "maintenance", "reason": "the disk is being changed", "until": end}
    answer = site.admin.post("/admin/services/plain/hold", json=body)
    assert answer.status_code == 200, answer.text
    assert differences(example["response"], answer.json()) == []
    held = site.admin.get("/admin/services/plain/hold").json()["hold"]
    assert {k: held[k] for k in ("as", "state", "by", "reason")} == {
        "as": "plain",
        "state": "maintenance",
        "by": "admin",
        "reason": "the disk is being changed",
    }
    assert abs(held["until"] - datetime.fromisoformat(end).timestamp()) < 1
    refused = site.admin.post("/supervisor/stop", json={"name": "plain"})
    assert refused.json()["code"] == "held"
    released = site.admin.post("/admin/services/plain/release", json={"reason": "done"})
    assert differences(EXAMPLES["admin_service_release"]["response"], released.json()) == []
    assert site.admin.get("/admin/services/plain/hold").json()["hold"] is None
    again = site.admin.post("/admin/services/plain/release")
    assert again.json()["result"] == "already"


def test_a_hold_needs_a_reason_and_an_end_that_is_to_come(site: Site):
    path = "/admin/services/plain/hold"
    assert site.admin.post(path, json={}).status_code == 422
    assert site.admin.post(path, json={"reason": "x", "state": "gone"}).status_code == 422
    for until in ("yesterday", "2020-01-01T00:00:00Z"):
        assert site.admin.post(path, json={"reason": "x", "until": until}).status_code == 400
    assert site.admin.get(path).json()["hold"] is None
    assert site.admin.get("/admin/services/nobody/hold").status_code == 404


def test_a_hold_that_hurts_others_has_to_be_said_twice(site: Site):
    path, body = "/admin/services/vllm/hold", {"state": "stopped", "reason": "a new card"}
    refused = site.admin.post(path, json=body)
    assert refused.status_code == 409
    assert "bot" in refused.json()["detail"]
    assert site.admin.get(path).json()["hold"] is None
    assert site.admin.post(path, json={**body, "force": True}).status_code == 200
    site.agent.wait_phase("vllm", "stopped")
    site.admin.post("/admin/services/vllm/release")


def test_parameters_are_shown_with_what_fits_and_set_by_text_or_value(site: Site):
    answer = site.admin.get("/admin/services/vllm/params").json()
    answer["params"] = [one for one in answer["params"] if one["name"] == "model"]
    assert differences(EXAMPLES["admin_service_params"]["response"], answer) == []
    before = params_of(site)
    assert before["voice"]["choices"] == ["anna", "boris"]
    assert before["model"]["pattern"] == MODEL["pattern"]
    assert [before[name]["type"] for name in ("model", "speed", "beams", "loud")] == [
        *("text", "float", "int", "bool")
    ]
    assert before["api_key"]["value"] == before["api_key"]["default"] == "***"
    given = {"voice": "boris", "speed": "2", "beams": 8, "loud": True, "api_key": "another one"}
    done = site.admin.post("/admin/services/vllm/params", json={"set": given, "reason": "try"})
    assert done.status_code == 200, done.text
    assert differences(EXAMPLES["admin_service_params_set"]["response"], done.json()) == []
    after = params_of(site)
    assert [after[name]["value"] for name in ("voice", "speed", "beams", "loud", "api_key")] == [
        *("boris", 2.0, 8, True, "***")
    ]
    assert after["voice"]["source"] == "kv_node"
    assert after["model"]["source"] == "config"
    whole = site.admin.get("/admin/services/vllm/params").json()
    assert (whole["by"], whole["why"]) == ("admin", "try")
    assert "another one" not in site.admin.get("/admin/events", params={"lines": 200}).text
    site.admin.post("/admin/services/vllm/params", json={"unset": ["voice"]})
    assert (params_of(site)["voice"]["value"], params_of(site)["beams"]["value"]) == ("anna", 8)
    rest = {"unset": ["speed", "beams", "loud", "api_key"]}
    site.admin.post("/admin/services/vllm/params", json=rest)
    assert {one["source"] for one in params_of(site).values()} == {"config"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"voice": "clara"}, "anna, boris"),
        ({"model": "--trust-remote-code"}, "hyphen"),
        ({"model": "no slash"}, "pattern"),
        ({"beams": "many"}, "int"),
        ({"volume": "11"}, "Its parameters are"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(site: Site, given, told):
    before = params_of(site)
    answer = site.admin.post("/admin/services/vllm/params", json={"set": given})
    assert answer.status_code == 400
    assert told in answer.json()["detail"] + answer.json().get("hint", "")
    assert params_of(site) == before


@pytest.mark.parametrize("body", [{}, {"set": {"beams": 1}, "unset": ["beams"]}, {"unset": []}])
def test_one_order_either_sets_or_unsets(site: Site, body):
    assert site.admin.post("/admin/services/vllm/params", json=body).status_code == 400


def test_who_owns_it_sets_parameters_and_only_admins_hold(site: Site):
    anna, boris = site.as_("anna", "user"), site.as_("boris", "user")
    guest = site.as_("gast", "guest")
    path = "/admin/services/vllm/params"
    assert anna.get(path).status_code == 200
    assert anna.post(path, json={"set": {"voice": "boris"}}).status_code == 200
    assert anna.post(path, json={"unset": ["voice"]}).status_code == 200
    for stranger in (boris, guest):
        assert stranger.get(path).status_code == 403
        assert stranger.post(path, json={"set": {"voice": "boris"}}).status_code == 403
    for person in (anna, boris, guest):
        for way in ("hold", "release"):
            body = {"reason": "mine"}
            assert person.post(f"/admin/services/vllm/{way}", json=body).status_code == 403
        assert person.get("/admin/services/vllm/hold").status_code == 403
    assert params_of(site)["voice"]["value"] == "anna"


def test_a_refusal_comes_as_codes_too_so_that_a_page_can_say_it_in_its_language(site: Site):
    answer = site.admin.post("/admin/services/vllm/params", json={"set": {"volume": "11"}}).json()
    assert answer["detail"] == "vllm has no parameter 'volume'."
    assert answer["reasons"] == [
        {"code": "param.none", "params": {"service": "vllm", "name": "volume"}}
    ]
    (hint,) = answer["hint_reasons"]
    assert (hint["code"], answer["hint"]) == (
        "next.params_are",
        f"Its parameters are: {hint['params']['known']}.",
    )
