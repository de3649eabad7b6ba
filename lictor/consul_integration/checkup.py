"""What `lictor doctor` asks of Consul: is it there, may we do our work, does its DNS answer.

Every question is a read; nothing in Consul changes. One that cannot be asked is said to be so, and
never passed over. What follows from an earlier finding (no connection: no leader, no DNS) is left
out, so that the first line is the one to act on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.dns import open_to_others
from lictor.consul_integration.failures import reason_of
from lictor.consul_integration.inspection import ConsulInspection
from lictor.core.errors import ConsulError, Forbidden, NotFound
from lictor.core.model.access import Rule
from lictor.core.model.explanation import CatalogNode, DnsSeen
from lictor.core.model.finding import Finding, Level
from lictor.core.model.reason import Reason, because

#: The oldest Consul that says what a token may do (`internal/acl/authorize`).
_OLDEST = (1, 7)

#: A service that every Consul has: its DNS must have an answer for it.
_ALWAYS_THERE = "consul"


async def examine(client: ConsulClient, rules: Sequence[Rule]) -> list[Finding]:
    """Every finding about this Consul. `rules` are what our token needs."""
    try:
        leader = await client.leader()
    except ConsulError as error:
        return [failed("consul", error)]
    if not leader:
        why = because("consul.no_leader", message=str(client.address))
        return [Finding("consul", Level.FAIL, why, because("next.leader"))]
    access, lacking = await _access(client, rules)
    node, dns = await asyncio.gather(_node(client, lacking or ()), _dns(client, lacking))
    return [await _version(client), *access, *node, *dns]


def failed(check: str, error: ConsulError) -> Finding:
    """What keeps one question from being answered, with the step that may help."""
    reason = reason_of(error)
    return Finding(check, Level.FAIL, reason, _step_after(reason))


def _step_after(reason: Reason) -> Reason:
    match reason.code:
        case "consul.no_token" | "consul.token_file" | "consul.unknown_token" | "consul.forbidden":
            return because("next.token")
        case "consul.no_leader":
            return because("next.leader")
        case "consul.rate_limited":
            return because("next.wait")
        case "consul.untrusted" | "consul.no_certificate" | "consul.bad_address":
            return because("next.tls")
        case _:
            return because("next.consul")


async def _version(client: ConsulClient) -> Finding:
    address = str(client.address)
    try:
        config = (await client.agent_self()).get("Config")
    except ConsulError:  # without rights; what is missing is said below
        return Finding("consul", Level.OK, because("doctor.consul_answers", address=address))
    version = str(config.get("Version") or "?") if isinstance(config, Mapping) else "?"
    told = because("doctor.consul_ok", version=version, address=address)
    if _number(version) < _OLDEST:
        told = because("doctor.consul_old", version=version, oldest="1.7")
        return Finding("consul", Level.WARN, told)
    return Finding("consul", Level.OK, told)


def _number(version: str) -> tuple[int, ...]:
    """(1, 8) of `1.8.7`; what cannot be read counts as new."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else _OLDEST


async def _access(
    client: ConsulClient, rules: Sequence[Rule]
) -> tuple[list[Finding], tuple[Rule, ...] | None]:
    """What access control says, and the rules that are missing; None: there is no access control."""
    try:
        await client.check_token()
        lacking = await ConsulInspection(client).denied(rules)
    except NotFound:
        return [Finding("acl", Level.WARN, because("doctor.acl_unasked"))], ()
    except Forbidden as error:
        return [failed("acl", error)], tuple(rules)
    except ConsulError as error:
        return [failed("acl", error)], ()
    if lacking is None:
        return [await _open(client)], None
    if not lacking:
        return [Finding("acl", Level.OK, because("doctor.acl_ok", rules=len(rules)))], ()
    return [
        Finding(
            "acl",
            Level.FAIL if rule.vital else Level.WARN,
            because("acl.missing", rule=rule.hcl),
            because("next.rule", rule=rule.hcl),
        )
        for rule in lacking
    ], lacking


async def _open(client: ConsulClient) -> Finding:
    """No access control: fine for a Consul that only this host reaches."""
    reached = "" if client.address.loopback else str(client.address)
    try:
        reached = reached or open_to_others(await client.agent_self())
    except ConsulError as error:
        return failed("acl", error)
    if not reached:
        return Finding("acl", Level.OK, because("doctor.acl_off"))
    told = because("doctor.acl_off_remote", address=reached.replace("tcp://", "http://"))
    return Finding("acl", Level.WARN, told)


async def _node(client: ConsulClient, lacking: Sequence[Rule]) -> list[Finding]:
    """Whether the catalog knows the agent's node as the agent itself does."""
    if any(rule.kind in {"agent", "node"} for rule in lacking):
        return []  # said already, and the answer would be empty whatever is true
    try:
        node = await ConsulInspection(client).node()
    except ConsulError as error:
        return [failed("node", error)]
    return [_judged(node)]


def _judged(node: CatalogNode) -> Finding:
    if node.catalog_id == node.agent_id:
        return Finding("node", Level.OK, because("doctor.node_ok", node=node.name))
    if not node.catalog_id:
        reason = because("explain.node_missing", node=node.name)
        return Finding("node", Level.FAIL, reason, because("next.agent_token", node=node.name))
    reason = because("explain.node_reserved", node=node.name, other=node.catalog_id)
    return Finding("node", Level.FAIL, reason, because("next.free_node", node=node.name))


async def _dns(client: ConsulClient, lacking: Sequence[Rule] | None) -> list[Finding]:
    """What the DNS answers. It asks without a token, so access control may leave it empty."""
    if any(rule.kind == "agent" for rule in lacking or ()):
        return []  # where it listens is told by the agent alone
    try:
        seen = await ConsulInspection(client).dns(_ALWAYS_THERE)
    except ConsulError as error:
        return [Finding("dns", Level.FAIL, reason_of(error), because("next.dns"))]
    return [_answered(seen, acl=lacking is not None)]


def _answered(seen: DnsSeen, *, acl: bool) -> Finding:
    if seen.places:
        told = because("doctor.dns_ok", server=seen.server, question=seen.question)
        return Finding("dns", Level.OK, told)
    if acl and seen.rcode in {"NXDOMAIN", "NOERROR"}:
        told = because("doctor.dns_empty", server=seen.server)
        return Finding("dns", Level.WARN, told, because("next.anonymous"))
    told = because("explain.dns_failed", server=seen.server, rcode=seen.rcode)
    return Finding("dns", Level.FAIL, told, because("next.dns"))
