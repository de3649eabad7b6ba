"""What may be asked of the agent: nothing here changes anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from lictor import __version__
from lictor.core.errors import UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.state import Phase
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers import discovering, explaining
from lictor.core.runtime.answers.all_nodes import all_nodes
from lictor.core.runtime.answers.meant import key_given, services_meant
from lictor.core.runtime.control import Emit
from lictor.core.runtime.desired.keeper import held_reason
from lictor.core.runtime.logs.view import Wanted, stream_logs
from lictor.core.runtime.storage.journal import KINDS, MAX_LINES, JournalQuery, stream_events
from lictor.core.worded import worded


class Questions:
    """The handlers that read, by the name of their operation."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {
            "status": self._status,
            "overview": self._overview,
            "nodes": self._nodes,
            "plan": self._plan,
            "health": self._health,
            "logs": self._logs,
            "events": self._events,
            "discover": self._discover,
            "explain": self._explain,
            "env": self._env,
        }

    async def _status(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        agent = self._agent
        keys = services_meant(self._agent, args.get("names") or [], infrastructure=True)
        figures = bool(args.get("figures") or args.get("verbose"))
        usage = await agent.figures() if figures else agent.usage()
        records = []
        for key in keys:
            if key not in agent.reconciler.runners:
                continue  # it was forgotten while its figures were taken
            record = agent.view(key, usage)
            if figures:
                record |= views.figures(
                    usage.get(key), running=bool(record["pid"] or record["container_id"])
                )
            if args.get("verbose"):
                runner = agent.reconciler.runners[key]
                path = runner.log_path()
                record |= views.details(
                    runner.spec,
                    runner.state,
                    agent.reconciler.desired.get(key),
                    now=agent.tools.clock.now(),
                    log=str(path) if path else None,
                    containment=runner.containment,
                    notes=runner.notes(),
                )
                record["in_catalog"] = agent.consul.in_catalog(key)
            records.append(record)
        return records

    async def _overview(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        agent = self._agent
        state = agent.consul.state
        link = agent.tools.link
        lease = agent.consul.lease
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
            "lease": {
                "state": lease.code.rpartition(".")[2],
                "sentence": views.say(lease),
                "reason": lease.code,
                "reason_params": dict(lease.params),
            },
            "web": agent.web_url,
            "warnings": [views.told(why) for why in self._warnings()],
        }

    async def _nodes(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """All nodes and their services; of this node what is so now, not what was published."""
        return await all_nodes(self._agent, [key_given(name) for name in args.get("names") or []])

    def _warnings(self) -> Iterable[Reason]:
        agent = self._agent
        keeper = agent.keeper
        if agent.consul.state.code != "consul.ok":
            yield agent.consul.state
        if agent.consul.lease.code == "lease.refused":
            yield agent.consul.lease
        if keeper.unknown is not None and agent.consul.state.code == "consul.ok":
            yield keeper.unknown
        for key, error in agent.reconciler.broken.items():
            yield because("plan.broken", service=str(key), error=error)
        if keeper.held is not None:
            yield held_reason(keeper.held)
        for key in keeper.pending:
            yield because("pending.waiting", service=str(key))
        for name, why in keeper.strays.items():
            yield because("kv.stray", key=name, why=views.say(why))
        for key, why in keeper.documents.refused.items():
            if key not in agent.reconciler.runners:
                yield because("kv.stray", key=str(key), why=views.say(why))
        if agent.publisher.refused and agent.consul.state.code == "consul.ok":
            yield because("actual.refused", message=agent.publisher.refused)
        yield from agent.consul.groups.trouble.values()
        for service_id in agent.consul.conflicts:
            yield because("consul.id_taken", id=service_id)
        yield from agent.consul.troubles()
        trouble = agent.tools.store.trouble()
        if trouble is not None:
            yield trouble

    async def _plan(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        await self._agent.gpus.refreshed()
        return [
            views.step(action) for action in self._agent.reconciler.preview().actions
        ] + self._held_plan()

    def _held_plan(self) -> list[dict[str, Any]]:
        """Stops that wait for `lictor confirm`."""
        held = self._agent.keeper.held
        if held is None:
            return []
        why = held_reason(held)
        row = views.told(why)
        return [{"action": "held", "service": str(key), **row} for key in held.services]

    async def _health(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        keys = services_meant(self._agent, args.get("names") or [])
        rows = await asyncio.gather(*(self._check(key) for key in keys))
        return [row for group in rows for row in group]

    async def _check(self, key: ServiceKey) -> list[dict[str, Any]]:
        runner = self._agent.reconciler.runners[key]
        probes = dict(runner.spec.checks)
        if runner.spec.health.probe is not None:
            probes = {"health": runner.spec.health.probe, **probes}
        if runner.state.phase not in {Phase.READY, Phase.UNHEALTHY, Phase.STARTING}:
            output = views.say(runner.state.reason)
            kind = probes["health"].kind if "health" in probes else "process"
            row = {"check": "health", "status": "critical", "output": output, "took_ms": 0.0}
            return [{"service": str(key), **row, "kind": kind}]
        if not probes:
            output = "It runs; it has no health check."
            row = {"check": "process", "status": "passing", "output": output, "took_ms": 0.0}
            return [{"service": str(key), **row, "kind": "process"}]
        prober = self._agent.tools.prober
        results = await asyncio.gather(*(prober.probe(probe) for probe in probes.values()))
        return [
            {
                "service": str(key),
                "check": name,
                "status": "passing" if result.passed else "critical",
                "output": result.output,
                "took_ms": round(result.took * 1000, 1),
                "kind": probes[name].kind,
            }
            for name, result in zip(probes, results, strict=True)
        ]

    async def _logs(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        keys = services_meant(self._agent, args.get("names") or [], infrastructure=True)
        paths = {str(key): self._agent.reconciler.runners[key].log_path() for key in keys}
        return await stream_logs(
            {name: path for name, path in paths.items() if path is not None},
            Wanted.of(args),
            emit,
        )

    async def _events(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        """The journal. `lines` is bounded; `next` of the answer is `before` of the next page."""
        names = [self._subject(name) for name in args.get("names") or []]
        kinds = tuple(str(kind) for kind in args.get("kinds") or [])
        strange = [kind for kind in kinds if kind not in KINDS]
        if strange:
            there_are = because("next.there_are", known=", ".join(KINDS))
            raise worded(UsageError, because("ask.no_kind", kind=strange[0]), hint=there_are)
        since, before, after = args.get("since"), args.get("before"), args.get("after")
        query = JournalQuery(
            subjects=tuple(names),
            kinds=kinds,
            since=float(since) if isinstance(since, int | float) else None,
            before=before if isinstance(before, int) else None,
            after=after if isinstance(after, int) else None,
            limit=min(MAX_LINES, max(0, int(args.get("lines", 50)))),
        )
        follow, store = bool(args.get("follow")), self._agent.tools.store
        answer = await stream_events(store, query, follow=follow, emit=emit)
        if names and not answer["count"]:
            # A group has a journal too, from its first change on; a slip of the hand raises.
            groups = {one.spec.voice_group for one in self._agent.reconciler.runners.values()}
            strangers = [name for name in names if name not in groups]
            if strangers:
                services_meant(self._agent, strangers, infrastructure=True)
        return answer

    @staticmethod
    def _subject(name: object) -> str:
        """A service's name as the journal has it; it may have been removed from the config."""
        return str(key_given(name))

    async def _discover(self, args: dict[str, Any], _who: str, emit: Emit) -> Any:
        return await discovering.discover(self._agent, args, emit)

    async def _explain(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        keys = services_meant(self._agent, args.get("names") or [], infrastructure=True)
        found = await asyncio.gather(*(explaining.explain(self._agent, key) for key in keys))
        return [explaining.record(one, self._agent.node) for one in found]

    async def _env(self, _args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        exports = dict(self._agent.tools.link.exports())
        return {**exports, "LICTOR_NODE": self._agent.node}
