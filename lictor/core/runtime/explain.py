"""Why a service is as it is, from what is wanted to what DNS answers: one true sentence per layer.

Each layer is asked itself, and not the one above it: the process table, the agent's own state,
Consul's catalog, its checks, its DNS. The first that is not as it should be is the gap. What cannot
be asked is neither good nor bad (`ok` is null). Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lictor.core.errors import LictorError
from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.state import Phase
from lictor.core.planning.reconcile import start_reason, stop_reason
from lictor.core.ports import Instance
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.meant import services_meant

#: What DNS answers for a name: `question` and `answers` (`address`, `port`), as `resolve` gives it.
Resolve = Callable[[str], Awaitable[dict[str, Any]]]

Layer = tuple[bool | None, Reason]


class Explain:
    """The operation `explain`."""

    def __init__(self, agent: Agent, resolve: Resolve) -> None:
        self._agent = agent
        self._resolve = resolve

    async def explain(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """`{"service", "chain": [{"layer", "ok", "reason", ...}], "gap": layer or null}`."""
        key = services_meant(self._agent, [str(args.get("name"))], infrastructure=True)[0]
        want = self._agent.reconciler.desired.get(key)
        up = want is not None and want.state is not DesiredState.STOPPED
        layers: dict[str, Layer] = {
            "desired": (True, _desired(want)),
            "process": self._process(key, up=up),
            "agent": self._phase(key, up=up),
        }
        instance = await self._entry(key)
        layers["catalog"] = self._catalog(key, instance, up=up)
        layers["check"] = self._check(instance)
        layers["dns"] = await self._dns(key, up=up)
        chain = [
            {
                "layer": name,
                "ok": ok,
                "reason": why.code,
                "reason_params": dict(why.params),
                "sentence": views.say(why),
            }
            for name, (ok, why) in layers.items()
        ]
        gap = next((row["layer"] for row in chain if row["ok"] is False), None)
        return {"service": str(key), "chain": chain, "gap": gap}

    def _process(self, key: ServiceKey, *, up: bool) -> Layer:
        runner = self._agent.reconciler.runners[key]
        identity = runner.state.identity
        if runner.spec.driver == "observed":
            return None, because("explain.observed")
        if identity is None or not runner.state.phase.running:
            return not up, because("explain.no_process")
        if identity.container_id:
            return up, because("explain.container", id=identity.container_id[:12])
        return up, because("explain.process", pid=identity.pid)

    def _phase(self, key: ServiceKey, *, up: bool) -> Layer:
        state = self._agent.reconciler.runners[key].state
        good = state.phase is Phase.READY if up else not state.phase.running
        return good or state.done, state.reason

    async def _entry(self, key: ServiceKey) -> Instance | LictorError | None:
        ports = self._agent.consul.ports
        if ports is None:
            return LictorError(views.say(self._agent.consul.state))
        try:
            found = await ports.discovery.discover(key.name)
        except LictorError as error:
            return error
        ours = f"lictor:{self._agent.node}:{key.name}" + (
            f":{key.instance}" if key.instance else ""
        )
        return next((one for one in found if one.id == ours), None)

    def _catalog(self, key: ServiceKey, found: Instance | LictorError | None, *, up: bool) -> Layer:
        if isinstance(found, LictorError):
            return None, because("explain.consul_unasked", why=found.message)
        if found is not None:
            return up, because("explain.entry", address=found.address, port=found.port)
        runner = self._agent.reconciler.runners[key]
        if not runner.spec.registered:
            return None, because("explain.never_registered")
        if runner.state.unregistered:
            return False, because("registry.unregistered")
        return not up, because("explain.no_entry")

    def _check(self, found: Instance | LictorError | None) -> Layer:
        if not isinstance(found, Instance):
            return None, because("explain.no_check")
        if found.health == "passing":
            return True, because("explain.check_passing")
        said = self._agent.consul.said(found.id) or found.output or "-"
        return False, because("explain.check_says", health=found.health, output=said)

    async def _dns(self, key: ServiceKey, *, up: bool) -> Layer:
        if not self._agent.reconciler.runners[key].spec.registered:
            return None, because("explain.never_registered")
        try:
            found = await self._resolve(key.name)
        except LictorError as error:
            return None, because("explain.dns_unasked", why=error.message)
        name = str(found["question"]).rstrip(".")
        places = ", ".join(f"{one['address']}:{one['port']}" for one in found["answers"])
        if places:
            return True, because("explain.dns_answers", name=name, places=places)
        return not up, because("explain.dns_silent", name=name)


def _desired(want: DesiredService | None) -> Reason:
    if want is None:
        return because("config.removed")
    if want.blocked is not None:
        return want.blocked
    if want.state is DesiredState.MAINTENANCE:
        return because("maintenance", by=want.by or "?", why=want.why or "-")
    return stop_reason(want) if want.state is DesiredState.STOPPED else start_reason(want)
