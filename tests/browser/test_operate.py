"""What operators do beside starting and stopping: hold, set, hand out tokens, look back, clean up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Gate, House, Open
from tests.browser.test_looks import violations
from tests.support.agent import wait_until
from tests.support.children import child, free_port
from tests.web.test_clean_up import LONG_AGO, entry, in_catalog

pytestmark = [pytest.mark.consul, pytest.mark.slow]

SLEEP = {"command": ["/bin/sleep", "300"], "stop": {"pause": "0s"}}
PARAMS = {
    "voice": {"default": "anna", "choices": ["anna", "boris"]},
    "model": {"default": "Qwen/small", "pattern": r"[\w.-]+/[\w.-]+"},
    "beams": {"default": 4},
    "api_key": {"default": "a secret"},
}


def card(page: Page, title: str):
    return page.locator("section.card").filter(has=page.get_by_role("heading", name=title))


def test_a_service_is_held_with_a_reason_and_an_end_and_released(
    house: House, open_page: Open, shots: Path
):
    page = open_page(house, "#/service/mute")
    hold = card(page, "Hold")
    expect(hold).to_contain_text("Nobody holds it")
    hold.get_by_role("button", name="Hold …").click()
    dialog = page.get_by_role("dialog")
    assert not violations(page)
    dialog.get_by_label("Reason").fill("the disk is being changed")
    dialog.get_by_label("Ends").select_option("4")
    page.screenshot(path=shots / "hold.png")
    dialog.get_by_role("button", name="Hold", exact=True).click()
    expect(hold).to_contain_text("admin holds it stopped")
    expect(hold).to_contain_text("until ")
    expect(hold).to_contain_text("the disk is being changed")
    expect(page.locator(".truth .state")).to_have_text("○ stopped")
    hold.get_by_role("button", name="Release").click()
    expect(hold).to_contain_text("Nobody holds it")
    expect(page.locator(".truth .state")).to_have_text("● ready")


def test_a_hold_that_hurts_others_is_said_twice(house: House, open_page: Open):
    page = open_page(house, "#/service/redis", expect="409")
    card(page, "Hold").get_by_role("button", name="Hold …").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("a look")
    dialog.get_by_role("button", name="Hold", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("brain")
    expect(dialog.get_by_role("button", name="Do it anyway")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(card(page, "Hold")).to_contain_text("Nobody holds it")


def test_parameters_are_chosen_refused_with_the_reason_and_set_back(
    make_house, open_page: Open, shots: Path
):
    house = make_house({"vllm": {**SLEEP, "params": PARAMS}})
    house.agent.wait_ready("vllm")
    page = open_page(house, "#/service/vllm", expect="400")
    box, dialog = card(page, "Parameters"), page.get_by_role("dialog")
    box.get_by_role("button", name="Change voice").click()
    expect(dialog.get_by_label("Value").locator("option")).to_have_text(["anna", "boris"])
    dialog.get_by_label("Value").select_option("boris")
    dialog.get_by_role("button", name="Set", exact=True).click()
    expect(box.locator("li", has_text="voice")).to_contain_text("boris")
    expect(box.locator("li", has_text="voice")).to_contain_text("for this node")
    expect(box).to_contain_text("Set by admin")
    box.get_by_role("button", name="Change model").click()
    expect(dialog).to_contain_text(PARAMS["model"]["pattern"])
    dialog.get_by_label("Value").fill("--trust-remote-code")
    dialog.get_by_role("button", name="Set", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("never begins with a hyphen")
    page.screenshot(path=shots / "params.png")
    dialog.get_by_label("Value").fill("Qwen/large")
    dialog.get_by_role("button", name="Set", exact=True).click()
    expect(box.locator("li", has_text="model")).to_contain_text("Qwen/large")
    expect(box.locator("li", has_text="api_key")).to_contain_text("***")
    assert "a secret" not in page.content()
    box.get_by_role("button", name="Set voice back to its default").click()
    expect(box.locator("li", has_text="voice")).to_contain_text("anna")
    assert not violations(page)
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=shots / f"service-params-{width}.png", full_page=True)


def test_a_token_is_shown_once_works_and_is_revoked(house: House, open_page: Open, shots: Path):
    page = open_page(house, "#/users")
    page.get_by_role("button", name="Create a token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("prometheus")
    dialog.get_by_label("Acts").select_option("role:admin")
    dialog.get_by_text("Limit it to some rights").click()
    dialog.get_by_label("read metrics").check()
    page.screenshot(path=shots / "token.png")
    assert not violations(page)
    dialog.get_by_role("button", name="Create", exact=True).click()
    secret = dialog.locator(".secret").inner_text().strip()
    assert not violations(page)
    dialog.get_by_role("button", name="Close").click()
    line = page.locator(".tokens li", has_text="prometheus")
    expect(line).to_contain_text("never used")
    expect(line).to_contain_text("metrics")
    assert secret not in page.content()
    headers = {"Authorization": f"Bearer {secret}"}
    outside = page.context.browser.new_context().request
    assert outside.get(f"{house.url}/metrics", headers=headers).status == 200
    assert outside.get(f"{house.url}/admin/logs", headers=headers).status == 403
    line.get_by_role("button", name="Revoke the token prometheus").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(line).to_have_count(0)
    assert outside.get(f"{house.url}/metrics", headers=headers).status == 401
    outside.dispose()


def test_the_audit_log_is_filtered_and_taken_home(house: House, open_page: Open):
    house.agent.cli("hold", "xtts", "--reason", "for the audit")
    house.agent.cli("release", "xtts")
    page = open_page(house, "#/audit")
    rows = page.locator("main tbody tr")
    expect(rows.first).to_be_visible()
    page.get_by_label("Search the audit log").fill("xtts")
    expect(page.locator("main tbody tr", has_text="POST")).to_have_count(0)
    expect(rows.first).to_contain_text("release")
    expect(rows.first).to_contain_text("● done")
    expect(page).to_have_url(re.compile("search=xtts"))
    with page.expect_download() as file:
        page.get_by_role("link", name="JSON").click()
    lines = [json.loads(line) for line in Path(file.value.path()).read_text().splitlines()]
    assert lines
    assert all("xtts" in json.dumps(line) for line in lines)
    page.get_by_label("Outcome").select_option("failed")
    expect(page.get_by_text("No entry fits")).to_be_visible()
    assert not violations(page)
    page.get_by_role("button", name="Show everything").click()
    expect(rows.first).to_be_visible()
    page.keyboard.press("7")
    expect(page.get_by_role("heading", name="Audit")).to_be_visible()


def test_what_was_left_over_is_cleaned_up_after_a_look(
    make_house, own_consul, open_page: Open, shots: Path
):
    house = make_house({"mute": SLEEP}, consul=own_consul.http)
    own_consul.put_kv("lictor/nodes/host2", {"agent": "dead", "node": "host2", "at": LONG_AGO})
    theirs = {"lictor-owner": "dead", "lictor-node": "host2"}
    entry(own_consul, "consul2", "lictor:host2:piper", meta=theirs, status="critical")
    entry(own_consul, "consul2", "lictor:host2:xtts", meta=theirs, status="passing")
    wait_until(lambda: house.agent.consul_state() == "ok")
    page = open_page(house, "#/registry")
    left = card(page, "Left over")
    expect(left).to_contain_text("The agent of node host2 has been gone for")
    expect(left.locator("li", has_text="lictor:host2:xtts")).to_contain_text("stays")
    left.get_by_role("button", name="Clean up … (1)").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("li")).to_have_count(1)
    assert not violations(page)
    page.screenshot(path=shots / "clean-up.png")
    page.set_viewport_size({"width": 360, "height": 740})
    page.screenshot(path=shots / "clean-up-360.png")
    page.set_viewport_size({"width": 1280, "height": 800})
    dialog.get_by_label("piper").uncheck()
    expect(dialog.get_by_role("button", name="Take out")).to_be_disabled()
    dialog.get_by_label("piper").check()
    dialog.get_by_role("button", name="Take out (1)").click()
    expect(dialog.get_by_role("status")).to_contain_text("taken out")
    dialog.get_by_role("button", name="Close").click()
    expect(left.locator("li")).to_have_count(1)
    assert not in_catalog(own_consul, "consul2", "lictor:host2:piper")
    assert in_catalog(own_consul, "consul2", "lictor:host2:xtts")
    agents = page.locator(".nodes .agent")
    expect(agents.filter(has_text="agent gone")).to_contain_text("host2")


def test_a_group_tells_who_answers_and_why(make_house, own_consul, open_page: Open, shots: Path):

    def voice(rank: int, **more: Any) -> dict[str, Any]:
        port = free_port()
        health = {"http": "http://{host}:{port}/", "interval": "1s"}
        base = {"command": list(child("good", port=port)), "port": port, "health": health}
        return {**base, "group": "voice", "rank": rank, **more}

    defined = {"xtts": voice(10), "piper": voice(30), "cold": voice(40, activation="manual")}
    house = make_house(defined, consul=own_consul.http)
    house.agent.wait_ready("xtts", "piper")
    wait_until(lambda: house.agent.consul_state() == "ok")
    # Who is ready first answers until the better one is in Consul too.
    wait_until(lambda: _roles(house) == ["best", "standby", "absent"], what="xtts answers")
    page = open_page(house, "#/registry")
    group = card(page, "Group voice")
    expect(group).to_contain_text("voice.query.consul")
    members = group.locator(".members li")
    expect(members).to_have_count(3)
    expect(members.first).to_contain_text("● answers")
    expect(members.nth(1)).to_contain_text("stands by: xtts comes before it")
    expect(members.nth(2)).to_contain_text("not registered")
    assert not violations(page)
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        page.screenshot(path=shots / f"groups-{width}.png", full_page=True)
    house.agent.ask("hold", {"names": ["xtts"], "state": "stopped", "reason": "a look"})
    expect(group.locator("li", has_text="piper")).to_contain_text("● answers", timeout=30_000)


def _roles(house: House) -> list[str]:
    (group,) = house.agent.ask("registry_groups")
    return [member["role"] for member in group["members"]]


def test_who_may_not_is_shown_none_of_it(house: House, open_page: Open):
    person = ("visitor2", house.user("visitor2", "user"))
    page = open_page(house, person=person, expect="403")
    expect(page.get_by_role("link", name="Audit")).to_have_count(0)
    page.goto(f"{house.url}/#/audit")
    expect(page.get_by_text("You may not see this")).to_be_visible()
    page.goto(f"{house.url}/#/registry")
    expect(page.get_by_role("heading", name="Registry")).to_be_visible()
    expect(page.get_by_role("heading", name="Left over")).to_have_count(0)
    page.goto(f"{house.url}/#/account")
    expect(page.get_by_role("heading", name="My password")).to_be_visible()
    expect(page.get_by_role("heading", name="API tokens")).to_have_count(0)


def test_by_the_keyboard_alone_a_service_is_held_and_released(house: House, open_page: Open):
    page = open_page(house, "#/service/mute")
    hold = card(page, "Hold")
    hold.get_by_role("button", name="Hold …").focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("with the keyboard")
    page.keyboard.press("Enter")
    # The page may hear of it before the dialog does, and what lies below that takes no keys.
    page.get_by_role("dialog").wait_for(state="hidden")
    expect(hold).to_contain_text("with the keyboard")
    expect(page.locator(".truth .state")).to_have_text("○ stopped")
    hold.get_by_role("button", name="Release").focus()
    page.keyboard.press("Enter")
    expect(hold).to_contain_text("Nobody holds it")
    expect(page.locator(".truth .state")).to_have_text("● ready")


def test_a_button_keeps_the_focus_when_its_service_changes(house: House, open_page: Open):
    page = open_page(house, "#/service/mute")
    button = card(page, "Hold").get_by_role("button", name="Hold …")
    button.focus()
    assert house.agent.cli("restart", "mute").code == 0
    expect(page.locator(".facts")).to_contain_text(str(house.agent.service_pid("mute")))
    expect(page.locator(".truth .state")).to_have_text("● ready")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_what_is_known_of_one_service_is_not_shown_of_another(house: House, open_page: Open):
    assert house.agent.cli("hold", "xtts", "--reason", "of xtts alone").code == 0
    page = open_page(house, "#/service/xtts")
    hold = card(page, "Hold")
    expect(hold).to_contain_text("of xtts alone")
    answer = Gate(page, r"/admin/services/mute/hold")
    page.goto(f"{house.url}/#/service/mute")
    expect(page.get_by_role("heading", name="mute")).to_be_visible()
    expect(hold.locator("[aria-busy=true]")).to_be_visible()
    expect(hold).not_to_contain_text("of xtts alone")
    answer.open()
    expect(hold).to_contain_text("Nobody holds it")
    house.agent.cli("release", "xtts")
