"""Orders to hold or release from other nodes: each is carried out once, whatever happens between.

An order is a key in KV. Once it is carried out, that is noted on disk and the key taken away; if Consul
is gone in between, the key that is still there on its return is known. Whether an order may be carried
out is judged where those from this host are: in `orders.holds`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from lictor.core.errors import ConsulError
from lictor.core.model.desired import HoldOrder
from lictor.core.ports import DesiredSource, Store

log = logging.getLogger(__name__)

_TABLE = "hold_orders"


class HoldInbox:
    """The orders from other nodes; `carry_out` is called once for each."""

    def __init__(self, store: Store, carry_out: Callable[[HoldOrder], None]) -> None:
        self._store = store
        self._carry_out = carry_out
        self._done: dict[str, object] | None = None

    async def take(self, source: DesiredSource, orders: Sequence[HoldOrder]) -> None:
        """Carry out what is new, and take all of them away; raises nothing."""
        if self._done is None:  # not before: the store is read once everything else was begun
            self._done = {name: row.get("index") for name, row in self._store.load(_TABLE).items()}
        for order in orders:
            name = str(order.key)
            if self._done.get(name) != order.index:
                self._done[name] = order.index
                self._carry_out(order)
                # After it: whoever dies in between does it once more, which changes nothing.
                self._store.save(_TABLE, name, {"index": order.index})
            try:
                await source.taken_up(order)
            except ConsulError as error:
                log.warning("an order that is done cannot be taken away: %s", error.message)
