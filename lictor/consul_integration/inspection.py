"""Questions about Consul itself: may our token do this, is our node in the catalog, what does DNS say.

It is the adapter behind `ports.Inspection`, for `lictor explain` and `lictor doctor`. It changes
nothing in Consul. What a token may do is asked of `internal/acl/authorize`, as Consul's own UI does:
reads cannot tell, because without rights they are empty and not refused (measured on 1.8.7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.dns import dns_endpoint, resolve
from lictor.consul_integration.failures import AclDisabled
from lictor.core.errors import ConsulUnreachable, Garbage, NotFound
from lictor.core.model.access import Rule
from lictor.core.model.explanation import CatalogNode, DnsSeen
from lictor.core.model.reason import because
from lictor.core.worded import worded

#: Seconds for DNS: its questions go over loopback, mostly.
DNS_PATIENCE = 2.0


class ConsulInspection:
    """`ports.Inspection` over one client."""

    def __init__(self, client: ConsulClient) -> None:
        self._client = client

    async def denied(self, rules: Sequence[Rule]) -> tuple[Rule, ...] | None:
        """Those of the rules that our token lacks; None: this Consul has no access control.

        Raises `Forbidden` for a token that Consul does not know, `NotFound` where Consul is older
        than the question (1.7).
        """
        body = [
            {"Resource": rule.kind, "Segment": rule.segment, "Access": rule.access}
            for rule in rules
        ]
        try:
            answer = await self._client.request("POST", "/v1/internal/acl/authorize", body=body)
        except AclDisabled:
            return None
        if not isinstance(answer, list) or len(answer) != len(rules):
            raise worded(Garbage, because("reply.misfit", what="acl/authorize"))
        return tuple(
            rule
            for rule, said in zip(rules, answer, strict=True)
            if not (isinstance(said, Mapping) and said.get("Allow") is True)
        )

    async def node(self) -> CatalogNode:
        """The local agent's node, as it and as the catalog know it. Needs `agent:read`."""
        seen = await self._client.agent_self()
        config = seen.get("Config")
        config = config if isinstance(config, Mapping) else {}
        name, node_id = str(config.get("NodeName") or ""), str(config.get("NodeID") or "")
        if not name:
            raise worded(Garbage, because("reply.no_node", what="agent/self"))
        return CatalogNode(name, node_id, await self._catalog_id(name))

    async def _catalog_id(self, name: str) -> str:
        try:
            found: Any = await self._client.request("GET", f"/v1/catalog/node/{name}")
        except NotFound:
            return ""
        node = found.get("Node") if isinstance(found, Mapping) else None
        return str(node.get("ID") or "") if isinstance(node, Mapping) else ""

    async def dns(self, name: str) -> DnsSeen:
        """What Consul's DNS answers for `<name>.service.<domain>`, asked as anybody would."""
        seen = await self._client.agent_self()
        where = dns_endpoint(seen, self._client.address.host)
        if where is None:
            raise worded(ConsulUnreachable, because("dns.none"))
        host, port = where
        domain = domain_of(seen)
        answer = await resolve(name, server=host, port=port, domain=domain, timeout=DNS_PATIENCE)
        return DnsSeen(
            question=answer.question,
            server=answer.server,
            rcode=answer.rcode,
            places=tuple((one.address or one.target, one.port) for one in answer.records),
        )


def domain_of(agent_self: Mapping[str, Any]) -> str:
    """The domain that Consul's DNS answers for, without its last dot: `consul`."""
    debug = agent_self.get("DebugConfig")
    domain = debug.get("DNSDomain") if isinstance(debug, Mapping) else None
    return str(domain or "consul").strip(".") or "consul"
