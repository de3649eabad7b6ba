"""The routes of models: what they answer, to whom, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.agent import wait_until
from tests.support.llm import Llm
from tests.support.web import Site, events


@pytest.fixture(scope="module")
def llm(tmp_path_factory) -> Llm:
    return Llm.made(tmp_path_factory.mktemp("llm"))


@pytest.fixture(scope="module")
def house(make_module_site: Callable[..., Site], llm: Llm) -> Site:
    nobody = {"consul": {"address": "http://127.0.0.1:1"}}
    services = {
        "vllm": llm.service(owner="anna", seconds=0.1),
        "plain": {"command": ["sleep", "1000"]},
    }
    site = make_module_site(services, sections=nobody)
    site.agent.wait_ready("vllm")
    return site


@pytest.fixture(scope="module")
def people(house: Site) -> dict[str, httpx.Client]:
    roles = {"anna": "user", "boris": "user", "gast": "guest", "netz": "web"}
    return {name: house.as_(name, role) for name, role in roles.items()}


def switch(client: httpx.Client, model: str, **more: object) -> httpx.Response:
    return client.post("/admin/services/vllm/model", json={"model": model, **more})


def over(site: Site) -> dict[str, object]:
    return wait_until(
        lambda: (
            (found := site.admin.get("/admin/services/vllm/models").json())["open"] is False
            and found
        )
    )


def test_a_switch_is_answered_at_once_and_told_as_it_goes(house: Site, llm: Llm):
    with events(house.admin, "/admin/services/stream") as stream:
        assert next(stream).data["services"]["vllm"]["model"]["current"] == "org/first"
        answer = switch(house.admin, "org/halfway")
        assert answer.status_code == 202, answer.text
        page = answer.json()
        assert (page["status"], page["service"], page["model"]) == (
            *("restarting", "vllm"),
            "org/halfway",
        )
        assert page["message"] == "Service vllm switches to org/halfway"
        assert page["before"] == "org/first"
        seen = []
        for event in stream:
            if event.kind == "service" and event.data["name"] == "vllm":
                seen.append(event.data["model"]["percent"])
                if seen[-1] == 36:
                    break
        found = house.admin.get("/admin/services/vllm/models").json()
        assert (found["stage"], found["target"], found["percent"]) == ("loading", "org/halfway", 36)
        # Nobody's request waits for it: the agent answers as ever.
        assert (
            house.admin.get("/supervisor/status").json()["services"]["vllm"]["status"] == "running"
        )
    llm.go()
    assert over(house)["stage"] == "done"
    again = switch(house.admin, "org/halfway")
    assert (again.status_code, again.json()["result"]) == (200, "already")


def test_what_may_not_be_is_refused_and_says_what_was_expected(house: Site):
    pid = house.agent.service_pid("vllm")
    for wrong in ("x", "../../etc", "a/b/c", "--trust-remote-code", "a/" + "b" * 97):
        refused = switch(house.admin, wrong)
        assert refused.status_code == 400, wrong
        assert (
            "expected org/name" in refused.json()["detail"] or "way out" in refused.json()["detail"]
        )
    no_trust = switch(house.admin, "org/other", trust_remote_code=True)
    assert (no_trust.status_code, no_trust.json()["code"]) == (409, "model.no_trust")
    assert house.admin.post("/admin/services/plain/model", json={"model": "a/b"}).status_code == 400
    assert house.admin.get("/admin/services/plain/models").status_code == 400
    assert house.admin.get("/admin/services/nobody/models").status_code == 404
    assert house.admin.post("/admin/services/vllm/model", json={}).status_code == 422
    assert house.agent.service_pid("vllm") == pid


def test_the_plan_shows_what_would_be_and_changes_nothing(house: Site):
    pid = house.agent.service_pid("vllm")
    asked = {"model": "org/other"}
    plan = house.admin.get("/admin/services/vllm/model/plan", params=asked).json()
    assert [(step["action"], step["service"]) for step in plan["steps"]] == [("restart", "vllm")]
    assert plan["hurts"] == []
    bad = house.admin.get("/admin/services/vllm/model/plan", params={"model": "../x"})
    assert bad.status_code == 400
    assert house.agent.service_pid("vllm") == pid


def test_ones_own_model_may_be_chosen_and_nobody_elses(house: Site, people):
    for name, status in (("boris", 403), ("gast", 403), ("netz", 404)):
        assert switch(people[name], "org/sly").status_code == status
        assert people[name].get("/admin/services/vllm/models").status_code == status
        asked = {"model": "org/sly"}
        assert (
            people[name].get("/admin/services/vllm/model/plan", params=asked).status_code == status
        )
        gone = people[name].delete("/admin/services/vllm/models/org/first")
        assert gone.status_code == status
    assert house.anybody().get("/admin/services/vllm/models").status_code == 401
    rows = people["boris"].get("/admin/services/status").json()["services"]
    assert rows["vllm"]["model"] is None  # not even which one it is
    assert switch(people["anna"], "org/annas").status_code == 202
    assert over(house)["stage"] == "done"
    kinds = house.admin.get("/admin/events?kind=model&lines=50").json()["events"]
    assert "anna" in {row["who"] for row in kinds}
    audit = house.admin.get("/admin/audit", params={"who": "anna"}).json()
    assert any(row["action"] == "POST /admin/services/{name}/model" for row in audit["entries"])


def test_a_model_is_removed_unless_it_is_needed(house: Site, llm: Llm, people):
    switch(house.admin, "org/second")
    over(house)
    wait_until(lambda: house.agent.row("vllm")["phase"] == "ready")
    held = house.admin.delete("/admin/services/vllm/models/org/second")
    assert (held.status_code, held.json()["code"]) == (409, "model.in_use")
    for sly in ("..%2F..%2Fhf", "../../../hf", "org/nothing"):
        assert house.admin.delete(f"/admin/services/vllm/models/{sly}").status_code in {404, 409}
    hub: Path = llm.folder / "hf" / "hub"
    assert (hub / "models--org--first").is_dir()
    gone = people["anna"].delete("/admin/services/vllm/models/org/first")
    assert (gone.status_code, gone.json()["freed_bytes"]) == (200, 200_000), gone.text
    assert not (hub / "models--org--first").exists()
