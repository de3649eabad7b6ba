"""Gathers the facts for `lictor explain`: every link is asked at once, each with a deadline.

A link that cannot be asked is `Unknown` with its reason, and the others are shown all the same. The
judgement is `planning.explain`; nothing here changes anything. The command line asks through the
control socket; the HTTP API calls `explain` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lictor.core.errors import ConsulError, Forbidden
from lictor.core.model.access import Rule
from lictor.core.model.explanation import (
    AgentEntry,
    CatalogEntry,
    CatalogNode,
    Explanation,
    Facts,
)
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey, registration_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import OWNER_META, RegistryView
from lictor.core.planning.access import rules_for
from lictor.core.planning.explain import explain as judge
from lictor.core.ports import ConsulPorts, Instance
from lictor.core.runtime import views

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

T = TypeVar("T")

#: Seconds for one link; above the 7.1 s for which servers without a leader hold a request.
_PATIENCE = 8.0


async def explain(agent: Agent, key: ServiceKey) -> Explanation:
    """The chain of one service of this host, which must exist; takes at most a few deadlines."""
    return judge(await gather(agent, key))


async def gather(agent: Agent, key: ServiceKey) -> Facts:
    """A snapshot of what each link says."""
    runner, want = agent.reconciler.runners[key], agent.reconciler.desired.get(key)
    service_id = registration_id(agent.node, key)
    now = agent.tools.clock.now()
    why = views.parts(runner.state, want, now=now)[0]
    base = Facts(
        key=key,
        service_id=service_id,
        want=want,
        state=runner.state,
        why=why,
        consul=agent.consul.state,
        refused=agent.consul.refused.get(service_id, ""),
        desired_unknown=agent.keeper.unknown,
    )
    ports = agent.consul.ports
    if ports is None:
        away = Unknown(agent.consul.state)
        return replace(base, at_agent=away, in_catalog=away, node=away, dns=away)
    facts = await _ask_consul(agent, ports, base)
    return replace(facts, probe=await _own_probe(agent, facts))


async def _ask_consul(agent: Agent, ports: ConsulPorts, base: Facts) -> Facts:
    key, service_id = base.key, base.service_id
    group = base.want.spec.voice_group if base.want is not None else None
    rules = rules_for(agent.node, agent.config.consul.kv_prefix, agent.config.services.values())
    seen, instances, node, dns, denied, members = await asyncio.gather(
        _read(ports.registry.read()),
        _read(ports.discovery.discover(key.name)),
        _read(ports.inspection.node()),
        _read(ports.inspection.dns(key.name)),
        _read(ports.inspection.denied(rules)),
        _read(ports.discovery.discover(group)) if group else _nothing(),
    )
    at_agent, foreign = _at_agent(seen, service_id, agent.owner.uuid)
    in_catalog = _in_catalog(instances, service_id, node, at_agent)
    lacking: Sequence[Rule] | None = denied.value if isinstance(denied, Known) else ()
    return replace(
        base,
        at_agent=at_agent,
        foreign=foreign,
        in_catalog=in_catalog,
        node=node,
        dns=dns,
        denied=tuple(lacking or ()),
        acl=lacking is not None,
        group=_in_group(members, in_catalog),
    )


async def _read(question: Awaitable[T]) -> Known[T] | Unknown:
    try:
        async with asyncio.timeout(_PATIENCE):
            return Known(await question)
    except ConsulError as error:
        if isinstance(error, Forbidden) and error.unknown_token:
            return Unknown(because("consul.unknown_token"))
        return Unknown(Reason(error.code, {"message": error.message}))
    except TimeoutError:
        return Unknown(because("consul.timeout", message=f"no answer within {_PATIENCE:g} s"))


async def _nothing() -> Known[list[Instance]]:
    return Known([])


def _at_agent(
    seen: Known[RegistryView] | Unknown, service_id: str, owner: str
) -> tuple[Known[AgentEntry | None] | Unknown, bool]:
    """Our entry at the local agent, and whether somebody else's stands in its place."""
    if isinstance(seen, Unknown):
        return seen, False
    service = seen.value.services.get(service_id)
    if service is None:
        return Known(None), False
    checks = tuple(c for c in seen.value.checks.values() if c.service_id == service_id)
    return Known(AgentEntry(service, checks)), service.meta.get(OWNER_META) != owner


def _in_catalog(
    instances: Known[list[Instance]] | Unknown,
    service_id: str,
    node: Known[CatalogNode] | Unknown,
    at_agent: Known[AgentEntry | None] | Unknown,
) -> Known[CatalogEntry | None] | Unknown:
    if isinstance(instances, Unknown):
        return instances
    here = node.value.name if isinstance(node, Known) else None
    owner = _owner_of(at_agent)
    for one in instances.value:
        same_node = here is None or one.node == here  # ids are unique per node only
        if one.id == service_id and same_node and owner in {None, one.meta.get(OWNER_META)}:
            return Known(_entry(one))
    return Known(None)


def _owner_of(at_agent: Known[AgentEntry | None] | Unknown) -> str | None:
    if isinstance(at_agent, Known) and at_agent.value is not None:
        return at_agent.value.service.meta.get(OWNER_META)
    return None


def _entry(one: Instance) -> CatalogEntry:
    return CatalogEntry(one.node, one.address, one.port, one.health, one.output, one.tags)


def _in_group(
    members: Known[list[Instance]] | Unknown, entry: Known[CatalogEntry | None] | Unknown
) -> CatalogEntry | None:
    """The same process under its group's name: the one at the same place on the same node."""
    ours = entry.value if isinstance(entry, Known) else None
    if ours is None or isinstance(members, Unknown):
        return None
    place = (ours.node, ours.address, ours.port)
    found = (one for one in members.value if (one.node, one.address, one.port) == place)
    return next((_entry(one) for one in found), None)


async def _own_probe(agent: Agent, facts: Facts) -> bool | None:
    """What the service answers to us, if Consul says that it does not answer to Consul."""
    entry = facts.at_agent.value if isinstance(facts.at_agent, Known) else None
    probe = facts.want.spec.health.probe if facts.want is not None else None
    if entry is None or probe is None or not facts.state.phase.running:
        return None
    asked = f"{facts.service_id}:{probe.kind}"
    if not any(c.check_id == asked and c.status == "critical" for c in entry.checks):
        return None
    return (await agent.tools.prober.probe(probe)).passed


def record(found: Explanation, node: str) -> dict[str, Any]:
    """The explanation as `lictor explain -o json` and the API show it."""
    return {
        "name": found.key.name,
        "instance": found.key.instance or None,
        "node": node,
        "verdict": found.verdict.value,
        **views.told(found.reason),
        "next": views.told(found.step) if found.step is not None else None,
        "steps": [
            {"step": step.link.value, "verdict": step.verdict.value, **views.told(step.value)}
            for step in found.steps
        ],
        "notes": [views.told(note) for note in found.notes],
    }
