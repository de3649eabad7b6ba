"""Which services a caller means: names as typed, to keys of this host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lictor.core.errors import NoSuchService
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.reason import because
from lictor.core.runtime.supervision.reconciler import keys_named
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent


def key_given(name: object) -> ServiceKey:
    """The key behind a name as typed, defined here or not; raises `NoSuchService` for what is none."""
    try:
        return ServiceKey.parse(str(name))
    except BadName as error:
        bad = because("service.bad_name", name=str(name), why=str(error))
        raise worded(NoSuchService, bad) from None


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
        keys = keys_named([key_given(name)], list(agent.reconciler.runners))
        if not keys:
            raise worded(
                NoSuchService,
                because("service.none", name=str(name)),
                hint=because("next.there_are", known=", ".join(str(key) for key in known)),
            )
        found.update(dict.fromkeys(keys))
    return list(found)


def services_to_order(agent: Agent, names: Iterable[object], verb: str) -> list[ServiceKey]:
    """The same for an order: what the config has no more and still stops cannot be started again.

    It is left out where others are meant too, and refused where it was named: raises `NoSuchService`.
    To stop it is no mistake.
    """
    names, desired = list(names), agent.reconciler.desired
    keys = services_meant(agent, names)
    if verb == "stop":
        return keys
    for name in names:
        meant = services_meant(agent, [name])
        if not any(key in desired for key in meant):
            raise worded(
                NoSuchService,
                because("service.leaving", name=str(name)),
                hint=because("next.write_again"),
            )
    return [key for key in keys if key in desired]
