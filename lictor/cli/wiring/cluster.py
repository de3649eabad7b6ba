"""What only the composition root can answer of the cluster: what Consul's DNS says of a name.

`resolve` asks the DNS port itself, because its answer is what other programs get. It is asked of a
running agent and answers what `lictor resolve` does, which goes straight to Consul.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from lictor.core.errors import ConsulUnreachable
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.operations import Operations
from lictor.core.worded import worded


def add_to(operations: Operations, agent: Agent) -> None:
    """Make the operations known."""

    async def resolve(args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        ports, about = agent.consul.ports, agent.consul.about
        where = about.get("dns")
        if ports is None or not where:
            raise worded(ConsulUnreachable, agent.consul.state)
        # With its libraries it is not needed before somebody asks; the start is not held up by it.
        resolving = await asyncio.to_thread(importlib.import_module, "lictor.cli.wiring.resolving")
        host, _, port = str(where).rpartition(":")
        found = await resolving.answer_for(
            str(args.get("name") or ""),
            ((host.strip("[]"), int(port)), str(about.get("domain") or "consul")),
            ports.discovery,
            ports.inspection,
            tag=args.get("tag"),
            query=bool(args.get("query")),
            said=agent.consul.said,
        )
        # The older name of both kinds of addresses together.
        return {**found, "addresses": [*found["a"], *found["aaaa"]]}

    operations.add("resolve", resolve)
