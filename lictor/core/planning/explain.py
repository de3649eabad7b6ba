"""From facts to the chain desired → process → agent → catalog → check → DNS, and its one reason.

Each link is judged by itself, so that the table shows everything that is known; the verdict is that
of the first link that is not ok, because what follows it is mostly its consequence. Pure: the shell
gathers the facts (`runtime.explaining`), the command line and the API show the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lictor.core.model.access import Rule
from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.explanation import (
    AgentEntry,
    CatalogEntry,
    Explanation,
    Facts,
    Link,
    Step,
    Verdict,
)
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import is_label
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ASKED_BY_CONSUL
from lictor.core.model.state import Phase
from lictor.core.planning.groups import STANDBY
from lictor.core.planning.reconcile import hold_reason, maintenance_reason, stop_reason

#: Without any token every rule is missing, and none of them is the reason.
_NO_TOKEN = frozenset({"consul.no_token", "consul.token_file"})
_NEXT_OF_CONSUL = frozenset({"consul.unknown_token", "consul.forbidden"}) | _NO_TOKEN


def explain(facts: Facts) -> Explanation:
    """The chain of one service with its verdict."""
    if facts.foreign:  # what Consul shows under our id is about somebody else's service
        facts = replace(facts, at_agent=Known(None), in_catalog=Known(None))
    if facts.consul.code in _NO_TOKEN:
        facts = replace(facts, denied=())
    judged = [
        (Link.DESIRED, *_desired(facts)),
        (Link.PROCESS, *_process(facts)),
        (Link.AGENT, *_agent(facts)),
        (Link.CATALOG, *_catalog(facts)),
        (Link.CHECK, *_check(facts)),
        (Link.DNS, *_dns(facts)),
    ]
    steps = tuple(Step(link, verdict, value) for link, verdict, value, _ in judged)
    first = next((each for each in judged if each[1] is not Verdict.OK), None)
    notes = tuple(_notes(facts))
    if first is None:
        found = because("explain.found", name=_name_in_dns(facts))
        return Explanation(facts.key, Verdict.OK, steps, found, notes=notes)
    others = tuple(note for note in notes if note != first[2])
    return Explanation(facts.key, first[1], steps, first[2], first[3], others)


def _name_in_dns(facts: Facts) -> str:
    """What DNS was asked: Consul may answer for another domain than `consul`."""
    asked = facts.dns.value.question if isinstance(facts.dns, Known) else ""
    return asked or f"{facts.key.name}.service.consul"


_Judged = tuple[Verdict, Reason, Reason | None]
_WAIT = because("next.wait")


def _desired(facts: Facts) -> _Judged:
    want, name = facts.want, str(facts.key)
    if want is None:
        return Verdict.GAP, because("config.removed"), None
    held = want.source is Source.HOLD
    release = because("next.release", service=name)
    if want.blocked is not None:
        return Verdict.GAP, want.blocked, because("next.config")
    if want.state is DesiredState.MAINTENANCE:
        if held:
            return Verdict.GAP, hold_reason(want), release
        why = maintenance_reason(want)
        return Verdict.GAP, why, because("next.start", service=name)
    if want.state is DesiredState.STOPPED:
        step = release if held else because("next.start", service=name)
        return Verdict.GAP, stop_reason(want), step
    return Verdict.OK, hold_reason(want) if held else _wanted(want), None


def _wanted(want: DesiredService) -> Reason:
    if want.source is Source.CONFIG:
        return because("start.config")
    return because("start.ordered", by=want.by or "Consul KV")


def _process(facts: Facts) -> _Judged:
    phase, why, name = facts.state.phase, facts.why, str(facts.key)
    if phase is Phase.READY:
        identity = facts.state.identity
        if identity is not None and identity.container_id:
            container = identity.container_id[:12]
            return Verdict.OK, because("explain.contained", container=container), None
        if identity is not None and identity.pid:
            return Verdict.OK, because("explain.runs", pid=identity.pid), None
        return Verdict.OK, because("explain.answers"), None
    if phase is Phase.UNKNOWN:
        return Verdict.UNKNOWN, why, because("next.doctor")
    if phase in {Phase.STARTING, Phase.STOPPING}:
        return Verdict.GAP, why, _WAIT
    if phase is Phase.QUEUED:
        dependency = str(why.params.get("dependency", ""))
        step = because("next.explain", service=dependency) if dependency else _WAIT
        return Verdict.GAP, why, step
    if phase in {Phase.FAILED, Phase.BACKOFF, Phase.UNHEALTHY}:
        return Verdict.GAP, why, because("next.logs", service=name)
    return Verdict.GAP, why, because("next.start", service=name)


def _agent(facts: Facts) -> _Judged:
    choice = _by_choice(facts)
    if choice is not None:
        return choice
    if facts.foreign:
        step = because("next.deregister", id=facts.service_id)
        return Verdict.GAP, because("consul.id_taken", id=facts.service_id), step
    match facts.at_agent:
        case Known(AgentEntry() as entry):
            seen = entry.service
            return Verdict.OK, because("explain.at_agent", id=seen.service_id), None
        case Known():
            return _absent(facts)
        case Unknown(reason):
            return Verdict.UNKNOWN, *_consul_away(facts, reason)


def _by_choice(facts: Facts) -> _Judged | None:
    """Why it is not meant to be registered at all, if so."""
    name = str(facts.key)
    if not is_label(facts.key.name):  # consul.md §2: Consul takes it, and DNS cannot carry it
        return Verdict.GAP, because("explain.name_unsafe", name=facts.key.name), None
    if facts.want is not None and not facts.want.spec.registered:
        return Verdict.GAP, because("explain.not_registered"), because("next.config")
    if facts.state.unregistered:
        step = because("next.register", service=name)
        return Verdict.GAP, because("explain.unregistered"), step
    return None


def _absent(facts: Facts) -> _Judged:
    rule = _denied(facts.denied, "service", facts.key.name)
    if rule is not None:
        return Verdict.GAP, *_missing(rule)
    if facts.refused:
        reason = because("consul.entry_refused", id=facts.service_id, message=facts.refused)
        return Verdict.GAP, reason, because("next.config")
    if facts.consul.code != "consul.ok":
        return Verdict.GAP, *_consul_away(facts, facts.consul)
    return Verdict.GAP, because("explain.not_at_agent"), _WAIT


def _missing(rule: Rule) -> tuple[Reason, Reason]:
    return because("acl.missing", rule=rule.hcl), because("next.rule", rule=rule.hcl)


def _consul_away(facts: Facts, reason: Reason) -> tuple[Reason, Reason]:
    """What keeps Consul from answering us, with the rule if it is a missing one."""
    if facts.consul.code in _NO_TOKEN and reason.code == "consul.forbidden":
        reason = facts.consul
    rule = _denied(facts.denied, "agent") if reason.code == "consul.forbidden" else None
    if rule is not None:
        return _missing(rule)
    if reason.code in _NEXT_OF_CONSUL:
        return reason, because("next.token")
    if reason.code == "consul.no_leader":
        return reason, because("next.leader")
    return reason, because("next.doctor")


def _denied(rules: Iterable[Rule], kind: str, segment: str | None = None) -> Rule | None:
    return next(
        (rule for rule in rules if rule.kind == kind and segment in {None, rule.segment}), None
    )


def _catalog(facts: Facts) -> _Judged:
    reserved = _reserved(facts)
    if reserved is not None:  # what the catalog shows of us then is of the time before, for ever
        return reserved
    match facts.in_catalog:
        case Known(CatalogEntry() as entry):
            value = because("explain.in_catalog", place=_place(entry), node=entry.node)
            return Verdict.OK, value, None
        case Known():
            return _not_in_catalog(facts)
        case Unknown(reason):
            rule = _hiding(facts) if reason.code == "consul.forbidden" else None
            if rule is not None:
                return Verdict.UNKNOWN, *_missing(rule)
            return Verdict.UNKNOWN, *_consul_away(facts, reason)


def _place(entry: CatalogEntry) -> str:
    """`address:port`, as people write it; a worker without a port has only the first."""
    host = f"[{entry.address}]" if ":" in entry.address else entry.address
    return f"{host}:{entry.port}" if entry.port else host


def _hiding(facts: Facts) -> Rule | None:
    """The rule without which Consul shows our token nothing, whatever there is."""
    return _denied(facts.denied, "node") or _denied(facts.denied, "service", facts.key.name)


def _not_in_catalog(facts: Facts) -> _Judged:
    at_agent = isinstance(facts.at_agent, Known) and facts.at_agent.value is not None
    if not at_agent:
        return Verdict.GAP, because("explain.nowhere"), None
    rule = _hiding(facts)
    if rule is not None:  # it may well be there: without the rule the answer is empty, not an error
        return Verdict.UNKNOWN, *_missing(rule)
    if isinstance(facts.node, Known) and not facts.node.value.catalog_id:
        name = facts.node.value.name
        reason = because("explain.node_missing", node=name)
        return Verdict.GAP, reason, because("next.agent_token", node=name)
    return Verdict.GAP, because("explain.catalog_late"), _WAIT


def _reserved(facts: Facts) -> _Judged | None:
    """Whether Consul's servers know another node by the name of our agent's node."""
    at_agent = isinstance(facts.at_agent, Known) and facts.at_agent.value is not None
    if not at_agent or not isinstance(facts.node, Known):
        return None
    node = facts.node.value
    if not node.catalog_id or node.catalog_id == node.agent_id:
        return None
    reason = because("explain.node_reserved", node=node.name, other=node.catalog_id)
    return Verdict.GAP, reason, because("next.free_node", node=node.name)


def _check(facts: Facts) -> _Judged:
    match facts.at_agent:
        case Known(AgentEntry() as entry):
            pass
        case Known():
            return Verdict.GAP, because("explain.no_check"), None
        case Unknown(reason):
            return Verdict.UNKNOWN, *_consul_away(facts, reason)
    reserved = [c for c in entry.checks if c.check_id.startswith("_service_maintenance:")]
    if reserved:
        step = because("next.end_maintenance", id=facts.service_id)
        return Verdict.GAP, because("explain.in_maintenance", why=_line(reserved[0].output)), step
    failing = [check for check in entry.checks if check.status == "critical"]
    if not failing:
        value = because("explain.passing", checks=len(entry.checks))
        return Verdict.OK, value, None
    # Consul's own question says more than our word that follows from it.
    failing.sort(key=lambda check: check.check_id.rpartition(":")[2] not in ASKED_BY_CONSUL)
    return _failing(facts, failing[0].check_id.rpartition(":")[2], _line(failing[0].output))


def _failing(facts: Facts, kind: str, output: str) -> _Judged:
    name = str(facts.key)
    if kind in ASKED_BY_CONSUL and facts.probe:
        target = _target(facts.want)
        reason = because("explain.unreachable", target=target, output=output or "-")
        return Verdict.GAP, reason, because("next.address", service=name)
    reason = because("explain.critical", check=kind, output=output or "-")
    return Verdict.GAP, reason, because("next.logs", service=name)


def _target(want: DesiredService | None) -> str:
    probe = want.spec.health.probe if want is not None else None
    return probe.target if probe is not None else "?"


def _line(text: str) -> str:
    """The first line that says something, cut to what a table can hold."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= 200 else f"{first[:199]}…"


