"""What may be ordered of the agent: every verb is a change of desired state.

It is written where a KV edit would write it; nothing here starts or stops anything itself. Refusals
are made here, and so is the waiting, so that every door behaves the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lictor.core.config.params import bad_value
from lictor.core.errors import ConsulUnreachable, Refused, UsageError
from lictor.core.model.desired import DesiredChange, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamSpec, ParamValue
from lictor.core.model.state import Phase
from lictor.core.planning.order import dependents
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.meant import services_meant
from lictor.core.runtime.waiting import Goal, wait_for

_VERBS = {"start": "running", "stop": "stopped", "restart": "running"}
_SETTLE = 2.0  # seconds for KV's own watch to bring a change back


class Orders:
    """The handlers that change something, by the name of their operation."""

    def __init__(self, agent: Agent, reload: Callable[[], dict[str, Any]]) -> None:
        self._agent = agent
        self._reload = reload
        self.ops = {
            "change": self._change,
            "wait": self._wait,
            "set": self._set,
            "unset": self._unset,
            "register": self._register,
            "unregister": self._unregister,
            "confirm": self._confirm,
            "reload": self._reload_config,
            "down": self._down,
        }

    async def _change(self, args: dict[str, Any], who: str, emit: Emit) -> Any:
        verb = str(args.get("verb"))
        if verb not in _VERBS:
            raise UsageError(f"Unknown verb {verb!r}: expected start, stop or restart.")
        names = args.get("names") or []
        keys = services_meant(self._agent, names)
        self._refuse_infrastructure(names)
        if verb in {"stop", "restart"} and names and not args.get("yes"):
            self._refuse_to_hurt(keys, verb)
        order = _now()
        orders = [(key, self._order_for(key, verb, who, order)) for key in keys]
        written = dict(
            zip(
                keys,
                await asyncio.gather(*(self._write(key, what) for key, what in orders)),
                strict=True,
            )
        )
        goal = Goal(Phase.STOPPED if verb == "stop" else Phase.READY, order=True)
        if args.get("wait"):
            limit = _limit(args)
            results = await wait_for(self._agent, keys, goal, limit=limit, emit=emit)
        else:
            results = [self._result(key, goal) for key in keys]
        return [
            {**result, "result": _word(result, written[key], waited=bool(args.get("wait")))}
            for key, result in zip(keys, results, strict=True)
        ]

    def _order_for(self, key: ServiceKey, verb: str, who: str, order: str) -> DesiredChange | None:
        """The change of the document that this verb means; None when it is so already."""
        agent = self._agent
        want = agent.reconciler.desired[key]
        state = agent.reconciler.runners[key].state
        target = DesiredState(_VERBS[verb])
        change = DesiredChange(state=target.value, by=who)
        if verb == "restart":
            return replace(change, restart=order)
        stuck = state.phase in {Phase.FAILED, Phase.BACKOFF} or state.done
        if verb == "start" and stuck:
            return replace(change, restart=order)
        return None if want.state is target else change

    async def _write(self, key: ServiceKey, change: DesiredChange | None) -> str:
        """Write one document and let it take effect here; how it went as one word."""
        if change is None:
            return "already"
        agent = self._agent
        before = agent.reconciler.desired.get(key)
        agent.record("verb", str(key), because("verb.ordered", **_spoken(change)), who=change.by)
        if not await agent.keeper.change(key, change):
            return "pending"
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE
        while agent.reconciler.desired.get(key) == before and loop.time() < end:
            await agent.bell.wait(0.05)
        return "requested"

    async def _wait(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        wanted = str(args.get("for") or "ready")
        if wanted not in {"ready", "stopped"}:
            raise UsageError(f"Cannot wait for {wanted!r}: expected ready or stopped.")
        keys = services_meant(self._agent, args.get("names") or [])
        goal = Goal(Phase(wanted), order=False)
        results = await wait_for(self._agent, keys, goal, limit=_limit(args), emit=emit)
        return [{**result, "result": _word(result, "", waited=True)} for result in results]

    async def _set(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, params = self._one(args), dict(args.get("params") or {})
        specs = self._agent.params_of(key) or {}
        unknown = [name for name in params if name not in specs]
        if unknown:
            known = ", ".join(specs) or "none"
            raise UsageError(
                f"{key} has no parameter {unknown[0]!r}.", hint=f"Its parameters are: {known}."
            )
        typed = {name: _typed(name, value, specs[name]) for name, value in params.items()}
        for name, value in typed.items():
            # Refused before it is written: KV keeps its good document, and an order that waits for
            # Consul never brings a value past `choices` and `pattern`.
            problem = bad_value(specs[name], value)
            if problem:
                raise UsageError(f"{key} {name}: {problem}.", hint="Nothing was changed.")
        change = DesiredChange(
            params=typed, until=args.get("until"), by=who, reason=str(args.get("reason") or "")
        )
        return await self._edit(key, change)

    async def _unset(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, names = self._one(args), tuple(args.get("params") or ())
        every = tuple(self._agent.params_of(key) or ())  # all of them, and nothing but them
        return await self._edit(key, DesiredChange(unset_params=names or every, by=who))

    async def _edit(self, key: ServiceKey, change: DesiredChange) -> dict[str, Any]:
        result = await self._write_document(key, change)
        keys = services_meant(self._agent, [str(key)])
        refused = self._agent.keeper.documents.refused.get(key)
        if refused is not None:
            raise UsageError(views.say(refused), hint="The last good document stays in force.")
        record = self._agent.view(keys[0], {})
        return {"service": str(key), "result": result, "sentence": record["sentence"]}

    async def _write_document(self, key: ServiceKey, change: DesiredChange) -> str:
        agent = self._agent
        agent.record("verb", str(key), because("verb.ordered", **_spoken(change)), who=change.by)
        if not await agent.keeper.change(key, change):
            return "pending"
        await agent.bell.wait(0.5)
        return "done"

    async def _register(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return self._mark(args, unregistered=False)

    async def _unregister(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return self._mark(args, unregistered=True)

    def _mark(self, args: dict[str, Any], *, unregistered: bool) -> list[dict[str, Any]]:
        rows = []
        for key in services_meant(self._agent, args.get("names") or []):
            runner = self._agent.reconciler.runners[key]
            already = runner.state.unregistered is unregistered
            if not already:
                runner.mark_registered(unregistered=unregistered)
            why = because("registry.registered")
            if unregistered:
                why = because("registry.unregistered")
            elif not runner.state.phase.running:
                why = because("registry.when_started")
            rows.append(
                {
                    "service": str(key),
                    "result": "already" if already else "done",
                    "sentence": views.say(why),
                    "reason": why.code,
                    "reason_params": dict(why.params),
                }
            )
        return rows

    async def _confirm(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        ports = self._agent.consul.ports
        if ports is None:
            raise ConsulUnreachable(views.say(self._agent.consul.state))
        await ports.desired.confirm()
        return {}

    async def _reload_config(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return self._reload()

    async def _down(self, args: dict[str, Any], who: str, emit: Emit) -> Any:
        agent = self._agent
        keep = bool(args.get("keep"))
        agent.record("verb", "", because("agent.down", keep=keep), who=who)
        agent.stop(keep=keep)
        shown: dict[ServiceKey, str] = {}
        ended = asyncio.ensure_future(agent.stopped())
        while not ended.done():
            if not keep:
                for key, runner in agent.reconciler.runners.items():
                    phase = runner.state.phase.value
                    if shown.get(key) != phase and phase in {"stopping", "stopped"}:
                        shown[key] = phase
                        await emit({"service": str(key), "phase": phase, "elapsed": 0.0})
            await asyncio.wait({ended}, timeout=0.1)
        return {}

    def _one(self, args: dict[str, Any]) -> ServiceKey:
        services_meant(self._agent, [args.get("name")])
        return ServiceKey.parse(str(args.get("name")))

    def _refuse_infrastructure(self, names: Iterable[object]) -> None:
        for key in services_meant(self._agent, names) if names else ():
            if key in self._agent.infrastructure:
                raise Refused(
                    f"{key} is Lictor's own and runs as long as the agent does.",
                    hint="`lictor down` stops both.",
                )

    def _refuse_to_hurt(self, keys: list[ServiceKey], verb: str) -> None:
        """Stopping what others need is refused until it is said twice."""
        agent = self._agent
        for key in keys:
            hurt = [
                other
                for other in dependents(key.name, agent.reconciler.desired)
                if other not in keys
                and agent.reconciler.runners[other].state.phase.running
                and any(
                    dep.name == key.name and dep.required
                    for dep in agent.reconciler.desired[other].spec.depends_on
                )
            ]
            if hurt:
                listed = ", ".join(str(other) for other in hurt)
                raise Refused(
                    f"To {verb} {key} would hurt what needs it: {listed}.", hint="Insist with -y."
                )

    def _result(self, key: ServiceKey, _goal: Goal) -> dict[str, Any]:
        state = self._agent.reconciler.runners[key].state
        record = self._agent.view(key, {})
        return {
            "service": str(key),
            "phase": state.phase.value,
            "sentence": record["sentence"],
            "reason": record["reason"],
            "reason_params": record["reason_params"],
            "reasons": record["reasons"],
            "outcome": "",
        }


def _word(result: dict[str, Any], written: str, *, waited: bool) -> str:
    outcome = str(result.pop("outcome", ""))
    if waited and outcome:
        return "already" if written == "already" and outcome == "done" else outcome
    return written or "requested"


def _typed(name: str, value: object, spec: ParamSpec) -> ParamValue:
    """What was typed as text, as the parameter's own type (that of its default)."""
    text = str(value).strip()
    try:
        if isinstance(spec.default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(spec.default, int):
            return int(text)
        if isinstance(spec.default, float):
            return float(text)
    except (KeyError, ValueError):
        kind = type(spec.default).__name__
        raise UsageError(f"{name}={text!r} is not a value of type {kind}.") from None
    return str(value)


def _limit(args: dict[str, Any]) -> float | None:
    value = args.get("timeout")
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _spoken(change: DesiredChange) -> dict[str, str]:
    what = "remove" if change.remove else change.state or "params"
    if change.restart:
        what = "restart"
    return {"what": what, "by": change.by or "?"}
