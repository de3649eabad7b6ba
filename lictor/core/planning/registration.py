"""What Consul should hold for our services, and the fewest writes that get it there.

Consul asks the service itself through the `:http` (or `:tcp`) check, so its answer stays true when
Lictor is dead. The `:lictor` check carries what only the supervisor knows (an exit, a stop): its
status is set on edges, so a crash is critical at once instead of one check interval later.
Entries of others are never touched, not even with a look-alike id: ownership is the exact
`lictor-owner` in Meta (hashicorp/nomad#2294, #4256).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import registration_id
from lictor.core.model.reason import Reason
from lictor.core.model.registration import (
    HASH_META,
    NODE_META,
    OWNER_META,
    CheckDef,
    Deregister,
    Register,
    Registration,
    RegistryView,
    RemoveCheck,
    SeenCheck,
    SeenService,
    SetStatus,
    Write,
)
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Health, Phase, ServiceState

_REGISTERED = frozenset(
    {Phase.STARTING, Phase.READY, Phase.UNHEALTHY, Phase.STOPPING, Phase.BACKOFF, Phase.FAILED}
)
WELL = frozenset({"passing", "warning"})  # statuses of checks that Consul's DNS answers with
_MAINTENANCE = "_service_maintenance:"  # how Consul calls the check of an entry in maintenance
MARKS = ("lictor", "alias")  # the check that every entry has: a service's own, a group member's
_NAMED = ":check:"  # in the id of each named check
_MIN_REAP = 600.0  # seconds; Consul's own floor is 60, but a model may take minutes to load


@dataclass(frozen=True, slots=True)
class Owner:
    """Who we are in Consul: the installation's uuid and the node name in our ids."""

    uuid: str
    node: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One entry that should be there, with the status of its `:lictor` check.

    `told` is what we found by the named checks that Consul cannot ask, as far as they were asked.
    """

    registration: Registration
    status: SetStatus | None
    told: tuple[SetStatus, ...] = ()


def wanted(
    want: DesiredService, state: ServiceState, owner: Owner, say: Callable[[Reason], str]
) -> Wanted | None:
    """The entry of one service: from its first start until it is stopped or unregistered."""
    spec = want.spec
    if not spec.registered or state.unregistered or not _to_be_seen(state):
        return None
    service_id = registration_id(owner.node, spec.key)
    status = _status(service_id, want, state, say)
    checks = [*_consul_checks(spec, service_id, state)]
    checks.append(
        CheckDef(
            check_id=f"{service_id}:lictor",
            name="Lictor: supervised",
            kind="ttl",
            # Critical until `SetStatus` follows: a change of the output alone would reach the
            # catalog up to five minutes later (check_update_interval), a change of status at once.
            status=Health.CRITICAL,
            notes="What the supervisor knows: critical as soon as the service ends.",
        )
    )
    registration = Registration(
        service_id=service_id,
        name=spec.key.name,
        address=spec.address,
        port=spec.port or 0,
        tags=spec.tags,
        meta={**spec.meta, **_meta(spec, owner)},
        checks=tuple(checks),
    )
    return Wanted(with_hash(registration), status)


def _to_be_seen(state: ServiceState) -> bool:
    # Queued after a run that failed: it was not stopped, so its entry stays, critical. Unknown: what
    # nobody can say is no reason to take an entry out.
    again = state.phase is Phase.QUEUED and state.failures > 0
    mute = state.phase is Phase.UNKNOWN and (state.identity is not None or state.failures > 0)
    return state.phase in _REGISTERED or again or mute


def with_hash(registration: Registration) -> Registration:
    """The registration with the hash of its definition in Meta.

    The agent's check list does not return enough to compare definitions field by field.
    """
    checks = tuple(replace(check, status=Health.CRITICAL) for check in registration.checks)
    meta = {name: text for name, text in registration.meta.items() if name != HASH_META}
    bare = (
        registration.name,
        registration.address,
        registration.port,
        sorted(registration.tags),
        sorted(meta.items()),
        checks,
    )
    digest = hashlib.sha256(repr(bare).encode()).hexdigest()[:16]
    return replace(registration, meta={**meta, HASH_META: digest})


def diff(entries: Iterable[Wanted], seen: RegistryView, owner: Owner) -> list[Write]:
    """The writes from what Consul holds to what it should hold; none when nothing differs."""
    writes: list[Write] = []
    mine = {entry.registration.service_id: entry for entry in entries}
    checks: dict[str, set[str]] = {}
    for check in seen.checks.values():
        checks.setdefault(check.service_id, set()).add(check.check_id)
    for service_id, entry in mine.items():
        there = seen.services.get(service_id)
        if there is not None and not belongs_to(there, owner):
            continue  # a stranger holds our id; `conflicts` reports it
        writes.extend(_towards(entry, seen, checks.get(service_id, set())))
    for service_id, there in seen.services.items():
        if service_id not in mine and belongs_to(there, owner):
            writes.append(Deregister(service_id))
    return writes


def is_listed(checks: Collection[str], service_id: str) -> bool:
    """Whether an entry of ours is there, by the ids of the checks that are."""
    return any(f"{service_id}:{mark}" in checks for mark in MARKS)


def is_given_out(checks: Mapping[str, tuple[str, str]], service_id: str) -> bool:
    """Whether DNS names this entry: it is there, and none of its checks is critical.

    `checks`: status and output of every check of the node, by id, as the catalog has them.
    """
    told = [
        status
        for check_id, (status, _) in checks.items()
        if check_id.rpartition(":")[0] == service_id
    ]
    return bool(told) and all(status in WELL for status in told)


def kept_out(checks: Mapping[str, tuple[str, str]]) -> frozenset[str]:
    """The checks that take an entry out of DNS, whatever the service's own health is.

    Somebody's maintenance of one entry, and named checks that fail. `checks` as in `is_given_out`.
    """
    return frozenset(
        check_id
        for check_id, (status, _) in checks.items()
        if status not in WELL and (check_id.startswith(_MAINTENANCE) or _NAMED in check_id)
    )


def is_kept_out(entry: Wanted, failing: AbstractSet[str], *others: str) -> bool:
    """Whether DNS does not give this entry although its service works, now or in a moment.

    `failing` are checks as `kept_out` gives them; `others` are ids under which it is there too. A
    named check that we found failing counts before Consul was told: who depends on it must go first.
    """
    if any(told.status is Health.CRITICAL for told in entry.told):
        return True
    named = {check.check_id for check in entry.registration.checks if _NAMED in check.check_id}
    there = (entry.registration.service_id, *others)
    return not failing.isdisjoint(named | {f"{_MAINTENANCE}{it}" for it in there})


def owned_by(seen: RegistryView, owner: Owner) -> list[str]:
    """Ids of the entries that are ours, by the owner in their Meta and by nothing else."""
    return [service_id for service_id, there in seen.services.items() if belongs_to(there, owner)]


def belongs_to(entry: SeenService, owner: Owner) -> bool:
    """Whether an entry is that owner's. Its id says nothing about that."""
    return entry.meta.get(OWNER_META) == owner.uuid