def _dns(facts: Facts) -> _Judged:
    match facts.dns:
        case Unknown(reason):
            return Verdict.UNKNOWN, *_consul_away(facts, reason)
        case Known(seen):
            pass
    entry = facts.in_catalog.value if isinstance(facts.in_catalog, Known) else None
    ours = _places(facts)
    if ours & set(seen.places):
        value = because("explain.in_dns", question=seen.question, count=len(seen.places))
        return Verdict.OK, value, None
    if isinstance(facts.in_catalog, Unknown) and not ours and seen.places:
        return Verdict.UNKNOWN, *_consul_away(facts, facts.in_catalog.reason)
    if seen.rcode in {"SERVFAIL", "REFUSED"}:
        reason = because("explain.dns_failed", server=seen.server, rcode=seen.rcode)
        return Verdict.GAP, reason, because("next.doctor")
    passing = entry is not None and entry.health in {"passing", "warning"}
    if passing and not seen.places and facts.acl:
        reason = because("explain.dns_anonymous", question=seen.question)
        return Verdict.GAP, reason, because("next.anonymous")
    reason = because("explain.not_in_dns", question=seen.question, count=len(seen.places))
    return Verdict.GAP, reason, _WAIT if passing else None


def _places(facts: Facts) -> set[tuple[str, int]]:
    """Where DNS would say that it is: as in the catalog; unread, as our own entry says."""
    match facts.in_catalog, facts.at_agent:
        case Known(CatalogEntry() as entry), _:
            return {(entry.address, entry.port)}
        case Unknown(), Known(AgentEntry() as at_agent):
            seen = at_agent.service
            return {(seen.address, seen.port)} if seen.address else set()
        case _:
            return set()


def _notes(facts: Facts) -> Iterable[Reason]:
    """What is no gap, and worth knowing."""
    if facts.desired_unknown is not None:
        yield facts.desired_unknown
    if facts.want is not None and facts.want.refused is not None:
        yield facts.want.refused
    group = facts.want.spec.voice_group if facts.want is not None else None
    if group and facts.group is not None and STANDBY in facts.group.tags:
        yield because("explain.standby", group=group)
