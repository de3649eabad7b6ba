"""Which services a caller means: names as typed, to keys of this host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lictor.core.errors import NoSuchService
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.runtime.reconciler import keys_named

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


def services_meant(
    agent: Agent, names: Iterable[object], *, infrastructure: bool = False
) -> list[ServiceKey]:
    """The services meant: `piper` means all instances of piper, no name means all services.

    `infrastructure`: with no name, Lictor's own services too. Raises `NoSuchService`.
    """
    known = list(agent.reconciler.runners)
    if not infrastructure:
        known = [key for key in known if key not in agent.infrastructure]
    wanted = list(names)
    if not wanted:
        return known
    found: dict[ServiceKey, None] = {}
    for name in wanted:
        try:
            keys = keys_named([ServiceKey.parse(str(name))], list(agent.reconciler.runners))
        except BadName as error:
            raise NoSuchService(f"No service {name!r}: {error}.") from None
        if not keys:
            have = ", ".join(str(key) for key in known)
            raise NoSuchService(f"No service {name!r} on this node.", hint=f"There are: {have}.")
        found.update(dict.fromkeys(keys))
    return list(found)