def farewell(ghost: SeenService) -> list[Write]:
    """How an entry is taken out of a catalog that keeps it although the agent dropped it.

    Consul 1.8.7 cannot remove what was registered with a token that is gone since; registered once
    more with a good token it can (measured). Its check is critical, so that nobody is sent there.
    """
    check = CheckDef(
        check_id=f"{ghost.service_id}:lictor",
        name="Lictor: supervised",
        kind="ttl",
        status=Health.CRITICAL,
    )
    again = Registration(
        ghost.service_id, ghost.name, ghost.address, ghost.port, ghost.tags, ghost.meta, (check,)
    )
    return [Register(again), Deregister(ghost.service_id)]


def after(seen: RegistryView, write: Write) -> RegistryView:
    """What the agent will hold once this write went through: the cache between two reads."""
    services, checks = dict(seen.services), dict(seen.checks)
    match write:
        case Register(registration):
            services[registration.service_id] = SeenService(
                service_id=registration.service_id,
                name=registration.name,
                address=registration.address,
                port=registration.port,
                tags=registration.tags,
                meta=registration.meta,
            )
            for check in registration.checks:
                checks.setdefault(
                    check.check_id,
                    SeenCheck(check.check_id, registration.service_id, check.status.value),
                )
        case Deregister(service_id):
            services.pop(service_id, None)
            checks = {name: c for name, c in checks.items() if c.service_id != service_id}
        case RemoveCheck(check_id):
            checks.pop(check_id, None)
        case SetStatus(check_id, status, output):
            known = checks.get(check_id)
            service_id = known.service_id if known else check_id.rpartition(":")[0]
            checks[check_id] = SeenCheck(check_id, service_id, status.value, output)
    return RegistryView(services, checks)


