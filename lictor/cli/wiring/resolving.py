"""`lictor resolve`: what Consul's DNS answers, and why somebody is not in the answer.

DNS is asked as any program would ask; the HTTP API is asked for those that DNS is silent about. An
agent is only asked where its Consul is; its HTTP API gives the same answer from the same function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

from lictor.cli.wiring.direct import Reach, dns_of, with_consul
from lictor.consul_integration.discovery import ConsulDiscovery
from lictor.consul_integration.dns import DnsAnswer, full_name
from lictor.consul_integration.dns import resolve as ask_dns
from lictor.consul_integration.inspection import ConsulInspection
from lictor.core.errors import BadRequest, ConsulError, Forbidden, UsageError
from lictor.core.model.reason import Reason, because
from lictor.core.planning.access import for_everybody
from lictor.core.planning.leftout import left_out, stands_by, unexplained
from lictor.core.ports import Discovery, Inspection, Instance
from lictor.core.runtime import views
from lictor.core.worded import worded


def resolve(name: str, *, tag: str | None, query: bool) -> dict[str, Any]:
    """The answer for a service (or, with `query`, a prepared query), and who is left out and why.

    Raises `ConsulError` where DNS or the HTTP API cannot be asked.
    """

    async def ask(reach: Reach) -> dict[str, Any]:
        place = await dns_of(reach)
        discovery, inspection = ConsulDiscovery(reach.client), ConsulInspection(reach.client)
        return await answer_for(name, place, discovery, inspection, tag=tag, query=query)

    return with_consul(ask)


async def answer_for(
    name: str,
    place: tuple[tuple[str, int], str],
    discovery: Discovery,
    inspection: Inspection,
    *,
    tag: str | None = None,
    query: bool = False,
    said: Callable[[str], str] = lambda _id: "",
) -> dict[str, Any]:
    """The same of a Consul whose DNS is at `place` (host and port, domain).

    `also` is what the prepared query of the same name answers, null where there is none. `said` is
    what an agent itself told of an entry: the catalog hears of an output alone only minutes later.
    """
    (host, port), domain = place
    tag = tag or None
    full = full_name(name, domain)
    sought = name
    if full is not None:  # then the name says the rest too
        if (tag and tag != full.tag) or (query and full.kind != "query"):
            raise worded(UsageError, because("ask.full_name", name=name))
        sought, tag, query = full.name, full.tag, full.kind == "query"
    kind: Literal["service", "query"] = "query" if query else "service"

    async def answer_of(kind: Literal["service", "query"], tag: str | None) -> DnsAnswer:
        return await ask_dns(name, server=host, port=port, tag=tag, kind=kind, domain=domain)

    asked = await answer_of(kind, None if query else tag)
    other, known = await asyncio.gather(
        _quiet(answer_of("query", None)) if kind == "service" and "." not in name else _none(),
        _known(discovery, sought, full.dc if full else None, given=bool(asked.records)),
    )
    fresh = [replace(one, output=said(one.id) or one.output) for one in known]
    blind = bool(fresh) and await _asks_in_vain(asked, inspection)
    return {
        **_answer(asked),
        "also": _answer(other) if other is not None and other.records else None,
        "left_out": _left_out(fresh, asked, tag=tag, query=query, blind=blind),
    }


async def _asks_in_vain(answer: DnsAnswer, inspection: Inspection) -> bool:
    """Whether DNS gives nobody because it asks without a token, as far as can be told."""
    if answer.records or answer.rcode not in {"NXDOMAIN", "NOERROR"}:
        return False
    try:
        return await inspection.denied(for_everybody()) is not None
    except ConsulError:
        return False


async def _known(discovery: Discovery, name: str, dc: str | None, *, given: bool) -> list[Instance]:
    """Who offers it. With a token that may not see them, what DNS has `given` is still the answer."""
    try:
        return await discovery.discover(name, dc=dc)
    except Forbidden:
        if not given:
            raise
        return []
    except BadRequest:
        if dc is None:
            raise
        return []  # a datacenter that nobody knows: DNS says NXDOMAIN


async def _none() -> None:
    return None


async def _quiet(question: Any) -> DnsAnswer | None:
    try:
        found: DnsAnswer = await question
    except ConsulError:
        return None
    return found


def _answer(answer: DnsAnswer) -> dict[str, Any]:
    why = _verdict(answer)
    return {
        "question": answer.question,
        "server": answer.server,
        "rcode": answer.rcode,
        "protocol": answer.protocol,
        "truncated": answer.truncated,
        "took_ms": round(answer.took * 1000, 1),
        "answers": [
            {
                "address": one.address or one.target,
                "port": one.port,
                "target": one.target,
                "node": one.node,
                "priority": one.priority,
                "weight": one.weight,
            }
            for one in answer.records
        ],
        "a": [address for address in answer.addresses if ":" not in address],
        "aaaa": [address for address in answer.addresses if ":" in address],
        "sentence": views.say(why) if why is not None else None,
        "reason": why.code if why is not None else None,
        "reason_params": dict(why.params) if why is not None else {},
    }


def _verdict(answer: DnsAnswer) -> Reason | None:
    """What an answer without records means; None: there are some, and all of them."""
    question, server = answer.question, answer.server
    if answer.records and answer.truncated:
        return because("dns.cut", server=server)
    if answer.records or answer.addresses:  # the name of a node has no SRV
        return None
    if answer.rcode == "NXDOMAIN":
        return because("dns.nxdomain", question=question)
    if answer.rcode == "SERVFAIL":
        return because("dns.servfail", server=server)
    if answer.rcode == "REFUSED":
        return because("dns.refused", server=server, question=question)
    if answer.rcode == "NOERROR":
        return because("dns.empty", question=question)
    return because("dns.other", server=server, rcode=answer.rcode)


def _left_out(
    known: Iterable[Instance], answer: DnsAnswer, *, tag: str | None, query: bool, blind: bool
) -> list[dict[str, Any]]:
    given = {(one.address or one.target, one.port) for one in answer.records}
    rows = []
    for one in known:
        if (one.address, one.port) in given:
            continue
        why = left_out(
            health=one.health,
            check=one.check,
            output=one.output,
            node=one.node,
            tags=one.tags,
            service=one.service,
            tag=None if query else tag,
        )
        if why is None and query:
            why = stands_by(one.tags, one.meta)
        why = why or unexplained(answer.question, query=query, blind=blind)
        rows.append(
            {
                "id": one.id,
                "node": one.node,
                "address": one.address,
                "port": one.port,
                "health": one.health,
                "reason": one.output,
                "sentence": views.say(why),
                "reasons": [{"code": why.code, "params": dict(why.params)}],
            }
        )
    return rows
