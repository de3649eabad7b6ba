"""The agent's side that faces Consul: connecting, what should be registered, the last words.

Everything here may be away for hours without any effect on what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lictor import __version__
from lictor.core.errors import ConsulError
from lictor.core.model.desired import DesiredService
from lictor.core.model.names import ServiceKey, registration_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import CheckDef, Registration, SetStatus
from lictor.core.model.state import Health, ServiceState
from lictor.core.planning.registration import Wanted, wanted, with_hash
from lictor.core.ports import ConsulPorts
from lictor.core.runtime import views
from lictor.core.runtime.registrar import Registrar

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_WITHDRAW_LIMIT = 5.0  # seconds for the last words to Consul


class ConsulSide:
    """Consul, as one agent sees it. `state` is `consul.ok` or why Consul cannot be used."""

    def __init__(self, agent: Agent) -> None:
        self.state: Reason = because("consul.connecting")
        self.ports: ConsulPorts | None = None
        self.about: Mapping[str, str | int | None] = {}
        self._agent = agent
        self._registrar: Registrar | None = None
        # What was wanted of each service, and of what it follows: most of it stays from time to time.
        self._known: dict[ServiceKey, tuple[DesiredService, ServiceState, Wanted | None]] = {}

    # --- connecting ---------------------------------------------------------------------

    async def attend(self) -> None:
        """Connect, then keep registrations, health, desired and actual state flowing."""
        agent, link = self._agent, self._agent.tools.link
        if link.address is None:
            self.state = link.problem or because("consul.none")
            return
        ports, registrar = await self._equip()
        await self._until_prepared()
        keep = agent.background.keep
        keep("registrar", registrar.keep_true)
        keep("health", registrar.watch_health)
        keep("desired", lambda: agent.keeper.follow(ports.desired))
        keep("actual", lambda: agent.publisher.keep_publishing(ports.actual))

    async def _equip(self) -> tuple[ConsulPorts, Registrar]:
        """The adapters and the one writer of our entries; makes no contact."""
        agent = self._agent
        if self.ports is None:
            self.ports = await agent.tools.link.connect(
                params_of=agent.params_of,
                memory=agent.keeper.memory,
                notify=lambda reason: agent.record("desired", "", reason),
            )
        if self._registrar is None:
            self._registrar = Registrar(
                self.ports.registry,
                agent.owner,
                entries=self._entries,
                on_health=self._health_edge,
                on_state=self._changed,
                jitter=agent.jitter,
            )
        return self.ports, self._registrar

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
            if self.ports is not None:
                agent.publisher.begin_anew(self.ports.actual, *agent.reconciler.runners)
            agent.background.keep("about", self._learn_about, once=True)
        if reason.code != self.state.code:
            agent.record("consul", "", reason)
        self.state = reason
        agent.bell.ring()

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

    def holds(self, key: ServiceKey) -> bool | None:
        """Whether the local Consul agent has its entry; None: not known."""
        if self._registrar is None:
            return None
        return self._registrar.holds(registration_id(self._agent.node, key))

    def said(self, service_id: str) -> str:
        """What we told the local Consul agent about an entry of ours; "" for anybody else's.

        The catalog hears of an output alone only minutes later (check_update_interval).
        """
        return self._registrar.said(service_id) if self._registrar is not None else ""

    @property
    def conflicts(self) -> Sequence[str]:
        """Ids of ours that somebody else's entry occupies."""
        return self._registrar.conflicts if self._registrar is not None else ()

    @property
    def refused(self) -> Mapping[str, str]:
        """Entries of ours that Consul does not take, with its own words."""
        return self._registrar.refused if self._registrar is not None else {}

    @property
    def writes(self) -> int:
        """How often this agent has written to Consul."""
        return self._registrar.writes if self._registrar is not None else 0

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
                self._known[key] = want, state, wanted(want, state, agent.owner, views.say)
        found = (entry for _, _, entry in self._known.values() if entry is not None)
        return [*found, *self._own_entry()]

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
            "lictor-owner": agent.owner.uuid,
            "lictor-node": agent.node,
            "lictor-ui": url,
            "external-source": "lictor",
            "version": __version__,
        }
        bare = Registration(own, "lictor", host.strip("[]"), int(port), (), meta, checks)
        sentence = f"Lictor {__version__} runs on {agent.node}."
        return (Wanted(with_hash(bare), SetStatus(f"{own}:lictor", Health.PASSING, sentence)),)

    def _health_edge(self, service_id: str, passed: bool, output: str) -> None:  # noqa: FBT001
        rest = service_id.removeprefix(f"lictor:{self._agent.node}:")
        name, _, instance = rest.partition(":")
        runner = self._agent.reconciler.runners.get(ServiceKey(name, instance))
        if runner is not None:
            runner.observe(passed=passed, output=output)
