"""The services of this host as one page: what the dashboard, the API and Prometheus start from.

The first fields of each row are those of the users' older supervisor API, with their names and
types; the fields of `lictor status` follow. It is asked for often, so it is one pass over what the
agent has in memory: no Consul, no disk, no process table younger than two seconds is asked for.
Nothing here changes anything, and nothing decides who may see which row: that is the web's table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lictor import __version__
from lictor.core.errors import UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.secret import shown
from lictor.core.model.state import ServiceState
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import services_meant
from lictor.core.runtime.control import Emit
from lictor.core.worded import worded


class ServicesView:
    """The operation `services`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"services": self._services}

    async def _services(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """`{"services": {name: row}, "system": {...}}`; `names`: only these."""
        names = args.get("names") or []
        if not isinstance(names, list):
            raise worded(UsageError, because("ask.names_list"))
        keys = services_meant(self._agent, names, infrastructure=True)
        rows = self.rows(keys)
        return {"services": rows, "system": self._system(rows.values())}

    def rows(self, keys: Iterable[ServiceKey]) -> dict[str, dict[str, Any]]:
        """One row for each service, by its name."""
        agent = self._agent
        usage = agent.usage()
        return {str(key): self._row(key, agent.view(key, usage)) for key in keys}

    def _row(self, key: ServiceKey, view: Mapping[str, Any]) -> dict[str, Any]:
        runner = self._agent.reconciler.runners[key]
        state, spec = runner.state, runner.spec
        return {
            "status": state.phase.seed_word,
            "pid": view["pid"],
            "uptime": int(view["uptime_s"]),
            "port": view["port"],
            "cpu_percent": view["cpu_percent"],
            "memory_mb": view["memory_mb"],
            "last_restart": _last_restart(state),
            "restart_count": state.restarts,
            **{name: view[name] for name in _FROM_VIEW},
            "since": None if state.started_wall is None else moment(state.started_wall),
            "order": self._agent.outcomes.open_order(key),
            "model": self._agent.models.told(key),
            "internal": spec.driver == "observed",
            "infrastructure": key in self._agent.infrastructure,
            "gpu": spec.gpu is not None,
            "owner": spec.owner,
            "tags": list(spec.tags),
            "params": {name: shown(name, spec.param(name)) for name in spec.params},
        }

    def _system(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        rows = list(rows)
        return {
            "total_services": len(rows),
            "running_services": sum(row["status"] == "running" for row in rows),
            "total_memory_mb": round(sum(row["memory_mb"] or 0.0 for row in rows), 1),
            "total_cpu_percent": round(sum(row["cpu_percent"] or 0.0 for row in rows), 1),
            "node": self._agent.node,
            "version": __version__,
        }


_FROM_VIEW = (
    *("name", "instance", "node", "driver", "desired", "phase", "health"),
    *("sentence", "reason", "reason_params", "reasons", "container_id", "address"),
    *("last_error", "registered", "description", "display_name"),
)


def _last_restart(state: ServiceState) -> str | None:
    """When it was started anew; None if its first start was its only one."""
    again = state.restarts > 0 or state.operator_restart_wall is not None
    return moment(state.started_wall) if again and state.started_wall is not None else None


def moment(wall: float) -> str:
    """Unix seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
