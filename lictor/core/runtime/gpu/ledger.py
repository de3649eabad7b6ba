"""What is remembered of GPUs: who was given what, which starts were ordered, the most each one took.

All of it is in the store, so that an agent that comes after a sudden death keeps what this one promised
and finishes what was ordered. It decides nothing and looks at no card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lictor.core.model.desired import Desired
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.gpu_plan import Place
from lictor.core.ports import Store
from lictor.core.runtime.storage.codec import key_from

_PLACES, _PEAKS, _ORDERS = "gpus", "gpu_peaks", "gpu_orders"
_GROWN = 1.02  # by which a peak must rise to be written down


class Ledger:
    """Places, orders and peaks, by service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.places: dict[ServiceKey, Place] = {}
        self.orders: set[ServiceKey] = set()
        self._peaks: dict[ServiceKey, tuple[str, int]] = {}

    def load(self) -> None:
        """What an earlier agent wrote down."""
        for name, row in self._store.load(_PLACES).items():
            key, claim = key_from(name), row.get("claim")
            if key is not None and isinstance(claim, int):
                self.places[key] = Place(str(row.get("card")), claim)
        for name, row in self._store.load(_PEAKS).items():
            key, peak = key_from(name), row.get("bytes")
            if key is not None and isinstance(peak, int):
                self._peaks[key] = str(row.get("fingerprint")), peak
        keys = (key_from(name) for name in self._store.load(_ORDERS))
        self.orders = {key for key in keys if key is not None}

    def give(self, key: ServiceKey, place: Place | None) -> None:
        """A service was given a place; None: it has none any more."""
        if place is None and self.places.pop(key, None) is None:
            return
        if place is not None:
            self.places[key] = place
        row = None if place is None else {"card": place.uuid, "claim": place.claim}
        self._store.save(_PLACES, str(key), row)

    def order(self, keys: Iterable[ServiceKey]) -> None:
        """Somebody ordered these to start."""
        for key in set(keys) - self.orders:
            self.orders.add(key)
            self._store.save(_ORDERS, str(key), {})

    def fulfilled(self, keys: Iterable[ServiceKey]) -> None:
        """The order was acted on, or taken back."""
        for key in set(keys) & self.orders:
            self.orders.discard(key)
            self._store.save(_ORDERS, str(key), None)

    def took(self, spec: ServiceSpec, used: int) -> None:
        """A service was seen to take so many bytes of a card."""
        made_of = spec.fingerprint()
        before, peak = self._peaks.get(spec.key, (made_of, 0))
        if used and (before != made_of or used > _GROWN * peak):
            self._peaks[spec.key] = made_of, used
            row = {"bytes": used, "fingerprint": made_of}
            self._store.save(_PEAKS, str(spec.key), row)

    def peaks(self, desired: Desired) -> Mapping[ServiceKey, int]:
        """The most each was seen to take; of another model or other arguments it says nothing."""
        return {
            key: peak
            for key, (made_of, peak) in self._peaks.items()
            if key in desired and desired[key].spec.fingerprint() == made_of
        }
