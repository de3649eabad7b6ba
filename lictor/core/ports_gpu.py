"""What the shell needs of GPUs, as a protocol; the real one is `core.probes.gpu_helper`."""

from __future__ import annotations

from typing import Protocol

from lictor.core.model.gpu import Inventory
from lictor.core.model.known import Known, Unknown


class GpuProbe(Protocol):
    """Looks at the cards of this host."""

    async def look(self) -> Known[Inventory] | Unknown:
        """Every card as it is now. Never raises, and never takes longer than its time limit.

        `Unknown`: the driver did not answer, or not sensibly; that says nothing about any card.
        A host without driver or cards is `Known`: it has none.
        """
        ...

    async def close(self) -> None:
        """End whatever looks. A later `look` begins anew."""
        ...
