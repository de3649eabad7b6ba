"""Services that are only called otherwise since the last reload: the new name takes over, no gap.

`planning.succession` finds them. Where both can run, the old one stays, registered, until the new
one is ready and Consul's catalog shows it passing; where they cannot (one port, one GPU each), the
new one waits until the old one has ended instead of failing at its port. This part starts and stops
nothing: it keeps a definition among those that are wanted, or holds one back, and asks for a merge.
An agent that ends meanwhile forgets about it, and the next one knows the new config only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lictor.core.model.desired import Desired, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Phase
from lictor.core.planning.succession import renamed, side_by_side

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_LOOK = 0.1  # seconds between two looks while somebody is being succeeded
_CATALOG = 15.0  # seconds after ready in which the catalog should show it


@dataclass(frozen=True, slots=True)
class _Heir:
    """Who takes over from the old definition `spec`; `beside`: both run meanwhile."""

    spec: ServiceSpec
    key: ServiceKey
    beside: bool


class Succession:
    """The renamed services of one agent, by their old names. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._heirs: dict[ServiceKey, _Heir] = {}

    def note(
        self, before: Mapping[ServiceKey, ServiceSpec], after: Mapping[ServiceKey, ServiceSpec]
    ) -> None:
        """A config was replaced by another: see who is succeeded by whom."""
        pairs, runners = renamed(before, after), self._agent.reconciler.runners
        for old, heir in list(self._heirs.items()):
            key = pairs.get(heir.key, heir.key)  # renamed again before it had taken over
            if old in after or key not in after:
                del self._heirs[old]
            else:
                self._heirs[old] = _Heir(heir.spec, key, side_by_side(heir.spec, after[key]))
        for old, new in pairs.items():
            runner = runners.get(old)
            if runner is None or not runner.state.phase.running:
                continue
            self._heirs[old] = _Heir(before[old], new, side_by_side(before[old], after[new]))
            self._agent.record("config", str(new), because("config.renamed", old=str(old)))
        if self._heirs:
            self._agent.background.keep("succession", self._attend, once=True)

    def staying(self) -> dict[ServiceKey, ServiceSpec]:
        """The definitions that are wanted although the config has them no more."""
        return {old: heir.spec for old, heir in self._heirs.items() if heir.beside}

    def in_turn(self, desired: Desired) -> Desired:
        """What is wanted, with those held back that need what the one before them still has."""
        waiting = {heir.key: old for old, heir in self._heirs.items() if not heir.beside}
        if not waiting:
            return desired
        return {
            key: replace(want, blocked=want.blocked or because("renamed.waits", old=str(old)))
            if (old := waiting.get(key)) is not None
            else want
            for key, want in desired.items()
        }

    async def _attend(self) -> None:
        while self._heirs:
            await asyncio.sleep(_LOOK)
            over = [old for old, heir in self._heirs.items() if self._is_over(old, heir)]
            for old in over:
                del self._heirs[old]
            if over:
                self._agent.desired_changed()

    def _is_over(self, old: ServiceKey, heir: _Heir) -> bool:
        agent = self._agent
        runners = agent.reconciler.runners
        if not heir.beside:
            return old not in runners  # it ended, and was forgotten
        want, runner = agent.reconciler.desired.get(heir.key), runners.get(heir.key)
        if want is None or runner is None or want.state is not DesiredState.RUNNING:
            return True  # nobody is to take over
        if want.blocked is not None or runner.state.phase is Phase.BLOCKED:
            return True  # it cannot run here as things are: perhaps it can in the old one's place
        if runner.state.phase is not Phase.READY:
            return False
        ready = agent.tools.clock.now() - (runner.state.ready_since or 0.0)
        return ready > _CATALOG or agent.consul.shows_passing(heir.key)
