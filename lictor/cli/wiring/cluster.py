"""What only the composition root can answer of the cluster: what Consul's DNS says of a name.

`resolve` asks the DNS port itself, because its answer is what other programs get. It is asked of a
running agent; without one the command line goes straight to Consul.
"""

from __future__ import annotations

from typing import Any

from lictor.consul_integration.dns import resolve as ask_dns
from lictor.core.errors import ConsulUnreachable
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.operations import Operations


def add_to(operations: Operations, agent: Agent) -> None:
    """Make the operations known."""

    async def dns_of(name: str, tag: str | None = None) -> dict[str, Any]:
        ports, where = agent.consul.ports, agent.consul.about.get("dns")
        if ports is None or not where:
            raise ConsulUnreachable(views.say(agent.consul.state))
        host, _, port = str(where).rpartition(":")
        answer = await ask_dns(name, server=host.strip("[]"), port=int(port), tag=tag)
        known = await ports.discovery.discover(name, tag=tag)
        return {
            "question": answer.question,
            "server": answer.server,
            "rcode": answer.rcode,
            "protocol": answer.protocol,
            "addresses": list(answer.addresses),
            "answers": [
                {"address": one.address or one.target, "port": one.port, "target": one.target}
                for one in answer.records
            ],
            "left_out": [
                {
                    **{part: getattr(one, part) for part in _SHOWN},
                    "reason": agent.consul.said(one.id) or one.output,
                }
                for one in known
                if one.health in {"critical", "maintenance"}  # only these does DNS leave out
            ],
        }

    async def resolve(args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return await dns_of(str(args.get("name") or ""), args.get("tag"))

    operations.add("resolve", resolve)


_SHOWN = ("id", "node", "address", "port", "health")
