"""All nodes and what runs on them: one answer for `lictor status --all-nodes` and the registry page.

Of other nodes it is what their agents last wrote, of this one what is so now. It is asked of Consul
when somebody asks; how a record looks is `nodes_view`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lictor.core.errors import ConsulUnreachable
from lictor.core.model.names import ServiceKey
from lictor.core.runtime.answers import nodes_view
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


async def all_nodes(agent: Agent, names: Sequence[ServiceKey] = ()) -> dict[str, Any]:
    """`nodes` and `services`, sorted; `names` empty: all services. Raises `ConsulError`."""
    ports = agent.consul.ports
    if ports is None:
        raise worded(ConsulUnreachable, agent.consul.state)
    seen, wall = await ports.nodes.read(), agent.tools.clock.wall()
    others = [one for one in seen if one.node != agent.node]
    rows = nodes_view.service_records(others, names, wall)
    usage = agent.usage()
    here = [key for key in agent.reconciler.runners if key not in agent.infrastructure]
    rows += [
        agent.view(key, usage) | {"agent_state": "running", "agent_age_s": 0.0}
        for key in here
        if not names or any(key.meant_by(name) for name in names)
    ]
    rows.sort(key=lambda row: (row["node"], row["name"], row["instance"] or ""))
    return {"nodes": [nodes_view.node_record(one, wall) for one in seen], "services": rows}
