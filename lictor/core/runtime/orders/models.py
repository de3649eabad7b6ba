"""The operations about models: which there are, what a switch would do, the switch, and removing one.

Every door (command line, HTTP, dashboard) asks these. They refuse what may not be, say in the answer
what was expected, and wait where the caller wants to wait; the switch itself is
`models.switching`'s and goes on without the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lictor.core.config.params import misfit
from lictor.core.errors import Refused, TimedOut, UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamValue, ServiceSpec
from lictor.core.planning import model_switch
from lictor.core.planning.model_names import PARAM, TRUST, model_problem, offers_choice
from lictor.core.planning.model_switch import Stage, Switch
from lictor.core.probes import hub_cache
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import services_meant
from lictor.core.runtime.answers.services_view import moment
from lictor.core.runtime.control import Emit
from lictor.core.runtime.desired.order_words import limit_of
from lictor.core.runtime.orders.foresight import consequences
from lictor.core.runtime.orders.refusals import (
    Handler,
    hurt_by,
    refuse_infrastructure,
    refuse_to_hurt,
    telling_refusals,
)
from lictor.core.worded import worded

_SHOW_EVERY = 0.5  # seconds between two progress lines
#: What an ended switch is called in answers; `set`: the service does not run, its next start uses it.
_WORDS = {
    Stage.DONE: "done",
    Stage.BACK: "back",
    Stage.FAILED: "failed",
    Stage.LEFT: "set",
    Stage.REPLACED: "replaced",
    Stage.REFUSED: "refused",
}


class ModelOrders:
    """The handlers, by the name of their operation."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops: dict[str, Handler] = {
            "models": self._models,
            "model.plan": self._plan,
            "model": telling_refusals(agent, "model", self._switch),
            "model.delete": telling_refusals(agent, "model.delete", self._delete),
        }

    # --- what there is ----------------------------------------------------------------------

    async def _models(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """The model of a service, the switch under way, and what its cache holds."""
        key, spec = self._meant(args)
        agent, param = self._agent, spec.params[PARAM]
        hub = hub_cache.hub_folder(spec)
        cached = [] if hub is None else await asyncio.to_thread(hub_cache.scan, hub)
        used = {model.id: agent.models.loads.history(key, model.id).used for model in cached}
        view = agent.view(key, {})
        return {
            "service": str(key),
            **(agent.models.told(key) or {}),
            "default": param.default,
            "choices": list(param.choices),
            "pattern": param.pattern,
            "trust": TRUST in spec.params,
            "sentence": view["sentence"],
            "reasons": view["reasons"],
            "cache": None if hub is None else str(hub),
            "models": [
                {
                    "id": model.id,
                    "size_bytes": model.size,
                    "last_used": _moment(max(model.last_used or 0.0, used[model.id] or 0.0)),
                    "complete": model.complete,
                    "partial": model.partial,
                    "current": model.id == agent.models.current(key),
                    "in_use_by": [str(each) for each in self._users(model.id)],
                    "usual_s": agent.models.loads.usual(key, model.id),
                }
                for model in cached
            ],
        }

    async def _plan(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        """What a switch would lead to; nothing is changed."""
        await self._agent.gpus.refreshed()
        key, spec = self._meant(args)
        agent, model = self._agent, str(args.get("model") or "")
        values = self._checked(key, spec, model, args)
        desired, wall = agent.reconciler.desired, agent.tools.clock.wall()
        after = {**desired, key: replace(desired[key], spec=spec.with_params(values), by=who)}
        return {
            "service": str(key),
            "model": model,
            "before": agent.models.current(key),
            "usual_s": agent.models.loads.usual(key, model),
            "hurts": [str(each) for each in hurt_by(agent, [key])],
            "steps": consequences(agent, after, [key], wall=wall),
        }

    # --- the switch -------------------------------------------------------------------------

    async def _switch(self, args: dict[str, Any], who: str, emit: Emit) -> Any:
        key, spec = self._meant(args)
        agent, model = self._agent, str(args.get("model") or "")
        values = self._checked(key, spec, model, args)
        earlier = agent.models.switch(key)
        open_one = earlier is not None and not earlier.stage.over
        same = all(spec.param(name) == value for name, value in values.items())
        if same and not open_one:
            return {**self._answer(key, model, None), "result": "already"}
        if open_one and earlier is not None and earlier.values == values:
            switch = earlier
            if earlier.stage is Stage.GOING_BACK:
                switch = agent.models.begin(key, model, values, who)
        else:
            if agent.reconciler.runners[key].state.phase.running and not args.get("yes"):
                refuse_to_hurt(agent, [key], "restart")
            switch = agent.models.begin(key, model, values, who)
        if args.get("wait"):
            return await self._ended(key, switch, limit_of(args), emit)
        await self._begun(key, switch)
        return self._answer(key, model, self._latest(key, switch))

    async def _begun(self, key: ServiceKey, switch: Switch) -> None:
        """Give a switch a moment to be set, so that the answer tells what came of it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 2.0
        while self._latest(key, switch).stage is Stage.ORDERED and loop.time() < end:
            await self._agent.bell.wait(0.1)

    async def _ended(
        self, key: ServiceKey, switch: Switch, limit: float | None, emit: Emit
    ) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        begun, shown = loop.time(), (-1, "")
        while True:
            now = self._latest(key, switch)
            elapsed = loop.time() - begun
            answer = self._answer(key, switch.model, now)
            if now.stage.over:
                return answer
            if limit is not None and elapsed >= limit:
                seconds, model = f"{limit:g}", switch.model
                slow = because("wait.model", limit=seconds, service=str(key), model=model)
                raise worded(TimedOut, slow, hint=because("next.how_far"))
            stamp = (int(elapsed / _SHOW_EVERY), str(answer["phase"]))
            if stamp != shown:
                shown = stamp
                await emit({**answer, "elapsed": round(elapsed, 1)})
            rest = _SHOW_EVERY if limit is None else min(_SHOW_EVERY, max(0.01, limit - elapsed))
            await self._agent.bell.wait(rest)

    def _latest(self, key: ServiceKey, switch: Switch) -> Switch:
        """The switch as it is now; one that gave way to another has been replaced."""
        now = self._agent.models.switch(key)
        if now is None or (now.at, now.model) != (switch.at, switch.model):
            return replace(switch, stage=Stage.REPLACED)
        return now

    def _answer(self, key: ServiceKey, model: str, switch: Switch | None) -> dict[str, Any]:
        agent = self._agent
        view = agent.view(key, {})
        result, sentence = "requested", str(view["sentence"])
        if switch is not None and switch.stage.over:
            result, sentence = _WORDS[switch.stage], views.say(model_switch.told(switch))
        elif key in agent.keeper.pending:
            result = "pending"
        return {
            "service": str(key),
            "result": result,
            "model": model,
            "before": None if switch is None else switch.before,
            "phase": view["phase"],
            "sentence": sentence,
            "reason": view["reason"],
            "reason_params": view["reason_params"],
            "reasons": [_flat(switch)] if switch and switch.stage.over else view["reasons"],
            "switch": agent.models.told(key),
        }

    # --- removing ---------------------------------------------------------------------------

    async def _delete(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        key, spec = self._meant(args)
        model, hub = str(args.get("model") or ""), hub_cache.hub_folder(spec)
        hub_cache.folder_name(model)
        users = self._users(model)
        if users:
            names = ", ".join(str(each) for each in users)
            used, other = because("model.in_use", model=model, users=names), because("next.model")
            raise worded(Refused, used, hint=other, code="model.in_use")
        if hub is None:
            nowhere = because("model.no_cache", service=str(key))
            raise worded(Refused, nowhere, code="model.no_cache")
        freed = await asyncio.to_thread(hub_cache.remove, hub, model)
        said = because("model.deleted", model=model, freed=freed, by=who)
        self._agent.record("model", str(key), said, who=who, outcome="done")
        return {
            "service": str(key),
            "result": "done",
            "model": model,
            "freed_bytes": freed,
            "sentence": views.say(said),
            "reasons": [{"code": said.code, "params": dict(said.params)}],
        }

    def _users(self, model: str) -> list[ServiceKey]:
        """Services of this host for which a model must stay: it is theirs, or may be again at once."""
        agent = self._agent
        found = []
        for key in agent.reconciler.desired:
            switch = agent.models.switch(key)
            needed = {agent.models.current(key)}
            if switch is not None and not switch.stage.over:
                needed |= {switch.model, switch.before}
            if model in needed:
                found.append(key)
        return found

    # --- what is asked for ------------------------------------------------------------------

    def _meant(self, args: Mapping[str, Any]) -> tuple[ServiceKey, ServiceSpec]:
        keys = services_meant(self._agent, [args.get("name")])
        if len(keys) > 1:
            raise worded(
                UsageError,
                because("ask.one_instance", service=str(args.get("name"))),
                hint=because("next.name_one", known=", ".join(str(key) for key in keys)),
            )
        key = keys[0]
        refuse_infrastructure(self._agent, keys)
        want = self._agent.reconciler.desired.get(key)
        if want is None or not offers_choice(want.spec.params):
            fixed = because("model.no_choice", service=str(key), param=PARAM)
            raise worded(UsageError, fixed, hint=because("next.model_param"))
        return key, want.spec

    def _checked(
        self, key: ServiceKey, spec: ServiceSpec, model: str, args: Mapping[str, Any]
    ) -> dict[str, ParamValue]:
        """The parameters to set; raises with what was expected."""
        param = spec.params[PARAM]
        problem = model_problem(param, model) or misfit(param, model)
        if problem is not None:
            of = because("param.of", service=str(key), name=PARAM)
            raise worded(UsageError, of, problem, hint=because("next.unchanged"))
        trust = args.get("trust_remote_code")
        if trust not in {None, True, False}:
            of = because("param.of", service=str(key), name=TRUST)
            raise worded(UsageError, of, because("param.switch"))
        values: dict[str, ParamValue] = {PARAM: model}
        allowed = TRUST in spec.params and isinstance(spec.params[TRUST].default, bool)
        if trust and not allowed:
            untrusted = because("model.no_trust", service=str(key))
            allow = because("next.allow_trust", param=TRUST)
            raise worded(Refused, untrusted, hint=allow, code="model.no_trust")
        if allowed:
            # Trust is in one model: it never passes on to the next one by itself.
            values[TRUST] = bool(trust) if trust is not None else self._trusted(spec, model)
        return values

    @staticmethod
    def _trusted(spec: ServiceSpec, model: str) -> bool:
        """What holds without a word: the owner's default, and for the same model what holds now."""
        same = spec.param(PARAM) == model
        return bool(spec.param(TRUST) if same else spec.params[TRUST].default)


def _flat(switch: Switch) -> dict[str, Any]:
    said = model_switch.told(switch)
    return {"code": said.code, "params": dict(said.params)}


def _moment(wall: float) -> str | None:
    return moment(wall) if wall > 0 else None