def service_of(write: Write) -> str:
    """The id of the entry that a write is about."""
    match write:
        case Register(registration):
            return registration.service_id
        case Deregister(service_id):
            return service_id
        case RemoveCheck(check_id) | SetStatus(check_id):
            return check_id.rpartition(":")[0]


def conflicts(entries: Iterable[Wanted], seen: RegistryView, owner: Owner) -> list[str]:
    """Ids of ours that somebody else's entry occupies."""
    return [
        entry.registration.service_id
        for entry in entries
        if (there := seen.services.get(entry.registration.service_id)) is not None
        and not belongs_to(there, owner)
    ]


def _towards(entry: Wanted, seen: RegistryView, have_checks: set[str]) -> Iterable[Write]:
    registration, status = entry.registration, entry.status
    there = seen.services.get(registration.service_id)
    want_checks = {check.check_id for check in registration.checks}
    fresh = (
        there is None
        or there.meta.get(HASH_META) != registration.meta[HASH_META]
        or (there.name, there.address, there.port)
        != (registration.name, registration.address, registration.port)
        or sorted(there.tags) != sorted(registration.tags)
        or not want_checks <= have_checks
    )
    if fresh:
        yield Register(registration)
    for said in (*([status] if status is not None else []), *entry.told):
        known = seen.checks.get(said.check_id)
        if known is None or (known.status, known.output) != (said.status.value, said.output):
            yield said
    for check_id in sorted(have_checks - want_checks):
        if not check_id.startswith("_"):  # `_service_maintenance:…` is the operator's
            yield RemoveCheck(check_id)


def _status(
    service_id: str, want: DesiredService, state: ServiceState, say: Callable[[Reason], str]
) -> SetStatus:
    check_id = f"{service_id}:lictor"
    if want.state is DesiredState.MAINTENANCE:
        return SetStatus(
            check_id, Health.CRITICAL, f"maintenance: {want.why or want.by}".rstrip(": ")
        )
    # Of an unhealthy one that Consul asks itself, Consul's own check says so.
    asked = want.spec.health.probe is not None and want.spec.health.probe.asked_by_consul
    alive = state.phase is Phase.READY or (state.phase is Phase.UNHEALTHY and asked)
    status = Health.PASSING if alive else Health.CRITICAL
    if state.phase is Phase.UNKNOWN and state.ready_since is not None:
        status = Health.WARNING  # still found: its own check, which Consul asks, knows better
    why = state.reason
    if state.phase is Phase.STARTING and state.last_exit is not None:
        why = state.last_exit.reason()  # what people look for is why it went, not that it returns
    return SetStatus(check_id, status, say(why))


def _consul_checks(spec: ServiceSpec, service_id: str, state: ServiceState) -> Iterable[CheckDef]:
    status = Health.PASSING if state.phase is Phase.READY else Health.CRITICAL
    probe = spec.health.probe
    reap = max(_MIN_REAP, 3 * spec.health.startup)
    if probe is not None and probe.asked_by_consul:
        yield CheckDef(
            check_id=f"{service_id}:{probe.kind}",
            name="Health" if probe.kind == "http" else "Port answers",
            kind=probe.kind,
            target=probe.target,
            interval=probe.interval,
            timeout=probe.timeout,
            deregister_after=reap,
            status=status,
            notes=f"Consul asks {probe.target} itself.",
        )
    for name, extra in sorted(spec.checks.items()):
        if extra.asked_by_consul:
            yield CheckDef(
                check_id=f"{service_id}{_NAMED}{name}",
                name=name,
                kind=extra.kind,
                target=extra.target,
                interval=extra.interval,
                timeout=extra.timeout,
                status=status,
                notes=f"Consul asks {extra.target} itself.",
            )
        else:
            yield CheckDef(
                check_id=f"{service_id}{_NAMED}{name}",
                name=name,
                kind="ttl",
                status=Health.CRITICAL,  # until it was asked
                notes=f"Lictor asks: {extra.kind} {extra.target}".rstrip(),
            )


def _meta(spec: ServiceSpec, owner: Owner) -> Mapping[str, str]:
    meta = {
        OWNER_META: owner.uuid,
        NODE_META: owner.node,
        "lictor-driver": spec.driver,
        "external-source": "lictor",
    }
    if spec.key.instance:
        meta["lictor-instance"] = spec.key.instance
    if spec.display_name and spec.display_name != spec.key.name:
        meta["lictor-name"] = spec.display_name
    metrics = spec.later.get("metrics")
    if isinstance(metrics, str) and spec.port is not None:
        meta["lictor-metrics"] = metrics  # for Prometheus: see templates/prometheus
    return meta
