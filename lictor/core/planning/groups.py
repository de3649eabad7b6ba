"""Who of a group answers under the group's name, and what Consul holds to make it so.

Services that can replace each other share a `group`. Each is registered under its own name, and a
second time as an instance of the group's; all but the best that works carry the tag `standby`, which
the group's prepared query leaves out. So `voice.service.consul` is every live engine and
`voice.query.consul` the best one. Consul has no failover from one service name to another
(hashicorp/consul#22343) and gives every SRV record the same priority (hashicorp/consul#252), hence
the tags.

Three rules. A failed best is replaced at once. A better one that was lost takes over again only
after it has worked for its hold-down without a break, and each loss soon after the last doubles
that time. Whoever gets the place loses `standby` before the other gets it: for a moment two answer,
never none. Nothing here knows the time or talks to Consul.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import (
    CheckDef,
    Deregister,
    Register,
    Registration,
    RegistryView,
    Write,
)
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning.registration import Owner, Wanted, service_of, with_hash

STANDBY = "standby"
GROUP_META = "lictor-group"
MEMBER_META = "lictor-member"

_PASSES = 3  # so many intervals of its check a member that returned must work before it takes over
_HOLD_DOWN = (5.0, 300.0)  # seconds, least and most
_FORGIVEN = 600.0  # seconds of work after which earlier losses count no more
_PROOF = 0.25  # seconds until it is looked again whether Consul's catalog has followed
_BARELY = 0.001  # seconds by which a wake-up may be early


@dataclass(frozen=True, slots=True)
class Member:
    """One service of a group as it is now. `hold_down` is seconds; the lowest `rank` is best.

    `proven`: Consul's catalog says so too. One that just became ready may wait there for the next
    answer of its check, and until then its name would be answered by nobody. `kept_out`: it works,
    and DNS does not give it all the same; then it is not `fit`.
    """

    key: ServiceKey
    rank: int
    fit: bool
    hold_down: float
    proven: bool = True
    kept_out: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """What is remembered of one member: since when it works, and how often it was lost lately."""

    fit_since: float | None = None
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """One group of this node. `best` is the member without `standby`; None before any worked."""

    best: ServiceKey | None = None
    forms: Mapping[ServiceKey, Form] = field(default_factory=dict)


def member(
    want: DesiredService, state: ServiceState, *, proven: bool = True, kept_out: bool = False
) -> Member:
    """How a service stands as a member. Fit: it runs, is wanted, and its last check passed.

    `kept_out`: DNS does not give it all the same, by a named check or somebody's maintenance.
    """
    probe = want.spec.health.probe
    interval = probe.interval if probe is not None else 0.0
    return Member(
        key=want.spec.key,
        rank=want.spec.rank,
        fit=want.state is DesiredState.RUNNING
        and state.phase is Phase.READY
        and state.failing_since is None
        and not kept_out,
        hold_down=max(_HOLD_DOWN[0], _PASSES * interval),
        proven=proven,
        kept_out=kept_out,
    )


def judge(before: Standing, members: Iterable[Member], now: float) -> Standing:
    """Who is the best now. `now` is monotonic seconds; members that are gone are forgotten."""
    present = sorted(members, key=_best_first)
    forms = {each.key: _form(before.forms.get(each.key), each, now) for each in present}
    fit = [each for each in present if each.fit]
    holder = next((each for each in fit if each.key == before.best), None)
    best: ServiceKey | None
    if holder is not None:
        better = [
            each
            for each in fit
            if each.rank < holder.rank
            and each.proven
            and now >= _takes_over(forms[each.key], each) - _BARELY
        ]
        best = (better or [holder])[0].key
    elif fit:
        best = min(fit, key=lambda each: (not each.proven, *_best_first(each))).key
    else:
        # Nobody works: whoever held the place keeps it, because to move it would help nobody.
        best = before.best if before.best in forms else None
    return Standing(best, forms)


def look_again(standing: Standing, members: Iterable[Member], now: float) -> float | None:
    """When (monotonic) the next member will have worked long enough to take over; None: nobody."""
    present = {each.key: each for each in members}
    holder = present.get(standing.best) if standing.best is not None else None
    if holder is None or not holder.fit:
        return None
    moments = [
        max(_takes_over(standing.forms[each.key], each), now if each.proven else now + _PROOF)
        for each in present.values()
        if each.fit and each.rank < holder.rank and each.key in standing.forms
    ]
    return min((moment for moment in moments if moment > now), default=None)


def place(
    standing: Standing, each: Member, holder: Member | None, now: float
) -> tuple[str, Reason, float | None]:
    """How a member stands, for people: its role, why, and the seconds until it may take over.

    `best` has no `standby` tag, `standby` works and has it, `out` does not work at present. `holder`
    is the member that is best.
    """
    service = str(each.key)
    if holder is not None and each.key == holder.key:
        why = because("group.is_best", service=service)
        if not each.fit:
            why = because("group.keeps_place", service=service)
        return "best", why, None
    if not each.fit and each.kept_out:
        return "out", because("group.kept_out", service=service), None
    if not each.fit:
        return "out", because("group.out", service=service), None
    if holder is None or each.rank >= holder.rank:
        best = str(holder.key) if holder is not None else "-"
        return "standby", because("group.stands_by", service=service, best=best), None
    left = _takes_over(standing.forms.get(each.key, Form()), each) - now
    if left <= _BARELY:
        return "standby", because("group.unproven", service=service), None
    return (
        "standby",
        because("group.on_trial", service=service, left=round(left, 1)),
        round(left, 1),
    )


def group_entry(want: DesiredService, own: Wanted, owner: Owner, *, standby: bool) -> Wanted:
    """The second entry of a member, under its group's name.

    Its only check is an alias of the member's own entry: Consul repeats the verdict of all its checks
    within milliseconds (5 ms on 1.8.7), and the service is not asked twice.
    """
    spec, first = want.spec, own.registration
    group = spec.voice_group or ""
    service_id = entry_id(owner.node, group, spec.key)
    tags = [spec.key.name, *(tag for tag in spec.tags if tag not in {spec.key.name, STANDBY})]
    meta = {
        **first.meta,
        GROUP_META: group,
        MEMBER_META: str(spec.key),
        "lictor-rank": str(spec.rank),
    }
    alias = CheckDef(
        check_id=f"{service_id}:alias",
        name=f"{spec.key} works",
        kind="alias",
        target=first.service_id,
        deregister_after=max(check.deregister_after or 0.0 for check in first.checks) or None,
        status=Health.CRITICAL,
        notes=f"Repeats what the checks of {spec.key} say.",
    )
    registration = Registration(
        service_id=service_id,
        name=group,
        address=first.address,
        port=first.port,
        tags=(*tags, *([STANDBY] if standby else [])),
        meta=meta,
        checks=(alias,),
    )
    return Wanted(with_hash(registration), None)


def entry_id(node: str, group: str, key: ServiceKey) -> str:
    """The Consul service id of a member under its group: `lictor:<node>:<group>:<member>`."""
    tail = f":{key.instance}" if key.instance else ""
    return f"lictor:{node}:{group}:{key.name}{tail}"


def promote_first(
    writes: Sequence[Write], seen: RegistryView
) -> tuple[list[Write], list[Write], list[Registration]]:
    """The writes to do first, the others, and what the catalog must show in between.

    First comes all that gives a place and all that is about those who get it (they work, so what is
    said of their own entries is good news). Only then may anybody lose a place or be called dead:
    Consul carries changes to its catalog in no particular order, so the second part has to wait
    until the first has arrived there. The third part is empty when there is nothing to wait for.
    """
    promoted = [
        write.registration
        for write in writes
        if isinstance(write, Register) and _promotes(write.registration, seen)
    ]
    if not promoted:
        return [], list(writes), []
    theirs = {entry.service_id for entry in promoted}
    theirs |= {check.target for entry in promoted for check in entry.checks}
    first = [write for write in writes if service_of(write) in theirs]
    rest = [write for write in writes if service_of(write) not in theirs]
    return first, rest, promoted if rest else []


def names_first(writes: Sequence[Write], seen: RegistryView) -> tuple[list[Write], list[Write]]:
    """The writes that take entries under a group's name out, which come first, and the others.

    An alias of an entry that is gone passes (1.8.7: no check, no objection): taken out together, the
    service that has just ended would be in the group's answer again for some hundredths of a second.
    """
    leaving: list[Write] = [
        write
        for write in writes
        if isinstance(write, Deregister)
        and (there := seen.services.get(write.service_id)) is not None
        and GROUP_META in there.meta
    ]
    return leaving, [write for write in writes if write not in leaving]


def names_of(specs: Iterable[ServiceSpec]) -> list[str]:
    """The groups that a config defines, as far as Consul is to hear of them."""
    found = {spec.voice_group for spec in specs if spec.registered}
    return sorted(name for name in found if name is not None)


def _promotes(registration: Registration, seen: RegistryView) -> bool:
    if GROUP_META not in registration.meta or STANDBY in registration.tags:
        return False
    there = seen.services.get(registration.service_id)
    return there is None or STANDBY in there.tags


def _best_first(each: Member) -> tuple[int, ServiceKey]:
    return each.rank, each.key


def _form(before: Form | None, each: Member, now: float) -> Form:
    known = before or Form()
    if not each.fit:
        if known.fit_since is None:
            return known
        forgiven = now - known.fit_since >= _FORGIVEN
        return Form(None, 1 if forgiven else known.losses + 1)
    return known if known.fit_since is not None else replace(known, fit_since=now)


def _takes_over(form: Form, each: Member) -> float:
    """When this one may take the place of a lower one that works: at once if it was never lost."""
    since = form.fit_since if form.fit_since is not None else 0.0
    if not form.losses:
        return since
    return since + min(_HOLD_DOWN[1], each.hold_down * 2.0 ** min(form.losses - 1, 10))
