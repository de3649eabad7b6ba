"""Tells of changes of state a moment after they happened, in their order.

What a change leads to (a signal, a start) comes first, what is written down of it follows: with two
hundred services to stop, the last would otherwise wait for the first one's log line, row and line of
the journal. The moment is one round of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from lictor.core.model.names import ServiceKey
from lictor.core.model.state import ServiceState
from lictor.core.ports import Store
from lictor.core.runtime import views
from lictor.core.runtime.storage.codec import state_row

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """A service's state, and the one before; `at` is Unix seconds."""

    key: ServiceKey
    state: ServiceState
    before: ServiceState
    at: float

    @property
    def visible(self) -> bool:
        """Whether people hear of it: it has another phase, or another reason for the same one."""
        return self.state.phase is not self.before.phase or self.state.reason != self.before.reason


class Telling:
    """Writes changes into the log, the rows and the journal. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Change] = []

    def add(self, change: Change) -> None:
        """Tell of this soon."""
        self._waiting.append(change)
        if len(self._waiting) == 1:
            # By way of another round: the tasks that the changes of this one made begin in between.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self.now)

    def now(self) -> None:
        """Tell of everything that waits: whatever is written down next comes after it."""
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            self._tell(change)

    def _tell(self, change: Change) -> None:
        key, state = str(change.key), change.state
        self._store.save("services", key, state_row(state))
        if not change.visible:
            return
        phase = state.phase.value
        said = {"service": key, "phase": phase}
        log.info("%s is %s: %s", key, phase, views.say(state.reason), extra=said)
        self._store.record(
            at=change.at,
            kind="phase",
            subject=key,
            reason=state.reason,
            who="lictor",
            data={"phase": phase},
        )
