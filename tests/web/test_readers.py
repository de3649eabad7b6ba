"""Who sees what: names for some, one's own for others, and never a value of the environment."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.web import Site, events


@pytest.fixture(scope="module")
def anna(site: Site) -> Iterator[httpx.Client]:
    yield site.as_("anna", "user")
    site.agent.ask("users.delete", {"name": "anna"})


@pytest.fixture(scope="module")
def guest(site: Site) -> Iterator[httpx.Client]:
    yield site.as_("gast", "guest")
    site.agent.ask("users.delete", {"name": "gast"})


def test_one_sees_the_details_of_ones_own_services_and_the_names_of_the_others(anna):
    rows = anna.get("/supervisor/status").json()["services"]
    assert rows["brain"]["pid"] is not None
    assert rows["brain"]["hidden"] is False
    assert rows["tts"]["hidden"] is True
    assert rows["tts"]["status"] == "stopped"
    assert rows["tts"]["sentence"] is None
    assert rows["tts"]["owner"] is None


def test_a_guest_sees_names_and_states_only(guest):
    page = guest.get("/supervisor/status").json()
    assert {row["hidden"] for row in page["services"].values()} == {True}
    assert page["services"]["brain"]["status"] == "running"
    assert page["services"]["brain"]["pid"] is None
    assert page["system"]["total_memory_mb"] is None


def test_one_may_change_ones_own_services_only(site, anna, guest):
    assert anna.post("/supervisor/start", json={"name": "tts"}).status_code == 403
    bulk = {"action": "start", "services": ["brain", "tts"]}
    assert anna.post("/supervisor/bulk", json=bulk).status_code == 403
    assert site.agent.row("tts")["phase"] == "stopped"
    assert anna.post("/supervisor/start", json={"name": "brain"}).status_code == 200
    assert anna.post("/supervisor/reload", json={"name": "brain"}).status_code == 403
    assert anna.post("/admin/services/stop-all").status_code == 403
    assert guest.post("/supervisor/start", json={"name": "brain"}).status_code == 403


def test_one_reads_the_logs_of_ones_own_services_only(anna, guest):
    assert anna.get("/supervisor/logs/brain").status_code == 200
    assert anna.get("/supervisor/logs/tts").status_code == 403
    assert anna.get("/admin/logs/stream/tts").status_code == 403
    assert {row["service"] for row in anna.get("/admin/logs").json()["logs"]} == {"brain"}
    assert guest.get("/supervisor/logs/brain").status_code == 403


def test_one_reads_events_of_ones_own_services_only(site, anna, guest):
    site.admin.post("/supervisor/start", json={"name": "tts"})
    site.agent.wait_ready("tts")
    site.admin.post("/supervisor/stop", json={"name": "tts"})
    site.agent.wait_phase("tts", "stopped")
    found = anna.get("/admin/events?lines=100").json()["events"]
    assert {row["service"] for row in found} == {"brain"}
    seen = guest.get("/admin/events?lines=100").json()["events"]
    assert {row["kind"] for row in seen} == {"phase"}
    assert {row["sentence"] for row in seen} == {None}


def test_pages_of_ones_own_events_have_the_size_asked_for_and_miss_none(site, anna):
    for name, times in (("brain", 5), ("tts", 2), ("brain", 3)):
        for number in range(times * 2):
            verb = "register" if number % 2 else "unregister"
            site.agent.ask(verb, {"names": [name]})
    path = "/admin/events?kind=verb"
    whole = [row["id"] for row in anna.get(f"{path}&lines=500").json()["events"]]
    assert len(whole) >= 16
    paged: list[int] = []
    more = True
    before = ""
    while more:
        page = anna.get(f"{path}&lines=7{before}").json()
        ids = [row["id"] for row in page["events"]]
        assert len(ids) <= 7
        paged = ids + paged
        more, before = page["more"], f"&before={page['next']}"
    assert paged == whole


def test_a_stream_shows_each_reader_what_the_page_shows(anna, guest):
    for client, pid in ((anna, True), (guest, False)):
        with events(client, "/admin/services/stream") as stream:
            first = next(stream)
        assert first.kind == "services"
        assert (first.data["services"]["brain"]["pid"] is not None) is pid
        assert first.data["services"]["tts"]["pid"] is None


def test_the_summary_of_the_monitor_names_nothing_that_others_run(anna, guest):
    found = anna.get("/admin/monitor").json()
    assert found["memory"]["total_mb"] > 0
    assert found["processes"] is None
    assert found["disks"] is None
    assert guest.get("/admin/monitor").status_code == 403


def test_no_value_of_an_environment_is_in_any_answer(site):
    paths = ["/supervisor/status", "/admin/services/memory", "/admin/services/status", "/metrics"]
    for path in paths:
        answer = site.admin.get(path)
        assert answer.status_code == 200
        assert "a secret of memory" not in answer.text
