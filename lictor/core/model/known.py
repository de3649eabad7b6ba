"""Known or unknown: the difference between "nothing is there" and "nobody could say".

Consul answers an unauthorised read with an empty list (measured on 1.8.7), a cut connection looks
like nothing at all, and both have led supervisors to stop or deregister everything
(hashicorp/consul#3975). So every input of a decision carries which of the two it is, and stopping or
deregistering needs `Known` on everything it depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from lictor.core.model.reason import Reason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """A value that was really read."""

    value: T


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody could say, and why."""

    reason: Reason
