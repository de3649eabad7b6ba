"""The plan: what would be done, and why. A value, so it can be shown, journalled and tested.

`lictor plan`, the dashboard's preview, the reconciler and the property tests all use this one type.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason


class Verb(StrEnum):
    """What the plan asks of a runner."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    QUEUE = "queue"  # say why it cannot start yet; nothing is done to processes
    BLOCK = "block"  # say why it cannot run here at all
    REST = "rest"  # no longer wanted and not running: forget back-off or queue
    FORGET = "forget"  # no longer defined and not running: the runner can go


@dataclass(frozen=True, slots=True)
class Action:
    """One step for one service. Within a plan each service has at most one.

    `gpus` are the UUIDs of the cards that a start is given, `claim` the bytes it is promised there.
    """

    verb: Verb
    service: ServiceKey
    reason: Reason
    gpus: tuple[str, ...] = ()
    claim: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Waves follow by themselves: the next plan is made when this one has acted."""

    actions: tuple[Action, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.actions)
