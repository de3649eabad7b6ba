"""What Consul's catalog last said of our node: all checks there, and what follows from them.

The registrar, which alone watches Consul, tells it; others only ask. Nothing is known before the
first answer and after the watch broke, and that is never taken for an empty catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from lictor.core.model.registration import Registration
from lictor.core.planning.registration import WELL, is_given_out, is_listed, kept_out

#: Status and output of checks, by id.
Checks: TypeAlias = Mapping[str, tuple[str, str]]


class CatalogView:
    """The checks of our node in the catalog, or None where they are not known."""

    def __init__(self) -> None:
        self.checks: Checks | None = None
        self.kept_out = frozenset[str]()  # as `planning.registration.kept_out` says; the last known

    def hear(self, checks: Checks) -> bool:
        """Take a new answer; whether others are kept out of DNS by it than before."""
        before, self.kept_out = self.kept_out, kept_out(checks)
        self.checks = checks
        return before != self.kept_out

    def forget(self) -> None:
        """The watch broke: what it said last is no longer known to be so."""
        self.checks = None

    def lost(self, checks: Checks, prefix: str) -> bool:
        """Whether a check whose id begins so is not among these any more."""
        before = self.checks or {}
        return any(name.startswith(prefix) and name not in checks for name in before)

    def has(self, service_id: str) -> bool | None:
        """Whether the catalog has this entry of ours; None: not known."""
        return None if self.checks is None else is_listed(self.checks, service_id)

    def about(self, service_id: str) -> Checks:
        """The checks of one entry; none where nothing is known."""
        prefix = f"{service_id}:"
        return {name: it for name, it in (self.checks or {}).items() if name.startswith(prefix)}

    def passes(self, entry: Registration) -> bool:
        """Whether every check of this entry passes; true where that is not known."""
        known = self.checks
        return known is None or all(
            known.get(check.check_id, ("", ""))[0] in WELL for check in entry.checks
        )

    def gives_out(self, service_id: str) -> bool:
        """Whether DNS names this entry, as far as is known."""
        return self.checks is not None and is_given_out(self.checks, service_id)
