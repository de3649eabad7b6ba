"""Each thing that people come for, once, as they do it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Gate, House, Open, sign_in
from tests.support.agent import wait_until
from tests.support.children import free_port

pytestmark = [pytest.mark.consul, pytest.mark.slow]


def row(page: Page, name: str):
    return page.locator(f"#row-{name}")


def test_a_wrong_password_is_told_in_one_sentence_and_the_right_one_opens(house: House, browser):
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(house.url)
    sign_in(page, "admin", "wrong")
    expect(page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    sign_in(page, "admin", house.password)
    expect(row(page, "piper")).to_contain_text("ready")
    page.get_by_role("button", name="Signed in as admin").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("input[name=password]")).to_be_visible()
    context.close()


def test_the_link_of_the_command_line_opens_the_door_once(house: House, browser):
    said = house.agent.cli("dashboard")
    assert said.code == 0, said.err
    link = re.search(r"http\S+#link=\S+", said.out + said.err)
    assert link, said
    for works in (True, False):
        context = browser.new_context()
        page = context.new_page()
        page.goto(link[0])
        if works:
            expect(row(page, "piper")).to_be_visible()
            assert "link=" not in page.url
        else:
            expect(page.locator("input[name=password]")).to_be_visible()
        context.close()


def test_a_row_says_what_is_so_and_why(house: House, open_page: Open):
    page = open_page(house)
    piper, pid = row(page, "piper"), house.agent.service_pid("piper")
    expect(piper.locator(".state")).to_have_text("● ready")
    expect(piper).to_contain_text("Pre-trained voices on the CPU")
    expect(piper).to_contain_text(f"pid {pid}")
    expect(piper.locator(".c-memory")).to_contain_text("MiB")
    expect(row(page, "vllm").locator(".state")).to_have_text("↻ backoff")
    expect(row(page, "vllm")).to_contain_text("It ended with exit code 1")
    expect(row(page, "vllm")).to_contain_text("CUDA error: no device")
    expect(row(page, "xtts").locator(".state")).to_have_text("○ stopped")
    expect(page.locator(".live")).to_contain_text("live")


def test_the_keyboard_finds_sorts_moves_and_explains_itself(house: House, open_page: Open):
    page = open_page(house)
    row(page, "piper").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("voice")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("tbody tr")).to_have_count(8)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr.current")).to_have_id("row-brain")
    page.keyboard.press("k")
    expect(page.locator("tr.current")).to_have_id("row-bot")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Name").click()
    expect(page.locator("tbody tr").first).to_have_id("row-xtts")
    page.keyboard.press("Enter")
    page.locator("#row-piper a").first.click()
    expect(page.get_by_role("heading", name="piper")).to_be_visible()


def test_a_stop_is_previewed_done_in_the_row_and_survives_a_reload(
    house: House, may_end: Path, open_page: Open
):
    page = open_page(house)
    row(page, "slow").get_by_role("button", name="Stop slow").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("ol.steps li")).to_have_count(1)
    expect(dialog.locator("ol.steps li")).to_contain_text("stop slow")
    dialog.get_by_role("button", name="Stop").click()
    expect(row(page, "slow").locator(".state")).to_have_text("◑ stopping")
    page.reload()
    expect(row(page, "slow").locator(".order")).to_have_text("stop by admin …")
    may_end.touch()
    expect(row(page, "slow").locator(".state")).to_have_text("○ stopped")
    expect(row(page, "slow").locator(".order")).to_have_count(0)
    may_end.unlink()
    expect(row(page, "slow")).to_contain_text("admin")
    row(page, "slow").get_by_role("button", name="Start slow").click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    expect(row(page, "slow").locator(".state")).to_have_text("● ready")


def test_to_stop_what_others_need_one_has_to_insist(house: House, open_page: Open):
    page = open_page(house)
    row(page, "redis").get_by_role("button", name="Stop redis").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_have_text("This would hurt what needs it: brain.")
    expect(dialog.get_by_role("button", name="Do it anyway")).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(row(page, "redis").locator(".state")).to_have_text("● ready")


def test_a_pinned_service_is_restarted_with_one_click(house: House, open_page: Open):
    page = open_page(house)
    before = house.agent.service_pid("piper")
    row(page, "piper").get_by_role("button", name="Pin piper").click()
    page.reload()
    page.locator(".pinned button").click()
    wait_until(lambda: house.agent.row("piper")["pid"] not in {None, before})
    expect(row(page, "piper").locator(".state")).to_have_text("● ready")
    expect(row(page, "piper")).to_contain_text(f"pid {house.agent.service_pid('piper')}")


def test_the_service_page_explains(house: House, open_page: Open):
    page = open_page(house, "#/service/piper", expect="501")
    expect(page.locator(".chain li.is-good")).not_to_have_count(0)
    expect(page.locator(".chain")).to_contain_text("Desired")
    expect(page.get_by_text("200 OK")).to_be_visible()
    expect(page.locator(".events-short li")).not_to_have_count(0)
    expect(page.locator(".pairs")).to_contain_text("child.py")
    page.get_by_role("link", name="Log of piper").click()
    expect(page.get_by_role("heading", name="Logs / piper")).to_be_visible()


def test_an_event_comes_in_while_one_looks(house: House, open_page: Open):
    page = open_page(house, "#/events")
    page.locator(".events li").first.wait_for()
    house.agent.cli("hold", "xtts", "--reason", "a look at the events")
    # The first of its service: another one's may come in above it at any moment.
    of_xtts = page.locator(".events li", has_text="xtts")
    expect(of_xtts.first).to_contain_text("a look at the events")
    house.agent.cli("release", "xtts")
    page.locator("select").nth(1).select_option("hold")
    expect(page.locator(".events li").first).to_contain_text("hold")
    expect(page.locator(".events .e-phase")).to_have_count(0)
    expect(page).to_have_url(re.compile("kind=hold"))


def test_no_event_is_lost_before_the_stream_is_there(house: House, open_page: Open):
    page = open_page(house)
    stream = Gate(page, r"/admin/events/stream")
    page.goto(f"{house.url}/#/events")
    page.locator(".events li").first.wait_for()  # so what was before has been asked for
    stream.wait()
    house.agent.cli("hold", "xtts", "--reason", "between the two")
    house.agent.cli("release", "xtts")
    stream.open()
    expect(page.locator(".events li", has_text="between the two").first).to_be_visible()


def test_an_answer_that_comes_late_takes_no_event_away(house: House, open_page: Open):
    page = open_page(house)
    late: list[tuple[Route, Any]] = []

    def keep(asked: Route) -> None:
        late.append((asked, asked.fetch().json()))

    page.route(re.compile(r"/admin/events\?"), keep, times=1)
    with page.expect_response(re.compile(r"/admin/events/stream")):
        page.goto(f"{house.url}/#/events")
    wait_until(lambda: page.wait_for_timeout(20) or late)
    house.agent.cli("hold", "xtts", "--reason", "while one waits")
    house.agent.cli("release", "xtts")
    lines = page.locator(".events li")
    expect(lines.filter(has_text="while one waits").first).to_be_visible()
    ((asked, answer),) = late
    # With a mark by which one sees that this answer was taken.
    mark = {**answer["events"][0], "id": 0, "service": "in-this-answer"}
    asked.fulfill(json={**answer, "events": [mark, *answer["events"]]})
    expect(lines.filter(has_text="in-this-answer")).to_be_visible()
    expect(lines.filter(has_text="while one waits").first).to_be_visible()


def test_the_registry_shows_names_to_use_and_every_instance(house: House, open_page: Open):
    wait_until(lambda: _passing(house, "piper"), what="piper is passing in Consul")
    page = open_page(house, "#/registry")
    expect(page.get_by_text("piper.service.consul")).to_be_visible()
    page.get_by_role("link", name="piper", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("● passing")
    expect(dialog).to_contain_text("dig @")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def _passing(house: House, name: str) -> bool:
    if house.agent.consul_state() != "ok":
        return False
    found = house.agent.ask("registry_services")
    return any(one["name"] == name and one["passing"] for one in found)


def test_the_monitor_shows_the_host_and_says_why_there_is_no_gpu(house: House, open_page: Open):
    page = open_page(house, "#/monitor")
    expect(page.get_by_text("No GPU to show")).to_be_visible()
    expect(page.get_by_role("heading", name="CPU").first).to_be_visible()
    expect(page.locator(".chart canvas")).to_be_visible()
    expect(page.get_by_role("heading", name="Busiest processes")).to_be_visible()


def test_a_user_is_added_changed_and_deleted(house: House, open_page: Open):
    page = open_page(house, "#/users")
    page.get_by_role("button", name="Add a user").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("anna")
    dialog.get_by_role("button", name="Add a user").click()
    expect(dialog.locator(".secret")).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    page.get_by_label("Role of anna").select_option("guest")
    wait_until(lambda: _role(house, "anna") == "guest")
    anna = page.get_by_role("row", name="anna")  # (others of the house may have users of their own)
    anna.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("anna")).to_have_count(0)


def test_an_answer_that_comes_late_closes_no_dialog(house: House, open_page: Open):
    house.user("boris", "user")
    page = open_page(house, "#/users")
    change = Gate(page, r"/admin/users/boris")
    page.get_by_label("Role of boris").select_option("guest")
    change.wait()
    page.get_by_role("button", name="Add a user").click()
    name = page.get_by_role("dialog").get_by_label("Name")
    name.fill("clara")
    with page.expect_response(re.compile(r"/admin/users$")):  # the list, asked for anew
        change.open()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(name).to_have_value("clara")
    page.keyboard.press("Escape")
    expect(page.get_by_label("Role of boris")).to_have_value("guest")
    house.agent.ask("users.delete", {"name": "boris"})


def _role(house: House, name: str) -> str | None:
    return next((one["role"] for one in house.agent.ask("users.list") if one["name"] == name), None)


def test_a_guest_sees_names_and_states_and_may_do_nothing(house: House, open_page: Open):
    person = ("visitor", house.user("visitor", "guest"))
    page = open_page(house, person=person, expect="403")
    expect(row(page, "piper").locator(".state")).to_have_text("● ready")
    expect(row(page, "piper").locator("button")).to_have_count(0)
    expect(page.get_by_role("link", name="Monitor")).to_have_count(0)
    page.goto(f"{house.url}/#/monitor")
    expect(page.get_by_text("You may not see this")).to_be_visible()


def test_a_page_that_is_open_says_stale_and_comes_back(consul, make_house, open_page: Open):
    # A port of its own: one that the system chose might be somebody else's when the agent comes back.
    web = {"port": free_port()}
    house = make_house({"mute": {"command": ["/bin/sleep", "300"]}}, sections={"web": web})
    page = open_page(house, expect="ERR_|Failed to load|401|503")
    expect(page.locator(".live")).to_contain_text("live")
    house.agent.kill9()
    expect(page.locator(".live")).to_contain_text("stale since", timeout=30_000)
    expect(page.locator(".banner.bad")).to_contain_text("The agent does not answer")
    house.agent.start()
    expect(page.locator(".live")).to_contain_text("live", timeout=40_000)
    expect(row(page, "mute").locator(".state")).to_have_text("● ready")


def test_all_services_are_stopped_and_started_after_a_look_at_the_plan(
    consul, make_house, open_page: Open
):
    sleep = {"command": ["/bin/sleep", "300"]}
    house = make_house({"first": sleep, "second": {**sleep, "depends_on": ["first"]}})
    house.agent.wait_ready("first", "second")
    page = open_page(house)
    page.get_by_role("button", name="Stop all").click()
    steps = page.get_by_role("dialog").locator("ol.steps li")
    expect(steps).to_have_count(2)
    expect(steps.first).to_contain_text("second")  # who needs it goes first
    page.get_by_role("dialog").get_by_role("button", name="Stop", exact=True).click()
    for name in ("first", "second"):
        expect(row(page, name).locator(".state")).to_have_text("○ stopped")
    page.get_by_role("button", name="Start all").click()
    expect(steps.first).to_contain_text("first")
    page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
    for name in ("first", "second"):
        expect(row(page, name).locator(".state")).to_have_text("● ready")


def test_without_consul_the_page_says_so_and_works(make_house, open_page: Open):
    house = make_house({"mute": {"command": ["/bin/sleep", "300"]}}, consul="http://127.0.0.1:9")
    page = open_page(house, expect="503|502")
    expect(page.locator(".banner").first).to_contain_text("Consul", timeout=30_000)
    expect(row(page, "mute").locator(".state")).to_have_text("● ready")
    page.goto(f"{house.url}/#/registry")
    expect(page.get_by_text("Consul cannot be asked")).to_be_visible()


def test_without_services_the_page_says_what_to_do(make_house, open_page: Open):
    page = open_page(make_house({}))
    expect(page.get_by_text("No services yet")).to_be_visible()
    expect(page.get_by_text("lictor reload")).to_be_visible()
