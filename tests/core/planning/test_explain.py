"""`lictor explain`: the first link that is not as it should be gives the one reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.locales import catalogue
from lictor.core.model.access import Rule
from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.explanation import (
    AgentEntry,
    CatalogEntry,
    CatalogNode,
    DnsSeen,
    Facts,
    Link,
    Verdict,
)
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.registration import SeenCheck, SeenService
from lictor.core.model.spec import HealthSpec, ProbeSpec, ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning.explain import explain

KEY = ServiceKey("piper")
ID = "lictor:host1:piper"
SPEC = ServiceSpec(
    KEY, port=5000, health=HealthSpec(probe=ProbeSpec("http", "http://127.0.0.1:5000/info"))
)
LACKING = Rule("service", "piper", "write", "this service")


def entry(**statuses: str) -> Known[AgentEntry | None]:
    checks = tuple(
        SeenCheck(f"{ID}:{kind}", ID, status, f"{kind} says {status}")
        for kind, status in ({"http": "passing", "lictor": "passing"} | statuses).items()
    )
    return Known(AgentEntry(SeenService(ID, "piper", "127.0.0.1", 5000), checks))


def in_catalog(health: str = "passing", **changes: object) -> Known[CatalogEntry | None]:
    return Known(replace(CatalogEntry("consul1", "127.0.0.1", 5000, health), **changes))


def answers(*places: tuple[str, int], rcode: str = "NOERROR") -> Known[DnsSeen]:
    return Known(DnsSeen("piper.service.consul", "127.0.0.1:8600", rcode, places))


FOUND = Facts(
    key=KEY,
    service_id=ID,
    want=DesiredService(SPEC, DesiredState.RUNNING),
    state=ServiceState(Phase.READY, because("ready"), identity=Identity(42, 1, "boot")),
    why=because("ready"),
    at_agent=entry(),
    in_catalog=in_catalog(),
    node=Known(CatalogNode("consul1", "uuid-a", "uuid-a")),
    dns=answers(("127.0.0.1", 5000)),
)
ABSENT = replace(FOUND, at_agent=Known(None), in_catalog=Known(None), dns=answers(rcode="NXDOMAIN"))
NOT_IN_CATALOG = replace(ABSENT, at_agent=entry())


def wanted(state: DesiredState, **more: object) -> DesiredService:
    return DesiredService(SPEC, state, **more)


def test_a_service_that_can_be_found_has_no_gap():
    told = explain(FOUND)
    assert told.verdict is Verdict.OK
    assert told.reason.code == "explain.found"
    assert told.step is None
    assert [step.link for step in told.steps] == list(Link)
    assert set(told.seen().values()) == {"ok"}


HELD = wanted(DesiredState.STOPPED, source=Source.HOLD, by="anna", why="cleaning")
CASES = {
    "held": (replace(FOUND, want=HELD), "desired", "held.stopped", "next.release"),
    "stopped in KV": (
        replace(FOUND, want=wanted(DesiredState.STOPPED, source=Source.KV_NODE, by="anna")),
        "desired",
        "stopped.ordered",
        "next.start",
    ),
    "in maintenance": (
        replace(FOUND, want=wanted(DesiredState.MAINTENANCE, source=Source.KV_NODE)),
        "desired",
        "maintenance",
        "next.start",
    ),
    "blocked": (
        replace(
            FOUND,
            want=wanted(DesiredState.RUNNING, blocked=because("blocked.driver", driver="docker")),
        ),
        "desired",
        "blocked.driver",
        "next.config",
    ),
    "no longer in the config": (replace(FOUND, want=None), "desired", "config.removed", None),
    "crashed": (
        replace(FOUND, state=ServiceState(Phase.BACKOFF), why=because("exit.code", code=1)),
        "process",
        "exit.code",
        "next.logs",
    ),
    "waits for another": (
        replace(
            FOUND,
            state=ServiceState(Phase.QUEUED),
            why=because("dependency.waiting", dependency="redis"),
        ),
        "process",
        "dependency.waiting",
        "next.explain",
    ),
    "loading": (
        replace(FOUND, state=ServiceState(Phase.STARTING), why=because("starting.loading")),
        "process",
        "starting.loading",
        "next.wait",
    ),
    "not yet at the agent": (
        ABSENT,
        "agent",
        "explain.not_at_agent",
        "next.wait",
    ),
    "register: false": (
        replace(
            ABSENT,
            want=DesiredService(replace(SPEC, registered=False), DesiredState.RUNNING),
        ),
        "agent",
        "explain.not_registered",
        "next.config",
    ),
    "unregistered": (
        replace(ABSENT, state=replace(FOUND.state, unregistered=True)),
        "agent",
        "explain.unregistered",
        "next.register",
    ),
    "its id is taken": (
        replace(FOUND, foreign=True),
        "agent",
        "consul.id_taken",
        "next.deregister",
    ),
    "Consul refuses the entry": (
        replace(ABSENT, refused="bad meta"),
        "agent",
        "consul.entry_refused",
        "next.config",
    ),
    "the rule is missing": (
        replace(ABSENT, denied=(LACKING,)),
        "agent",
        "acl.missing",
        "next.rule",
    ),
    "there is no token": (
        replace(
            ABSENT,
            consul=because("consul.no_token", message="x"),
            denied=(LACKING, Rule("agent_prefix", "", "read", "all of it")),
            in_catalog=Unknown(because("consul.forbidden", message="x")),
        ),
        "agent",
        "consul.no_token",
        "next.token",
    ),
    "the token was revoked": (
        replace(ABSENT, at_agent=Unknown(because("consul.unknown_token"))),
        "agent",
        "consul.unknown_token",
        "next.token",
    ),
    "no leader": (
        replace(FOUND, in_catalog=Unknown(because("consul.no_leader", message="x"))),
        "catalog",
        "consul.no_leader",
        "next.leader",
    ),
    "the node's name is reserved": (
        replace(NOT_IN_CATALOG, node=Known(CatalogNode("consul1", "uuid-a", "uuid-b"))),
        "catalog",
        "explain.node_reserved",
        "next.free_node",
    ),
    "what is left of the node's earlier life": (
        replace(FOUND, node=Known(CatalogNode("consul1", "uuid-a", "uuid-b"))),
        "catalog",
        "explain.node_reserved",
        "next.free_node",
    ),
    "the node is not in the catalog": (
        replace(NOT_IN_CATALOG, node=Known(CatalogNode("consul1", "uuid-a", ""))),
        "catalog",
        "explain.node_missing",
        "next.agent_token",
    ),
    "the catalog is late": (NOT_IN_CATALOG, "catalog", "explain.catalog_late", "next.wait"),
    "the catalog may not be read": (
        replace(NOT_IN_CATALOG, denied=(Rule("node_prefix", "", "read", "nodes"),)),
        "catalog",
        "acl.missing",
        "next.rule",
    ),
    "the catalog shows our token nothing": (
        replace(
            FOUND,
            in_catalog=Unknown(because("consul.forbidden", message="x")),
            denied=(Rule("node_prefix", "", "read", "nodes"),),
        ),
        "catalog",
        "acl.missing",
        "next.rule",
    ),
    "a check fails": (
        replace(FOUND, at_agent=entry(http="critical"), in_catalog=in_catalog("critical")),
        "check",
        "explain.critical",
        "next.logs",
    ),
    "Consul does not reach it": (
        replace(FOUND, at_agent=entry(http="critical", lictor="critical"), probe=True),
        "check",
        "explain.unreachable",
        "next.address",
    ),
    "DNS lets nobody read": (
        replace(FOUND, dns=answers(rcode="NXDOMAIN"), acl=True),
        "dns",
        "explain.dns_anonymous",
        "next.anonymous",
    ),
    "DNS is not there": (
        replace(FOUND, dns=Unknown(because("consul.timeout", message="x"))),
        "dns",
        "consul.timeout",
        "next.doctor",
    ),
    "DNS fails": (
        replace(FOUND, dns=answers(rcode="SERVFAIL")),
        "dns",
        "explain.dns_failed",
        "next.doctor",
    ),
    "DNS names only others": (
        replace(FOUND, dns=answers(("127.0.0.9", 5000))),
        "dns",
        "explain.not_in_dns",
        "next.wait",
    ),
}


@pytest.mark.parametrize(("facts", "link", "code", "step"), CASES.values(), ids=CASES)
def test_the_first_gap_gives_the_reason_and_the_next_step(facts, link, code, step):
    told = explain(facts)
    first = next(each for each in told.steps if each.verdict is not Verdict.OK)
    assert (first.link.value, told.reason.code) == (link, code)
    assert told.verdict is first.verdict
    assert told.reason == first.value
    assert (told.step.code if told.step else None) == step


@pytest.mark.parametrize("facts", [case[0] for case in CASES.values()], ids=CASES)
def test_every_word_of_it_has_a_sentence(facts):
    told = explain(facts)
    reasons = [
        *(step.value for step in told.steps),
        told.reason,
        *([told.step] if told.step else []),
    ]
    assert {reason.code for reason in reasons} <= catalogue("en", "reasons").keys()


def test_what_could_not_be_asked_is_unknown_and_never_a_gap():
    away = Unknown(because("consul.unreachable", message="refused"))
    told = explain(replace(FOUND, at_agent=away, in_catalog=away, dns=away))
    assert told.seen() == {
        "desired": "ok",
        "process": "ok",
        "agent": "unknown",
        "catalog": "unknown",
        "check": "unknown",
        "dns": "unknown",
    }
    assert told.verdict is Verdict.UNKNOWN


def test_a_maintenance_in_consul_is_named_before_the_checks_it_overrides():
    checks = (
        SeenCheck(f"_service_maintenance:{ID}", ID, "critical", "new disks"),
        SeenCheck(f"{ID}:http", ID, "critical", "refused"),
    )
    seen = Known(AgentEntry(SeenService(ID, "piper", "127.0.0.1", 5000), checks))
    told = explain(replace(FOUND, at_agent=seen))
    assert told.reason == because("explain.in_maintenance", why="new disks")
    assert told.step == because("next.end_maintenance", id=ID)


def test_standing_by_in_a_group_is_a_note_and_no_gap():
    want = DesiredService(replace(SPEC, voice_group="voice"), DesiredState.RUNNING)
    second = CatalogEntry("consul1", "127.0.0.1", 5000, "passing", tags=("piper", "standby"))
    told = explain(replace(FOUND, want=want, group=second))
    assert told.verdict is Verdict.OK
    assert told.notes == (because("explain.standby", group="voice"),)
    best = replace(second, tags=("piper",))
    assert explain(replace(FOUND, want=want, group=best)).notes == ()


def test_a_name_that_dns_cannot_carry_is_said_before_anything_of_consul():
    told = explain(replace(ABSENT, key=ServiceKey("not.a.label")))
    assert told.reason == because("explain.name_unsafe", name="not.a.label")


def test_a_rule_for_another_service_explains_nothing():
    other = Rule("service", "other", "write", "another service")
    assert explain(replace(ABSENT, denied=(other,))).reason.code == "explain.not_at_agent"


def test_of_checks_that_fail_the_one_that_consul_asks_itself_is_told():
    checks = (
        SeenCheck(f"{ID}:lictor", ID, "critical", "it ended"),
        SeenCheck(f"{ID}:http", ID, "critical", "refused"),
    )
    facts = replace(
        FOUND,
        at_agent=Known(AgentEntry(SeenService(ID, "piper", "127.0.0.1", 5000), checks)),
        in_catalog=in_catalog("critical"),
    )
    assert explain(facts).reason == because("explain.critical", check="http", output="refused")


def test_what_somebody_else_has_under_our_id_is_never_shown_as_ours():
    told = explain(replace(FOUND, foreign=True))
    said = {step.link.value: step.value.code for step in told.steps}
    assert said["agent"] == "consul.id_taken"
    assert said["catalog"] == "explain.nowhere"
    assert said["check"] == "explain.no_check"
    assert said["dns"] == "explain.not_in_dns"


def test_it_is_found_by_the_name_that_dns_was_asked_for():
    place = ("127.0.0.1", 5000)
    seen = DnsSeen("piper.service.corp.example", "127.0.0.1:8600", "NOERROR", (place,))
    told = explain(replace(FOUND, dns=Known(seen)))
    assert told.reason == because("explain.found", name="piper.service.corp.example")


@pytest.mark.parametrize(
    ("address", "port", "place"),
    [("10.0.0.9", 0, "10.0.0.9"), ("10.0.0.9", 80, "10.0.0.9:80"), ("::1", 80, "[::1]:80")],
)
def test_a_place_is_written_as_people_write_it(address, port, place):
    told = explain(replace(FOUND, in_catalog=in_catalog(address=address, port=port)))
    (step,) = [step for step in told.steps if step.link is Link.CATALOG]
    assert step.value.params["place"] == place


def test_a_note_never_repeats_the_reason():
    away = because("consul.unreachable", message="x")
    cut = replace(FOUND, at_agent=Unknown(away), desired_unknown=away)
    assert explain(cut).notes == ()
    other = replace(cut, desired_unknown=because("desired.not_read_yet"))
    assert [note.code for note in explain(other).notes] == ["desired.not_read_yet"]


def test_an_answer_of_dns_is_not_denied_because_the_catalog_cannot_be_read():
    leaderless = replace(FOUND, in_catalog=Unknown(because("consul.no_leader", message="x")))
    (dns,) = [step for step in explain(leaderless).steps if step.link is Link.DNS]
    assert (dns.verdict, dns.value.code) == (Verdict.OK, "explain.in_dns")
    blind = replace(leaderless, at_agent=Unknown(because("consul.timeout", message="x")))
    (dns,) = [step for step in explain(blind).steps if step.link is Link.DNS]
    assert dns.verdict is Verdict.UNKNOWN
