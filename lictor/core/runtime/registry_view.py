"""The cluster as Consul sees it, summed up for people: by service and by node.

Everything comes from one discovery, so what is shown fits together. It is asked of Consul when
somebody asks, never kept, and Consul being away is an error and not an empty list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from lictor.core.errors import ConsulUnreachable, LictorError
from lictor.core.ports import Discovery, Instance
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit

_HEALTHS = ("passing", "warning", "critical", "maintenance")


class NotInConsul(LictorError):
    """Consul knows no service of that name."""

    code = "registry.unknown"
    exit_code = 4


class RegistryView:
    """The operations `registry_services`, `registry_service` and `registry_nodes`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {
            "registry_services": self._services,
            "registry_service": self._service,
            "registry_nodes": self._nodes,
        }

    def _discovery(self) -> Discovery:
        ports = self._agent.consul.ports
        if ports is None:
            raise ConsulUnreachable(views.say(self._agent.consul.state))
        return ports.discovery

    async def _services(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        found = await self._discovery().discover(tag=args.get("tag"))
        by_name: dict[str, list[Instance]] = {}
        for one in found:
            by_name.setdefault(one.service, []).append(one)
        return [self._summed(name, ones) for name, ones in sorted(by_name.items())]

    def _summed(self, name: str, ones: list[Instance]) -> dict[str, Any]:
        return {
            "name": name,
            "tags": sorted({tag for one in ones for tag in one.tags}),
            "instances": len(ones),
            **_counted(ones),
            "nodes": sorted({one.node for one in ones}),
            "ours": any(one.meta.get("lictor-node") == self._agent.node for one in ones),
            "dns": f"{name}.service.consul",
        }

    async def _service(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        name = str(args.get("name") or "")
        found = await self._discovery().discover(name, tag=args.get("tag"))
        if not found:
            raise NotInConsul(f"Consul knows no service {name[:80]!r}.")
        records = [views.instance_record(one) for one in found]
        for record in records:
            if record["health"] == "critical":
                record["output"] = self._agent.consul.said(record["id"]) or record["output"]
        return {"name": name, "dns": f"{name}.service.consul", "instances": records}

    async def _nodes(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        found = await self._discovery().discover()
        by_node: dict[str, list[Instance]] = {}
        for one in found:
            by_node.setdefault(one.node, []).append(one)
        rows = []
        for node, ones in sorted(by_node.items()):
            names = sorted({one.meta["lictor-node"] for one in ones if "lictor-node" in one.meta})
            rows.append(
                {
                    "node": node,
                    "lictor": names[0] if names else None,
                    "this": self._agent.node in names,
                    "services": len(ones),
                    **_counted(ones),
                }
            )
        return rows


def _counted(ones: Iterable[Instance]) -> dict[str, int]:
    counts = Counter(one.health for one in ones)
    return {health: counts[health] for health in _HEALTHS}
