"""`lictor discover`: the answer of the agent, and how one instance is shown.

The record's fields are the public contract; the same function shapes what is found without an agent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lictor.core.errors import ConsulUnreachable
from lictor.core.model.names import ServiceKey, registration_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import OWNER_META
from lictor.core.planning.groups import MEMBER_META
from lictor.core.planning.leftout import left_out, stands_by
from lictor.core.ports import Instance
from lictor.core.runtime import views
from lictor.core.runtime.control import Emit
from lictor.core.runtime.registry.finder import Found
from lictor.core.runtime.storage.codec import key_from
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


def record(
    one: Instance, *, tag: str | None = None, since: float | None = None, found: Found
) -> dict[str, Any]:
    """One instance as `lictor discover -o json` prints it.

    `left_out`: DNS does not give it, and `sentence` says why; a member of a group that stands by has
    a `sentence` too. `since` (Unix seconds) is when it came into its state and `age_s` how long that
    is, null where nobody saw it. `answer_age_s` is how old the whole answer is.
    """
    why = left_out(
        health=one.health,
        check=one.check,
        output=one.output,
        node=one.node,
        tags=one.tags,
        tag=tag,
        service=one.service,
    )
    told = why or stands_by(one.tags, one.meta)
    return {
        **one.record(),
        "left_out": why is not None,
        **_reason(told),
        "since": since,
        "age_s": None if since is None else round(max(0.0, found.at + found.age - since), 1),
        "cached": found.away is not None,
        "answer_age_s": round(found.age, 1),
    }


def carries(record_: dict[str, Any], tag: str | None) -> bool:
    """Whether a record's instance has the tag that was asked for."""
    return tag is None or tag.lower() in {str(each).lower() for each in record_["tags"]}


def from_memory(found: Found) -> dict[str, Any] | None:
    """What to say of an answer that Consul did not give now; None: it did."""
    if found.away is None:
        return None
    message = str(found.away.params.get("message", ""))
    return _reason(because("discover.from_memory", age=round(found.age, 1), message=message))


async def discover(agent: Agent, args: dict[str, Any], emit: Emit) -> list[dict[str, Any]]:
    """Every instance, from Consul or, while it is away, from what it said last."""
    name, tag = args.get("name"), args.get("tag")
    found = await _found(agent, name, args)
    notice = from_memory(found)
    if notice is not None:
        await emit({"notice": notice})
    records = [_of_agent(agent, one, tag, found) for one in found.instances]
    if not args.get("all"):
        return [one for one in records if carries(one, tag)]
    there = {one.id for one in found.instances}
    return [*records, *_not_there(agent, name, there, found)]


async def _found(agent: Agent, name: str | None, args: dict[str, Any]) -> Found:
    ports, finder, dc = agent.consul.ports, agent.consul.finder, args.get("dc")
    state = agent.consul.state
    away = Reason(state.code, {"message": views.say(state)})
    if ports is not None:
        doubt = None if state.code == "consul.ok" else away
        return await finder.find(ports.discovery, name, dc=dc, near=args.get("near"), doubt=doubt)
    found = finder.recall(name, dc=dc, away=away)
    if found is None:
        raise worded(ConsulUnreachable, state)
    return found


def _of_agent(agent: Agent, one: Instance, tag: str | None, found: Found) -> dict[str, Any]:
    since = _own_since(agent, one)
    if since is None:
        since = agent.consul.finder.since(one)
    if one.health == "critical" and (said := agent.consul.said(one.id)):
        one = Instance(
            *(one.service, one.id, one.node, one.address, one.port),
            *(one.tags, one.meta, one.health, said, one.check),
        )
    return record(one, tag=tag, since=since, found=found)


def _own_since(agent: Agent, one: Instance) -> float | None:
    """For what runs here, the runner knows exactly."""
    if one.meta.get(OWNER_META) != agent.owner.uuid:
        return None
    member = one.meta.get(MEMBER_META)
    key: ServiceKey | None = ServiceKey(one.service, one.meta.get("lictor-instance", ""))
    if member is not None:
        key = key_from(member)  # None: whoever wrote that, it was not us
    runner = agent.reconciler.runners.get(key) if key is not None else None
    if runner is None:
        return None
    state, clock = runner.state, agent.tools.clock
    began = state.failing_since if state.failing_since is not None else state.since
    return round(clock.wall() - (clock.now() - began), 3)


def _not_there(
    agent: Agent, name: str | None, there: Iterable[str], found: Found
) -> list[dict[str, Any]]:
    """The services of this host by that name (or in that group) of which Consul knows nothing."""
    known, rows = set(there), []
    for key, runner in agent.reconciler.runners.items():
        spec = runner.spec
        meant = name is None or name in {key.name, spec.voice_group}
        service_id = registration_id(agent.node, key)
        if not meant or service_id in known or agent.consul.groups.is_there(key, known):
            continue
        why = views.say(runner.state.reason)
        if not spec.registered:
            told = because("left_out.never", service=str(key))
        elif runner.state.unregistered:
            told = because("left_out.unregistered", service=str(key))
        else:
            told = because("left_out.not_registered", why=why)
        bare = Instance(
            key.name, service_id, agent.node, spec.address, spec.port or 0, spec.tags, {}, "", ""
        )
        rows.append(
            {**record(bare, found=found), "health": None, "left_out": True, **_reason(told)}
        )
    return rows


def _reason(reason: Reason | None) -> dict[str, Any]:
    if reason is None:
        return {"sentence": None, "reason": None, "reason_params": {}}
    return views.told(reason)
