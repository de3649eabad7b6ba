"""`status --all-nodes` on a host where no agent runs: what the agents wrote, straight from Consul."""

from __future__ import annotations

import time
from typing import Any

from lictor.cli.wiring.direct import Reach, kv_prefix, with_consul
from lictor.consul_integration.nodes import read_nodes
from lictor.core.model.names import ServiceKey
from lictor.core.runtime.answers import nodes_view


def nodes(names: list[str]) -> dict[str, Any]:
    """All nodes and their services; raises `ConsulError`."""
    wanted, wall = [ServiceKey.parse(name) for name in names], time.time()

    async def ask(reach: Reach) -> dict[str, Any]:
        # Any node's key shows whether the token may read these: there need not be one of ours.
        seen = await read_nodes(reach.client, kv_prefix(), "_any")
        return {
            "nodes": [nodes_view.node_record(one, wall) for one in seen],
            "services": nodes_view.service_records(seen, wanted, wall),
        }

    return with_consul(ask)
