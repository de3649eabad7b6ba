"""What Consul should hold, and the fewest writes that get it there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.model.reason import because
from lictor.core.model.registration import (
    OWNER_META,
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SeenCheck,
    SeenService,
    SetStatus,
)
from lictor.core.model.spec import HealthSpec, ProbeSpec
from lictor.core.model.state import Health
from lictor.core.planning.registration import (
    Owner,
    after,
    conflicts,
    diff,
    is_given_out,
    wanted,
)
from tests.core.build import HTTP, now_in, want

OWNER = Owner("uuid-1", "host1")
ID = "lictor:host1:piper"


def say(reason) -> str:
    return f"<{reason.code}>"


def entry(phase="ready", wish=None, **state):
    wish = wish or want(probe=HTTP, port=5000, tags=("tts", "cpu"))
    return wanted(wish, now_in(phase, **state), OWNER, say)


def holding(*entries, view=None) -> RegistryView:
    """What the agent holds after everything for these entries was written."""
    view = view or RegistryView()
    for write in diff(entries, view, OWNER):
        view = after(view, write)
    return view


def foreign(service_id="other", **meta) -> SeenService:
    return SeenService(service_id, "redis", "10.0.0.1", 6379, (), meta)


# --- what is wanted ---------------------------------------------------------------------------


def test_one_registration_carries_both_checks():
    registration = entry().registration
    assert (registration.service_id, registration.name) == (ID, "piper")
    assert (registration.address, registration.port) == ("127.0.0.1", 5000)
    http, ttl = registration.checks
    assert (http.check_id, http.kind, http.target) == (f"{ID}:http", "http", HTTP.target)
    assert (ttl.check_id, ttl.kind) == (f"{ID}:lictor", "ttl")
    assert registration.meta[OWNER_META] == "uuid-1"
    assert registration.meta["lictor-node"] == "host1"
    assert registration.meta["lictor-driver"] == "process"


@pytest.mark.parametrize(
    ("phase", "seen"),
    [
        ("stopped", False),
        ("queued", False),
        ("blocked", False),
        ("starting", True),
        ("ready", True),
        ("unhealthy", True),
        ("stopping", True),
        ("backoff", True),
        ("failed", True),
    ],
)
def test_a_service_is_registered_from_its_first_start_until_it_is_stopped(phase, seen):
    assert (entry(phase) is not None) is seen


def test_where_its_figures_are_is_told_to_whoever_collects_them():
    told = entry(wish=want(probe=HTTP, port=5000, later={"metrics": "/metrics"})).registration.meta
    assert told["lictor-metrics"] == "/metrics"
    assert "lictor-metrics" not in entry().registration.meta
    assert "lictor-metrics" not in entry(wish=want(later={"metrics": "/metrics"})).registration.meta


def test_a_service_that_queues_after_a_crash_was_not_stopped_and_stays_registered():
    found = entry("queued", failures=1, reason=because("dependency.waiting", dependency="db"))
    assert found.status.status is Health.CRITICAL


def test_what_the_operator_unregistered_is_not_registered():
    assert entry(unregistered=True) is None
    assert entry(wish=want(registered=False)) is None


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        ("starting", Health.CRITICAL),
        ("ready", Health.PASSING),
        ("unhealthy", Health.PASSING),
        ("stopping", Health.CRITICAL),
        ("backoff", Health.CRITICAL),
        ("failed", Health.CRITICAL),
    ],
)
def test_our_own_check_says_whether_it_is_alive_with_the_reason_of_the_phase(phase, status):
    found = entry(phase, reason=because("some.reason"))
    assert found.status == SetStatus(f"{ID}:lictor", status, "<some.reason>")


def test_maintenance_is_critical_whatever_runs_and_names_why():
    found = entry(wish=want(state="maintenance", why="new disk", by="anna"))
    assert (found.status.status, found.status.output) == (Health.CRITICAL, "maintenance: new disk")
    bare = entry(wish=want(state="maintenance"))
    assert bare.status.output == "maintenance"


def test_a_loading_service_is_reaped_only_after_three_startups_and_never_under_ten_minutes():
    quick = entry(wish=want(health=HealthSpec(probe=HTTP, startup=5)))
    slow = entry(wish=want(health=HealthSpec(probe=HTTP, startup=900)))
    assert quick.registration.checks[0].deregister_after == 600
    assert slow.registration.checks[0].deregister_after == 2700
    assert slow.registration.checks[-1].deregister_after is None


def test_an_instance_is_registered_under_the_name_of_its_service():
    registration = entry(wish=want("piper@a")).registration
    assert (registration.service_id, registration.name) == (f"{ID}:a", "piper")
    assert registration.meta["lictor-instance"] == "a"


def test_what_only_we_can_ask_is_a_check_that_we_set_and_is_critical_until_it_was_asked():
    checks = {"db": ProbeSpec("postgres", "h:1"), "ui": ProbeSpec("tcp", "h:2")}
    found = entry(wish=want(probe=ProbeSpec("command", argv=("true",)), checks=checks))
    assert [(c.check_id, c.kind) for c in found.registration.checks] == [
        (f"{ID}:check:db", "ttl"),
        (f"{ID}:check:ui", "tcp"),
        (f"{ID}:lictor", "ttl"),
    ]
    assert found.registration.checks[0].status is Health.CRITICAL


@pytest.mark.parametrize(("kind", "status"), [("http", "passing"), ("redis", "critical")])
def test_who_is_unhealthy_is_told_by_whoever_asks(kind, status):
    found = entry("unhealthy", wish=want(probe=ProbeSpec(kind, "h:1")))
    assert found.status.status == status


def test_what_a_named_check_said_is_written_after_the_registration_and_once():
    checks = {"db": ProbeSpec("postgres", "h:1")}
    found = entry(wish=want(checks=checks))
    said = SetStatus(f"{ID}:check:db", Health.PASSING, "PostgreSQL answers")
    found = replace(found, told=(said,))
    writes = diff([found], RegistryView(), OWNER)
    assert writes == [Register(found.registration), found.status, said]
    seen = RegistryView()
    for write in writes:
        seen = after(seen, write)
    assert diff([found], seen, OWNER) == []


def test_a_service_without_a_port_is_registered_with_port_nought():
    assert entry(wish=want()).registration.port == 0


# --- the writes -------------------------------------------------------------------------------


def test_a_new_service_needs_one_registration_and_its_status():
    found = entry()
    assert diff([found], RegistryView(), OWNER) == [Register(found.registration), found.status]


def test_nothing_is_written_when_nothing_differs():
    assert diff([entry()], holding(entry()), OWNER) == []


def test_the_order_of_tags_is_no_difference():
    view = holding(entry())
    turned = entry(wish=want(probe=HTTP, port=5000, tags=("cpu", "tts")))
    assert diff([turned], view, OWNER) == []
    there = replace(view.services[ID], tags=("cpu", "tts"))
    assert diff([entry()], replace(view, services={ID: there}), OWNER) == []


def test_a_change_of_health_writes_the_status_and_no_registration():
    view = holding(entry())
    sick = entry("backoff")
    assert diff([sick], view, OWNER) == [sick.status]


@pytest.mark.parametrize(
    "fields",
    [
        {"port": 5001},
        {"address": "10.0.0.9"},
        {"tags": ("tts",)},
        {"meta": {"x": "y"}},
        {"probe": replace(HTTP, interval=11.0)},
        {"probe": replace(HTTP, target="http://127.0.0.1:5000/other")},
    ],
)
def test_a_changed_definition_is_registered_again(fields):
    changed = entry(wish=want(**{"probe": HTTP, "port": 5000, "tags": ("tts", "cpu"), **fields}))
    assert diff([changed], holding(entry()), OWNER) == [Register(changed.registration)]


@pytest.mark.parametrize("fields", [{"port": 1}, {"address": "x"}, {"name": "y"}, {"tags": ()}])
def test_an_entry_that_somebody_edited_is_put_right(fields):
    view = holding(entry())
    bent = replace(view, services={ID: replace(view.services[ID], **fields)})
    assert diff([entry()], bent, OWNER) == [Register(entry().registration)]


def test_a_check_that_somebody_removed_comes_back():
    view = holding(entry())
    less = {name: check for name, check in view.checks.items() if not name.endswith(":http")}
    assert diff([entry()], replace(view, checks=less), OWNER) == [Register(entry().registration)]


def test_a_check_that_is_no_longer_wanted_is_removed_after_the_registration():
    plain = entry(wish=want(port=5000, tags=("tts", "cpu")))
    writes = diff([plain], holding(entry()), OWNER)
    assert writes == [Register(plain.registration), RemoveCheck(f"{ID}:http")]


def test_the_operators_maintenance_mode_is_never_ended():
    name = f"_service_maintenance:{ID}"
    view = holding(entry())
    view = replace(view, checks={**view.checks, name: SeenCheck(name, ID, "critical", "why")})
    assert diff([entry()], view, OWNER) == []


def test_what_is_ours_and_no_longer_wanted_is_deregistered():
    assert diff([], holding(entry()), OWNER) == [Deregister(ID)]


def test_a_foreign_entry_is_never_touched_not_even_one_with_our_id_or_our_prefix():
    view = RegistryView(
        services={
            ID: foreign(ID, **{OWNER_META: "uuid-2"}),
            f"{ID}-two": foreign(f"{ID}-two"),
            "lictor:host1:old": foreign("lictor:host1:old", **{"lictor-node": "host1"}),
        }
    )
    assert diff([entry()], view, OWNER) == []
    assert diff([], view, OWNER) == []
    assert conflicts([entry()], view, OWNER) == [ID]


def test_our_own_entries_are_no_conflict():
    assert conflicts([entry()], holding(entry()), OWNER) == []
    assert conflicts([entry()], RegistryView(), OWNER) == []


# --- the cache between two reads ----------------------------------------------------------------


def test_registering_again_keeps_the_status_of_checks_that_exist():
    view = after(holding(entry()), SetStatus(f"{ID}:lictor", Health.CRITICAL, "gone"))
    view = after(view, Register(entry().registration))
    assert view.checks[f"{ID}:lictor"].status == "critical"


def test_deregistering_takes_the_checks_along_and_leaves_those_of_others():
    other = foreign()
    checks = {"c": SeenCheck("c", "other", "passing"), "node": SeenCheck("node", "", "passing")}
    view = holding(entry(), view=RegistryView({"other": other}, checks))
    assert after(view, Deregister(ID)) == RegistryView({"other": other}, checks)


def test_removing_what_is_not_there_changes_nothing():
    view = holding(entry())
    assert after(view, RemoveCheck("none")) == view
    assert after(view, Deregister("none")) == view


@pytest.mark.parametrize(
    ("checks", "given"),
    [
        ({}, False),
        ({"lictor:n:a:lictor": "passing"}, True),
        ({"lictor:n:a:lictor": "passing", "lictor:n:a:http": "warning"}, True),
        ({"lictor:n:a:lictor": "passing", "lictor:n:a:http": "critical"}, False),
        ({"lictor:n:a:1:lictor": "passing"}, False),  # an instance of it is another entry
    ],
)
def test_dns_names_an_entry_that_is_there_while_none_of_its_checks_is_critical(checks, given):
    seen = {check_id: (status, "") for check_id, status in checks.items()}
    assert is_given_out(seen, "lictor:n:a") is given
