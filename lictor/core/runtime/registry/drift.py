"""Notices where Consul's catalog does not follow its local agent, for entries of ours.

A 200 from the agent means only that the agent took it: without rights, or with a node name that is
reserved, the catalog never hears of it (hashicorp/consul#4741, #8078), and an entry that somebody
took out of the catalog alone stays away until the agent's own anti-entropy, about a minute later.
The catalog is seen through the one watch of this node's checks that runs anyway. This part decides
what is amiss since when and when to push again; it writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lictor.core.model.registration import RegistryView
from lictor.core.planning.registration import MARKS, Owner, is_listed, owned_by

_LAG = 5.0  # seconds that a catalog may be behind its agent without anybody's fault
_AGAIN = 60.0  # seconds between two pushes of one entry: what one did not mend, two will not


class Drift:
    """What differs between agent and catalog, by the id of the entry. Times are seconds."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._missing: dict[str, float] = {}
        self._ghosts: dict[str, float] = {}
        self._pushed: dict[str, float] = {}
        self._told: set[str] = set()

    def look(
        self, seen: RegistryView, listed: Mapping[str, tuple[str, str]] | None, now: float
    ) -> None:
        """Compare what the agent holds with the checks that the catalog lists (None: unknown)."""
        if listed is None:  # nothing is known, so nothing is known to be amiss
            self._missing, self._ghosts = {}, {}
            return
        ours = owned_by(seen, self._owner)
        missing = [
            service_id
            for service_id in ours
            if is_listed(seen.checks, service_id) and not is_listed(listed, service_id)
        ]
        start = f"lictor:{self._owner.node}:"
        parts = (name.rpartition(":") for name in listed)
        shown = {service_id for service_id, _, mark in parts if mark in MARKS}
        ghosts = [name for name in shown if name.startswith(start) and name not in seen.services]
        self._missing = {name: self._missing.get(name, now) for name in missing}
        self._ghosts = {name: self._ghosts.get(name, now) for name in ghosts}
        still = {*missing, *ghosts}
        self._pushed = {name: at for name, at in self._pushed.items() if name in still}

    def missing(self, now: float) -> Mapping[str, float]:
        """Entries that the agent has and the catalog has not, and for how long: only real drift."""
        return _older(self._missing, now)

    def ghosts(self, now: float) -> Mapping[str, float]:
        """Entries that the catalog has and the agent has not, and for how long.

        They look like ours by their id alone; who owns them must be asked of the catalog.
        """
        return _older(self._ghosts, now)

    def due(self, now: float, among: Collection[str]) -> list[str]:
        """Those of `among` that should be pushed again now; each at most once a minute."""
        found = [name for name in among if now - self._pushed.get(name, -_AGAIN) >= _AGAIN]
        self._pushed |= dict.fromkeys(found, now)
        return found

    def news(self, missing: Collection[str]) -> list[str]:
        """Those of the missing that were not missing when this was asked last."""
        found = [name for name in missing if name not in self._told]
        self._told = set(missing)
        return found

    def next_look(self, now: float) -> float | None:
        """Seconds until something that was just noticed counts as drift; None: nothing was."""
        waits = [
            since + _LAG - now
            for since in (*self._missing.values(), *self._ghosts.values())
            if since + _LAG > now
        ]
        return min(waits, default=None)


def _older(since: Mapping[str, float], now: float) -> Mapping[str, float]:
    return {name: now - at for name, at in since.items() if now - at >= _LAG}
