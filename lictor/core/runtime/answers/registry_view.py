"""The cluster as Consul sees it, summed up for people: by service, by node and by group.

Everything comes from one discovery, so what is shown fits together. It is asked of Consul when
somebody asks, never kept, and Consul being away is an error and not an empty list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from lictor.core.errors import ConsulUnreachable, Forbidden, LictorError
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import NODE_META
from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.groups import GROUP_META, MEMBER_META, STANDBY, names_of
from lictor.core.ports import Discovery, Instance
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.all_nodes import all_nodes
from lictor.core.runtime.control import Emit
from lictor.core.worded import worded

_HEALTHS = ("passing", "warning", "critical", "maintenance")
#: What the page of the registry shows of an agent.
_AGENT = (
    *("node", "state", "age_s", "version", "host", "gpus", "ui", "services"),
    *("sentence", "reason", "reason_params"),
)


class NotInConsul(LictorError):
    """Consul knows no service of that name."""

    code = "registry.unknown"
    exit_code = 4


class RegistryView:
    """The operations `registry_services`, `registry_service`, `registry_nodes`, `registry_groups`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {
            "registry_services": self._services,
            "registry_service": self._service,
            "registry_nodes": self._nodes,
            "registry_groups": self._groups,
        }

    def _discovery(self) -> Discovery:
        ports = self._agent.consul.ports
        if ports is None:
            raise worded(ConsulUnreachable, self._agent.consul.state)
        return ports.discovery

    def _dns(self, name: str, kind: str = "service") -> str:
        return f"{name}.{kind}.{self._agent.consul.about.get('domain') or 'consul'}"

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
            "ours": any(one.meta.get(NODE_META) == self._agent.node for one in ones),
            "dns": self._dns(name),
        }

    async def _service(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        name = str(args.get("name") or "")
        found = await self._discovery().discover(name, tag=args.get("tag"))
        if not found:
            raise worded(NotInConsul, because("registry.no_service", name=name[:80]))
        records = [one.record() for one in found]
        for record in records:
            if record["health"] == "critical":
                record["output"] = self._agent.consul.said(record["id"]) or record["output"]
        return {"name": name, "dns": self._dns(name), "instances": records}

    # --- nodes --------------------------------------------------------------------------

    async def _nodes(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """Consul's nodes with the agents of Lictor on each, then agents that have no entry there."""
        found = await self._discovery().discover()
        try:
            agents = {one["node"]: one for one in (await all_nodes(self._agent))["nodes"]}
        except Forbidden:
            agents = {}  # our token may see entries and not KV: then nothing is known of agents
        by_node: dict[str, list[Instance]] = {}
        for one in found:
            by_node.setdefault(one.node, []).append(one)
        rows, shown = [], set[str]()
        for node, ones in sorted(by_node.items()):
            names = sorted({one.meta[NODE_META] for one in ones if NODE_META in one.meta})
            known = [_agent_row(agents[name]) for name in names if name in agents]
            rows.append(self._node(node, names, ones, known))
            shown.update(names)
        rest = sorted(agents.keys() - shown)
        return [*rows, *(self._node(one, [one], [], [_agent_row(agents[one])]) for one in rest)]

    def _node(
        self, node: str, names: list[str], ones: list[Instance], agents: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return {
            "node": node,
            "lictor": names[0] if names else None,
            "this": self._agent.node in names,
            "services": len(ones),
            **_counted(ones),
            "agents": agents,
        }

    # --- groups -------------------------------------------------------------------------

    async def _groups(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """Every group of this node, and of other nodes what Consul holds of the same group."""
        found = await self._discovery().discover()
        specs = list(self._agent.config.services.values())
        return [self._group(name, specs, found) for name in names_of(specs)]

    def _group(self, name: str, specs: list[ServiceSpec], found: list[Instance]) -> dict[str, Any]:
        consul = self._agent.consul
        places = consul.groups.places(name)
        members = [
            self._member(spec, *places.get(spec.key, ("absent", None, None)))
            for spec in specs
            if spec.voice_group == name
        ]
        members.sort(key=lambda one: (one["rank"], one["service"]))
        trouble, best = consul.groups.trouble.get(name), consul.groups.best(name)
        return {
            "group": name,
            "best": str(best) if best is not None else None,
            "dns": [
                {"name": self._dns(name, "query"), "gives": "best", "works": trouble is None},
                {"name": self._dns(name), "gives": "all", "works": True},
            ],
            "trouble": views.told(trouble) if trouble is not None else None,
            "members": members,
            "elsewhere": [
                {
                    "service": one.meta.get(MEMBER_META, one.service),
                    "node": one.meta.get(NODE_META, one.node),
                    "role": "standby" if STANDBY in one.tags else "best",
                    "health": one.health,
                }
                for one in found
                if one.service == name
                and one.meta.get(GROUP_META) == name
                and one.meta.get(NODE_META) != self._agent.node
            ],
        }

    def _member(
        self, spec: ServiceSpec, role: str, why: Reason | None, left: float | None
    ) -> dict[str, Any]:
        runner = self._agent.reconciler.runners.get(spec.key)
        phase = runner.state.phase.value if runner is not None else None
        return {
            "service": str(spec.key),
            "rank": spec.rank,
            "role": role,
            "phase": phase,
            "takes_over_s": left,
            **views.told(why or because("group.absent", service=str(spec.key))),
        }


def _agent_row(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in _AGENT}


def _counted(ones: Iterable[Instance]) -> dict[str, int]:
    counts = Counter(one.health for one in ones)
    return {health: counts[health] for health in _HEALTHS}
