"""Cards that a test sets, behind the `GpuProbe` port."""

from __future__ import annotations

from lictor.core.model.gpu import Gpu, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import because


class FakeGpuProbe:
    """What is seen is what the test said last; at first a host without a driver."""

    def __init__(self, *cards: Gpu) -> None:
        self.inventory = Inventory(problem="no_library")
        self.why = ""
        self.looks = 0
        if cards:
            self.set(*cards)

    def set(self, *cards: Gpu) -> None:
        """These cards are there from now on; none: the driver is loaded and shows none."""
        self.inventory = Inventory(cards, driver="550", problem="" if cards else "no_cards")
        self.why = ""

    def hang(self, why: str = "the driver does not answer") -> None:
        """Nobody can say, until `set`."""
        self.why = why

    async def look(self) -> Known[Inventory] | Unknown:
        """What was set."""
        self.looks += 1
        if self.why:
            return Unknown(because("gpu.unknown", why=self.why))
        return Known(self.inventory)

    async def close(self) -> None:
        """Nothing to end."""
