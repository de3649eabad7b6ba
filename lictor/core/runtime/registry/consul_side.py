"""The agent's side that faces Consul: connecting, what should be registered, the last words.

Everything here may be away for hours without any effect on what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lictor import __version__
from lictor.core.errors import ConsulError
from lictor.core.model.desired import DesiredService
from lictor.core.model.names import ServiceKey, registration_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import NODE_META, OWNER_META, CheckDef, Registration, SetStatus
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Health, ServiceState
from lictor.core.planning.registration import Wanted, wanted, with_hash
from lictor.core.ports import ConsulPorts
from lictor.core.runtime import views
from lictor.core.runtime.registry import membership
from lictor.core.runtime.registry.finder import Finder
from lictor.core.runtime.registry.flaps import UPS
from lictor.core.runtime.registry.groups import Groups
from lictor.core.runtime.registry.named_checks import NamedChecks
from lictor.core.runtime.registry.registrar import Registrar

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

log = logging.getLogger(__name__)

_LEAVES = 2.0  # seconds until a service ends although the catalog may still give it out
_LOOKS_AGAIN = 1.0  # seconds between two looks at files that could not be used
_WITHDRAW_LIMIT = 5.0  # seconds for the last words to Consul


class ConsulSide:
    """Consul, as one agent sees it. `state` is `consul.ok` or why Consul cannot be used."""

    def __init__(self, agent: Agent) -> None:
        self.state: Reason = because("consul.connecting")
        self.ports: ConsulPorts | None = None
        self.about: Mapping[str, str | int | None] = {}
        self._agent = agent
        self._told: set[str] = set()
        self._broken: dict[ServiceKey, str] = {}
        self._registrar: Registrar | None = None
        self.finder = Finder(agent.tools.clock, agent.tools.store)
        self.checks = NamedChecks(
            agent.reconciler.runners, agent.tools.clock, agent.tools.prober, self.wake
        )
        self.groups = Groups(
            agent.tools.store,
            agent.tools.clock,
            agent.owner,
            passes=self._passes,
            kept_out=lambda: (
                self._registrar.catalog.kept_out if self._registrar is not None else frozenset()
            ),
            wake=self.wake,
            record=lambda group, reason: agent.record("group", group, reason),
        )
        # What was wanted of each service, and of what it follows: most of it stays from time to time.
        self._known: dict[ServiceKey, tuple[DesiredService, ServiceState, Wanted | None]] = {}

    # --- connecting ---------------------------------------------------------------------

    async def attend(self) -> None:
        """Connect, then keep registrations, health, desired and actual state flowing."""
        agent, link = self._agent, self._agent.tools.link
        if link.address is None:
            self.state = link.problem or because("consul.none")
            return
        self.groups.load()
        ports, registrar = await self._until_equipped()
        await self._until_prepared()
        keep = agent.background.keep
        keep("lease", ports.nodes.keep)
        keep("registrar", registrar.keep_true)
        keep("health", registrar.watch_health)
        keep("checks", self.checks.keep_asking)
        keep("desired", lambda: agent.keeper.follow(ports.desired))
        keep("actual", lambda: agent.publisher.keep_publishing(ports.actual))
        keep("finder", lambda: self.finder.keep_remembering(ports.discovery))
        keep("queries", lambda: self.groups.keep_queries(ports.queries, self._specs))

    async def _equip(self) -> tuple[ConsulPorts, Registrar]:
        """The adapters and the one writer of our entries; makes no contact."""
        agent = self._agent
        if self.ports is None:
            self.ports = await agent.tools.link.connect(
                params_of=agent.params_of,
                memory=agent.keeper.memory,
                notify=self._kv_told,
            )
            facts = membership.facts_of(agent)
            self.ports.nodes.introduce(facts, self._lease_changed, self._begin_anew)
        if self._registrar is None:
            self._registrar = Registrar(
                self.ports.registry,
                agent.owner,
                entries=self._entries,
                on_health=self._health_edge,
                on_state=self._changed,
                jitter=agent.jitter,
                on_event=self._event,
            )
        return self.ports, self._registrar

    async def _until_equipped(self) -> tuple[ConsulPorts, Registrar]:
        """The same, as soon as it can be: a certificate may be about to be written."""
        while True:
            try:
                return await self._equip()
            except ConsulError as error:
                reason = Reason(error.code, {"message": error.message})
                if reason != self.state:
                    log.warning("Consul cannot be used: %s", error.message)
                self._changed(reason)
            await asyncio.sleep(_LOOKS_AGAIN)

    async def _until_prepared(self) -> None:
        while True:
            try:
                await self._agent.tools.link.prepare()
            except ConsulError as error:
                self.state = Reason(error.code, {"message": error.message})
                await asyncio.sleep(0.2)
            else:
                return

    def _changed(self, reason: Reason) -> None:
        agent = self._agent
        if reason.code == "consul.ok":
            agent.tools.link.remember()
            self._begin_anew()
            agent.background.keep("about", self._learn_about, once=True)
            self._told.clear()
        if reason.code != self.state.code and reason.code not in self._told:
            # Once each, however often an outage changes its face.
            self._told.add(reason.code)
            agent.record("consul", "", reason)
        self.state = reason
        agent.bell.ring()

    def _begin_anew(self) -> None:
        """What Consul was told may be lost: tell it again, as far as it does not know it."""
        agent = self._agent
        self.groups.look_at_queries()
        self.finder.look_again()
        if self.ports is not None:
            agent.publisher.begin_anew(self.ports.actual, *agent.reconciler.runners)
        agent.background.keep("tidy", self._tidy, once=True)

    def _kv_told(self, reason: Reason) -> None:
        """What was done to KV unasked. A loss may be noticed here alone.

        A Consul that was emptied and is back before anybody asked it anything looks as if it had
        never been away: no call failed, and the registrar just finds its entries gone.
        """
        self._agent.record("desired", "", reason)
        if reason.code == "consul.emptied":
            self._begin_anew()

    async def _tidy(self) -> None:
        """Take out the records of services that are no longer defined here, whoever wrote them."""
        if self.ports is not None:
            there = await self.ports.actual.published()
            self._agent.publisher.touch(*(there - self._agent.reconciler.runners.keys()))

    @property
    def lease(self) -> Reason:
        """How the lease of this node's name is; `lease.none` without any Consul."""
        if self.ports is None:
            return because("lease.none", message=views.say(self.state))
        return self.ports.nodes.lease

    def _lease_changed(self, lease: Reason) -> None:
        self._agent.record("consul", "", lease)
        self._agent.bell.ring()

    async def _learn_about(self) -> None:
        self.about = await self._agent.tools.link.about()
        self._agent.bell.ring()

    async def last_words(self, *, everything: bool) -> None:
        """Withdraw what will not be true any more; bounded, whatever Consul does."""
        await self._agent.background.cancel()
        if self._agent.tools.link.address is None:
            return
        with contextlib.suppress(ConsulError, TimeoutError):
            async with asyncio.timeout(_WITHDRAW_LIMIT):
                # Whoever ends soon after the start may not have been equipped yet, and an earlier
                # agent's entries are ours all the same.
                ports, registrar = await self._equip()
                await self._agent.publisher.flush(ports.actual)
                if everything:
                    await registrar.withdraw()
                else:
                    await registrar.withdraw_one(self._own_id)
                await ports.nodes.release()

    # --- registering --------------------------------------------------------------------

    def wake(self) -> None:
        """What should be registered may have changed."""
        if self._registrar is not None:
            self._registrar.wake()

    def became_ready(self, key: ServiceKey) -> None:
        """A verdict from the time before it was ready must not stand."""
        if self._registrar is not None:
            self._registrar.became_ready(registration_id(self._agent.node, key))

    def watches(self, key: ServiceKey) -> bool:
        """Whether Consul's own check of this service is known at present."""
        return self._registrar is not None and self._registrar.watches(
            registration_id(self._agent.node, key)
        )

    async def leave(self, key: ServiceKey) -> None:
        """Wait until the catalog sends nobody to a service that is to end; bounded.

        Told only of the end itself, Consul's clients meet a dead port until they hear of it. In a
        group, whoever takes the place over has it before this returns.
        """
        registrar = self._registrar
        if registrar is None or not registrar.good:
            return
        ids = self.groups.entries_of(key)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVES):
                while any(registrar.gives_out(service_id) for service_id in ids):
                    await registrar.heard.wait()

    def holds(self, key: ServiceKey) -> bool | None:
        """Whether the local Consul agent has its entry; None: not known."""
        if self._registrar is None:
            return None
        return self._registrar.holds(registration_id(self._agent.node, key))

    def in_catalog(self, key: ServiceKey) -> bool | None:
        """Whether Consul's catalog has its entry; None: not known."""
        if self._registrar is None:
            return None
        return self._registrar.catalog.has(registration_id(self._agent.node, key))

    def shows_passing(self, key: ServiceKey) -> bool:
        """Whether Consul's catalog shows a service passing; true where Consul is not known."""
        registrar = self._registrar
        if registrar is None or not registrar.good:
            return True
        known = self._known.get(key)
        if known is None:
            return False
        want, _, entry = known
        return (
            not want.spec.registered
            if entry is None
            else registrar.catalog.passes(entry.registration)
        )

    def said(self, service_id: str) -> str:
        """What we told the local Consul agent about an entry of ours; "" for anybody else's.

        The catalog hears of an output alone only minutes later (check_update_interval).
        """
        if self._registrar is None:
            return ""
        return self._registrar.said(self.groups.own_entry(service_id))

    @property
    def conflicts(self) -> Sequence[str]:
        """Ids of ours that somebody else's entry occupies."""
        return self._registrar.conflicts if self._registrar is not None else ()

    def flaps(self, key: ServiceKey) -> int:
        """How often somebody else deregistered its entry while this agent ran."""
        if self._registrar is None:
            return 0
        return self._registrar.flaps.count(registration_id(self._agent.node, key))

    def troubles(self) -> Iterable[Reason]:
        """What is wrong with single entries of ours, for people."""
        for key, error in self._broken.items():
            yield because("registry.broken", service=str(key), error=error)
        registrar = self._registrar
        if registrar is None:
            return
        for service_id, message in registrar.refused.items():
            if service_id in registrar.forbidden:
                yield because("consul.entry_forbidden", id=service_id, message=message)
            else:
                yield because("consul.entry_refused", id=service_id, message=message)
        if not registrar.good:
            return
        for service_id, seconds in registrar.drifting.items():
            yield because("registry.not_in_catalog", id=service_id, seconds=round(seconds, 1))
        now = asyncio.get_running_loop().time()
        for service_id, seconds in registrar.flaps.damped(now).items():
            yield because("registry.damped", id=service_id, limit=UPS, seconds=round(seconds, 1))

    def _event(self, service_id: str, reason: Reason) -> None:
        self._agent.record("consul", self._name_of(service_id), reason)
        self._agent.bell.ring()

    @property
    def refused(self) -> Mapping[str, str]:
        """Entries of ours that Consul does not take, with its own words."""
        return self._registrar.refused if self._registrar is not None else {}

    @property
    def writes(self) -> int:
        """How often this agent has written to Consul."""
        return self._registrar.writes if self._registrar is not None else 0

    def wanted_ids(self) -> frozenset[str]:
        """The ids that belong to what is to be registered of this node now."""
        return frozenset(entry.registration.service_id for entry in self._entries())

    def _entries(self) -> Sequence[Wanted]:
        agent = self._agent
        desired = agent.reconciler.desired
        known, self._known = self._known, {}
        for key, runner in agent.reconciler.runners.items():
            want, state = desired.get(key), runner.state
            if want is None:
                continue
            before = known.get(key)
            if before is not None and before[0] is want and before[1] is state:
                self._known[key] = before
            else:
                self._known[key] = want, state, self._entry_of(key, want, state, before)
        complete = [
            (want, state, self._with_named_checks(want.spec.key, entry))
            for want, state, entry in self._known.values()
            if entry is not None
        ]
        found = (entry for _, _, entry in complete)
        return [*found, *self.groups.entries(complete), *self._own_entry()]

    def _with_named_checks(self, key: ServiceKey, entry: Wanted) -> Wanted:
        told = self.checks.told(key, entry.registration.service_id)
        return replace(entry, told=told) if told else entry

    def _passes(self, entry: Wanted) -> bool:
        return self._registrar is None or self._registrar.catalog.passes(entry.registration)

    def _specs(self) -> Sequence[ServiceSpec]:
        return list(self._agent.config.services.values())

    def _entry_of(
        self,
        key: ServiceKey,
        want: DesiredService,
        state: ServiceState,
        before: tuple[DesiredService, ServiceState, Wanted | None] | None,
    ) -> Wanted | None:
        """What should be registered of one service; a bug there keeps what was, and is shown."""
        try:
            entry = wanted(want, state, self._agent.owner, views.say)
        except Exception as error:  # one broken service must never keep the others from Consul
            if key not in self._broken:
                log.exception("what to register of %s cannot be worked out", key)
            self._broken[key] = f"{type(error).__name__}: {error}"
            return before[2] if before is not None else None
        self._broken.pop(key, None)
        return entry

    @property
    def _own_id(self) -> str:
        return f"lictor:{self._agent.node}:lictor"

    def _own_entry(self) -> Sequence[Wanted]:
        """Lictor itself, with the address of its web side; nothing while it serves no HTTP."""
        agent, url = self._agent, self._agent.web_url
        if url is None:
            return ()
        host, _, port = url.partition("://")[2].rpartition(":")
        own = self._own_id
        checks = (
            CheckDef(
                check_id=f"{own}:http",
                name="Lictor answers",
                kind="http",
                target=f"{url}/health",
                deregister_after=600.0,
                status=Health.PASSING,
            ),
            CheckDef(check_id=f"{own}:lictor", name="Lictor", kind="ttl"),
        )
        meta = {
            OWNER_META: agent.owner.uuid,
            NODE_META: agent.node,
            "lictor-ui": url,
            "external-source": "lictor",
            "version": __version__,
        }
        bare = Registration(own, "lictor", host.strip("[]"), int(port), (), meta, checks)
        sentence = f"Lictor {__version__} runs on {agent.node}."
        return (Wanted(with_hash(bare), SetStatus(f"{own}:lictor", Health.PASSING, sentence)),)

    def _health_edge(self, service_id: str, passed: bool, output: str) -> None:  # noqa: FBT001
        name, _, instance = self._name_of(service_id).partition("@")
        runner = self._agent.reconciler.runners.get(ServiceKey(name, instance))
        if runner is not None:
            runner.observe(passed=passed, output=output)

    def _name_of(self, service_id: str) -> str:
        """The service that an id of ours is about, as people write it."""
        return service_id.removeprefix(f"lictor:{self._agent.node}:").replace(":", "@", 1)
