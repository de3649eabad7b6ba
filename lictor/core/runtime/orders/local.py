"""What may be ordered of the agent: every verb is a change of desired state.

It is written where a KV edit would write it; nothing here starts or stops anything itself. Refusals
are made here, and so is the waiting, so that every door behaves the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from lictor.core.errors import ConsulUnreachable, UsageError
from lictor.core.model.desired import AFTER_VERB, DesiredChange, DesiredState, Override
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.state import Phase
from lictor.core.planning.reconcile import order_wall
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import services_meant, services_to_order
from lictor.core.runtime.control import Emit
from lictor.core.runtime.desired.order_words import (
    limit_of,
    reason_of,
    result_word,
    rfc3339,
    spoken,
    unix,
    verb_of,
)
from lictor.core.runtime.orders.holds import HoldOrders, once_on_disk, until_from
from lictor.core.runtime.orders.refusals import (
    Handler,
    held_against,
    refuse_held,
    refuse_infrastructure,
    refuse_to_hurt,
    telling_refusals,
    told,
)
from lictor.core.runtime.orders.remote import RemoteOrders, Verb
from lictor.core.runtime.supervision.one_run import refuse_misfit, typed
from lictor.core.runtime.supervision.outcomes import Order
from lictor.core.runtime.supervision.waiting import Goal, ended_for_good, wait_for
from lictor.core.worded import worded

_SETTLE = 2.0  # seconds for KV's own watch to bring a change back


@dataclass(frozen=True, slots=True)
class _Asked:
    """A verb as it was given. `until` and `at` are RFC 3339."""

    verb: str
    who: str
    reason: str
    until: str | None
    at: str


class Orders:
    """The handlers that change something, by the name of their operation."""

    def __init__(self, agent: Agent, reload: Callable[[], dict[str, Any]]) -> None:
        self._agent = agent
        self._reload = reload
        told: dict[str, Handler] = {
            "change": self._change,
            "set": self._set,
            "unset": self._unset,
            "register": self._register,
            "unregister": self._unregister,
            "confirm": self._confirm,
            "reload": self._reload_config,
            "down": self._down,
            **HoldOrders(agent).ops,
        }
        self.ops = {op: telling_refusals(agent, op, handler) for op, handler in told.items()}
        self.ops["wait"] = self._wait

    async def _change(self, args: dict[str, Any], who: str, emit: Emit) -> Any:
        verb, names, agent = verb_of(args), args.get("names") or [], self._agent
        why = reason_of(args)
        if args.get("node") not in {None, "", agent.node}:
            yes, wait = bool(args.get("yes")), bool(args.get("wait"))
            order = Verb(verb, who, why, self._until(args), yes, wait, limit_of(args))
            return await RemoteOrders(agent).change(order, str(args["node"]), names, emit)
        keys = services_to_order(agent, names, verb)
        if names:
            refuse_infrastructure(agent, keys)
            refuse_held(agent, keys, verb)
            if verb in {"stop", "restart"} and not args.get("yes"):
                refuse_to_hurt(agent, keys, verb)
        asked = _Asked(verb, who, why, self._until(args), self._moment(keys))
        moved = [key for key in keys if held_against(agent, key, verb) is None]
        agent.one_run.ordered(moved, verb, who, args.get("env"), unix(asked.at))
        pressed = agent.gpus.ordered(moved, verb)
        orders = [(key, self._order_for(key, asked)) for key in moved]
        results = await asyncio.gather(*(self._write(key, what, asked) for key, what in orders))
        written = {
            key: "requested" if key in pressed and result == "already" else result
            for key, result in zip(moved, results, strict=True)
        }
        waited = bool(args.get("wait"))
        if waited:
            # One moment for all: what was ordered before it counts, whoever's clock is finer.
            restart = unix(asked.at) if verb == "restart" else None
            goal = Goal(Phase.STOPPED if verb == "stop" else Phase.READY, True, restart)
            limit = limit_of(args)
            rows = await wait_for(agent, moved, goal, limit=limit, emit=emit)
        else:
            rows = [self._result(key) for key in moved]
        done = {
            key: {**row, "result": result_word(row, written[key], waited=waited)}
            for key, row in zip(moved, rows, strict=True)
        }
        await once_on_disk(agent, [done[key] for key in moved if written[key] == "pending"])
        return [done[key] if key in done else self._held_row(key, verb) for key in keys]

    def _moment(self, keys: Iterable[ServiceKey]) -> str:
        reconciler, wall = self._agent.reconciler, self._agent.tools.clock.wall()
        wall = order_wall(keys, reconciler.desired, reconciler.actual(), wall)
        return rfc3339(datetime.fromtimestamp(wall, UTC))

    def _until(self, args: dict[str, Any]) -> str | None:
        until = until_from(args, self._agent.tools.clock.wall())
        return None if until is None else rfc3339(datetime.fromtimestamp(until, UTC))

    def _held_row(self, key: ServiceKey, verb: str) -> dict[str, Any]:
        """A verb for all services leaves those alone that somebody holds."""
        hold = held_against(self._agent, key, verb)
        why = told(hold) if hold is not None else []
        return {
            **self._result(key),
            "result": "held",
            "sentence": " ".join(views.say(part) for part in why),
            "reasons": [{"code": part.code, "params": dict(part.params)} for part in why],
        }

    def _order_for(self, key: ServiceKey, asked: _Asked) -> DesiredChange | None:
        """The change of the document that this verb means; None when it is so already."""
        agent = self._agent
        want, runner = agent.reconciler.desired.get(key), agent.reconciler.runners.get(key)
        if want is None or runner is None:
            return None  # no longer in the config: it is being stopped anyway
        state = runner.state
        target = AFTER_VERB[asked.verb]
        change = DesiredChange(
            state=target.value, by=asked.who, reason=asked.reason, until=asked.until
        )
        change = self._on_top(key, change)
        if asked.verb == "restart":
            return replace(change, restart=asked.at)
        stuck = state.phase in {Phase.FAILED, Phase.BACKOFF} or state.done
        if asked.verb == "start" and stuck:
            return replace(change, restart=asked.at)
        for_good = want.until is None and asked.until is None
        return None if want.state is target and for_good else change

    def _on_top(self, key: ServiceKey, change: DesiredChange) -> DesiredChange:
        """The change as the document of today needs it: a document has one end for all it says."""
        document = self._agent.keeper.documents.node.get(key)
        if document is None:
            return change
        if document.until is not None and document.until <= self._agent.tools.clock.wall():
            return replace(change, anew=True)
        if change.until is None:
            return replace(change, clear_until=not document.params and not change.params)
        if document.until is None and self._would_be_lost(key, document, change):
            lost = because("order.ends_too", service=str(key))
            raise worded(UsageError, lost, hint=because("next.hold_until", service=str(key)))
        return change

    def _would_be_lost(self, key: ServiceKey, document: Override, change: DesiredChange) -> bool:
        """Whether the document says something for good that neither the config nor we say."""
        if not document.params.keys() <= change.params.keys():
            return True
        runner = self._agent.reconciler.runners.get(key)
        always = runner is None or runner.spec.activation == "always"
        usual = DesiredState.RUNNING if always else DesiredState.STOPPED
        return document.state not in {None, usual}

    async def _write(self, key: ServiceKey, change: DesiredChange | None, asked: _Asked) -> str:
        """Write one document and let it take effect here; how it went as one word."""
        if change is None:
            return "already"
        agent = self._agent
        before = agent.reconciler.desired.get(key)
        agent.record("verb", str(key), spoken(change), who=change.by, until=change.until)
        written = await agent.keeper.change(key, change)
        restart = unix(change.restart) if change.restart else None
        agent.outcomes.ordered(key, Order(asked.verb, asked.who, unix(asked.at), restart))
        if not written:
            return "pending"
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE
        while agent.reconciler.desired.get(key) == before and loop.time() < end:
            await agent.bell.wait(0.05)
        return "requested"

    async def _wait(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        wanted = str(args.get("for") or "ready")
        if wanted not in {"ready", "stopped"}:
            raise worded(UsageError, because("ask.wait_for", wanted=wanted))
        keys = services_meant(self._agent, args.get("names") or [])
        goal = Goal(Phase(wanted), order=False)
        results = await wait_for(self._agent, keys, goal, limit=limit_of(args), emit=emit)
        return [{**result, "result": result_word(result, "", waited=True)} for result in results]

    async def _set(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, params = self._one(args), dict(args.get("params") or {})
        specs = self._agent.params_of(key) or {}
        unknown = [name for name in params if name not in specs]
        if unknown:
            none = because("param.none", service=str(key), name=str(unknown[0]))
            known = because("next.params_none")
            if specs:
                known = because("next.params_are", known=", ".join(specs))
            raise worded(UsageError, none, hint=known)
        values = {name: typed(name, value, specs[name]) for name, value in params.items()}
        for name, value in values.items():
            # Refused before it is written: KV keeps its good document, and an order that waits for
            # Consul never brings a value past `choices` and `pattern`.
            refuse_misfit(key, name, value, specs[name])
        change = DesiredChange(
            params=values, until=self._until(args), by=who, reason=reason_of(args)
        )
        return await self._edit(key, self._on_top(key, change))

    async def _unset(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, names = self._one(args), tuple(args.get("params") or ())
        every = tuple(self._agent.params_of(key) or ())  # all of them, and nothing but them
        why = reason_of(args)
        return await self._edit(key, DesiredChange(unset_params=names or every, by=who, reason=why))

    async def _edit(self, key: ServiceKey, change: DesiredChange) -> dict[str, Any]:
        before = self._agent.keeper.entry(key)
        result = await self._write_document(key, change)
        keys = services_meant(self._agent, [str(key)])
        entry = self._agent.keeper.entry(key)
        refused = entry.refused if entry is not None else None
        # What was refused before says nothing about an order that was not read back yet.
        if refused is not None and entry != before:
            why = because("outcome.refused", verb="set", by=change.by, why=views.say(refused))
            self._agent.record("outcome", str(key), why, who=change.by, outcome="refused")
            raise worded(UsageError, refused, hint=because("next.last_good"))
        record = self._agent.view(keys[0], {})
        answer = {"service": str(key), "result": result, "sentence": record["sentence"]}
        await once_on_disk(self._agent, [answer] if result == "pending" else [])
        return answer

    async def _write_document(self, key: ServiceKey, change: DesiredChange) -> str:
        agent = self._agent
        written = await agent.keeper.change(key, change)
        result = "done" if written else "pending"
        agent.record(
            "verb", str(key), spoken(change), who=change.by, until=change.until, outcome=result
        )
        if written:
            await agent.bell.wait(0.5)
        return result

    async def _register(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        return self._mark(args, who, unregistered=False)

    async def _unregister(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        return self._mark(args, who, unregistered=True)

    def _mark(self, args: dict[str, Any], who: str, *, unregistered: bool) -> list[dict[str, Any]]:
        verb = "unregister" if unregistered else "register"
        rows = []
        for key in services_meant(self._agent, args.get("names") or []):
            runner = self._agent.reconciler.runners[key]
            already = runner.state.unregistered is unregistered
            if not already:
                runner.mark_registered(unregistered=unregistered)
                said = because("verb.ordered", what=verb, by=who)
                self._agent.record("verb", str(key), said, who=who, outcome="done")
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

    async def _confirm(self, _args: dict[str, Any], who: str, _emit: Emit) -> Any:
        ports = self._agent.consul.ports
        if ports is None:
            raise worded(ConsulUnreachable, self._agent.consul.state)
        keeper = self._agent.keeper
        if not keeper.confirm() or keeper.unknown is not None:
            await ports.desired.confirm()
        said = because("verb.ordered", what="confirm", by=who)
        self._agent.record("verb", "", said, who=who, outcome="done")
        return {}

    async def _reload_config(self, _args: dict[str, Any], who: str, _emit: Emit) -> Any:
        changes = self._reload()
        said = because("verb.ordered", what="reload", by=who)
        self._agent.record("verb", "", said, who=who, outcome="done")
        return changes

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

    def _result(self, key: ServiceKey) -> dict[str, Any]:
        runner = self._agent.reconciler.runners.get(key)
        if runner is None:
            return {**ended_for_good(key), "outcome": ""}
        record = self._agent.view(key, {})
        return {
            "service": str(key),
            "phase": runner.state.phase.value,
            "sentence": record["sentence"],
            "reason": record["reason"],
            "reason_params": record["reason_params"],
            "reasons": record["reasons"],
            "outcome": "",
        }
