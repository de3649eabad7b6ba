"""What the CLI (and later the HTTP API) may ask of the agent: one service layer under all doors.

Every verb is a change of desired state, written where a KV edit would write it; nothing here starts
or stops anything itself. Names are resolved here (`piper` means all instances of piper), refusals
are made here, and waiting is done here, so every door behaves the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lictor import __version__
from lictor.core.errors import ConsulUnreachable, NoSuchService, Refused, UsageError
from lictor.core.model.desired import DesiredChange, DesiredState
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamSpec, ParamValue
from lictor.core.model.state import Phase
from lictor.core.planning.order import dependents
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.control import Emit
from lictor.core.runtime.logs_view import stream_logs
from lictor.core.runtime.reconciler import keys_named
from lictor.core.runtime.waiting import Goal, wait_for

_VERBS = {"start": "running", "stop": "stopped", "restart": "running"}
_SETTLE = 2.0  # seconds for KV's own watch to bring a change back


class Operations:
    """The handlers by name; `handle` is what the control socket calls."""

    def __init__(self, agent: Agent, reload: Callable[[], dict[str, Any]]) -> None:
        self._agent = agent
        self._reload = reload
        self._ops: Mapping[str, Callable[[dict[str, Any], str, Emit], Awaitable[Any]]] = {
            "status": self._status,
            "overview": self._overview,
            "change": self._change,
            "wait": self._wait,
            "plan": self._plan,
            "reload": self._reload_config,
            "logs": self._logs,
            "health": self._health,
            "register": self._register,
            "unregister": self._unregister,
            "discover": self._discover,
            "set": self._set,
            "unset": self._unset,
            "confirm": self._confirm,
            "env": self._env,
            "down": self._down,
        }

    async def handle(self, op: str, args: dict[str, Any], who: str, emit: Emit) -> Any:
        """Do one operation; raises `LictorError`."""
        handler = self._ops.get(op)
        if handler is None:
            raise UsageError(f"This agent ({__version__}) does not know the operation {op!r}.")
        return await handler(args, who, emit)

    # --- showing ------------------------------------------------------------------------

    async def _status(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        agent = self._agent
        keys = self._keys(args.get("names") or [], infrastructure=True)
        usage = agent.usage()
        records = []
        for key in keys:
            record = agent.view(key, usage)
            if args.get("verbose"):
                runner = agent.reconciler.runners[key]
                path = runner.log_path()
                record |= views.details(
                    runner.spec,
                    runner.state,
                    agent.reconciler.desired.get(key),
                    now=agent.tools.clock.now(),
                    log=str(path) if path else None,
                )
            records.append(record)
        return records

    async def _overview(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        agent = self._agent
        state = agent.consul.state
        link = agent.tools.link
        return {
            "node": agent.node,
            "version": __version__,
            "pid": os.getpid(),
            "data_dir": str(agent.tools.datadir.path),
            "config": str(agent.config.path),
            "consul": {
                "address": link.address,
                "state": "ok" if state.code == "consul.ok" else state.code,
                "sentence": views.say(state),
                "reason": state.code,
                "reason_params": dict(state.params),
                "embedded": link.service() is not None,
                "ui": agent.consul.about.get("ui"),
                "dns": agent.consul.about.get("dns"),
            },
            "web": agent.web_url,
            "warnings": [
                {"sentence": views.say(why), "reason": why.code, "reason_params": dict(why.params)}
                for why in self._warnings()
            ],
        }

    def _warnings(self) -> Iterable[Any]:
        agent = self._agent
        keeper = agent.keeper
        if agent.consul.state.code != "consul.ok":
            yield agent.consul.state
        if keeper.unknown is not None and agent.consul.state.code == "consul.ok":
            yield keeper.unknown
        for key in keeper.pending:
            yield because("pending.waiting", service=str(key))
        for name, why in keeper.strays.items():
            yield because("kv.stray", key=name, why=views.say(why))
        for key, why in keeper.documents.refused.items():
            if key not in agent.reconciler.runners:
                yield because("kv.stray", key=str(key), why=views.say(why))
        for service_id in agent.consul.conflicts:
            yield because("consul.id_taken", id=service_id)
        trouble = agent.tools.store.trouble()
        if trouble is not None:
            yield trouble

    async def _plan(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        return [
            {
                "action": action.verb.value,
                "service": str(action.service),
                "reason": action.reason.code,
                "reason_params": dict(action.reason.params),
                "sentence": views.say(action.reason),
            }
            for action in self._agent.reconciler.preview().actions
        ]

    async def _health(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        keys = self._keys(args.get("names") or [])
        rows = await asyncio.gather(*(self._check(key) for key in keys))
        return [row for group in rows for row in group]

    async def _check(self, key: ServiceKey) -> list[dict[str, Any]]:
        runner = self._agent.reconciler.runners[key]
        probes = dict(runner.spec.checks)
        if runner.spec.health.probe is not None:
            probes = {"health": runner.spec.health.probe, **probes}
        if runner.state.phase not in {Phase.READY, Phase.UNHEALTHY, Phase.STARTING}:
            output = views.say(runner.state.reason)
            row = {"check": "health", "status": "critical", "output": output, "took_ms": 0.0}
            return [{"service": str(key), **row}]
        if not probes:
            output = "It runs; it has no health check."
            row = {"check": "process", "status": "passing", "output": output, "took_ms": 0.0}
            return [{"service": str(key), **row}]
        prober = self._agent.tools.prober
        results = await asyncio.gather(*(prober.probe(probe) for probe in probes.values()))
        return [
            {
                "service": str(key),
                "check": name,
                "status": "passing" if result.passed else "critical",
                "output": result.output,
                "took_ms": round(result.took * 1000, 1),
            }
            for name, result in zip(probes, results, strict=True)
        ]

    async def _logs(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        keys = self._keys(args.get("names") or [], infrastructure=True)
        paths = {str(key): self._agent.reconciler.runners[key].log_path() for key in keys}
        return await stream_logs(
            {name: path for name, path in paths.items() if path is not None},
            lines=int(args.get("lines") or 100),
            follow_on=bool(args.get("follow")),
            grep=str(args.get("grep") or ""),
            emit=emit,
        )

    async def _discover(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        ports = self._agent.consul.ports
        if ports is None:
            raise ConsulUnreachable(views.say(self._agent.consul.state))
        found = await ports.discovery.discover(
            args.get("name"), tag=args.get("tag"), dc=args.get("dc")
        )
        return [
            {
                "service": one.service,
                "id": one.id,
                "node": one.node,
                "address": one.address,
                "port": one.port,
                "tags": list(one.tags),
                "meta": dict(one.meta),
                "health": one.health,
                "output": one.output,
            }
            for one in found
        ]

    async def _env(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        exports = dict(self._agent.tools.link.exports())
        return {**exports, "LICTOR_NODE": self._agent.node}

    # --- ordering -----------------------------------------------------------------------

    async def _change(self, args: dict[str, Any], who: str, emit: Emit) -> Any:
        verb = str(args.get("verb"))
        if verb not in _VERBS:
            raise UsageError(f"Unknown verb {verb!r}: expected start, stop or restart.")
        names = args.get("names") or []
        keys = self._keys(names)
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
        keys = self._keys(args.get("names") or [])
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
        change = DesiredChange(
            params=typed, until=args.get("until"), by=who, reason=str(args.get("reason") or "")
        )
        return await self._edit(key, change)

    async def _unset(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, names = self._one(args), tuple(args.get("params") or ())
        change = DesiredChange(unset_params=names, by=who) if names else DesiredChange(remove=True)
        return await self._edit(key, change)

    async def _edit(self, key: ServiceKey, change: DesiredChange) -> dict[str, Any]:
        result = await self._write_document(key, change)
        keys = self._keys([str(key)])
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
        for key in self._keys(args.get("names") or []):
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

    # --- names --------------------------------------------------------------------------

    def _keys(self, names: Iterable[object], *, infrastructure: bool = False) -> list[ServiceKey]:
        """The services meant; none named means all. Raises `NoSuchService`."""
        agent = self._agent
        known = list(agent.reconciler.runners)
        if not infrastructure:
            known = [key for key in known if key not in agent.infrastructure]
        wanted = list(names)
        if not wanted:
            return known
        found: dict[ServiceKey, None] = {}
        for name in wanted:
            try:
                keys = keys_named([ServiceKey.parse(str(name))], list(agent.reconciler.runners))
            except BadName as error:
                raise NoSuchService(f"No service {name!r}: {error}.") from None
            if not keys:
                have = ", ".join(str(key) for key in known)
                raise NoSuchService(
                    f"No service {name!r} on this node.", hint=f"There are: {have}."
                )
            found.update(dict.fromkeys(keys))
        return list(found)

    def _one(self, args: dict[str, Any]) -> ServiceKey:
        self._keys([args.get("name")])
        return ServiceKey.parse(str(args.get("name")))

    def _refuse_infrastructure(self, names: Iterable[object]) -> None:
        for key in self._keys(names) if names else ():
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
