"""What a reload would change, as a value.

The running configuration stays in force until a new one is whole, so the two can be compared first
and shown (`lictor reload` says what it did). A service is restarted only if something changed that
takes effect at a start (`ServiceSpec.fingerprint`); everything else is exchanged under it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from lictor.core.config.settings import Config
from lictor.core.model.names import ServiceKey

#: Settings that a reload puts in force; every other one is read once, at the agent's start.
LIVE = frozenset({"agent.on_term", "agent.port_range", "agent.advertise"})


@dataclass(frozen=True, slots=True)
class ConfigDiff:
    """The differences, in the order of the files.

    `restart`: must be started anew to get the change. `in_place`: changed without a restart.
    `agent_restart`: settings (`web.port`) that wait for the agent's next start.
    """

    added: tuple[ServiceKey, ...] = ()
    removed: tuple[ServiceKey, ...] = ()
    restart: tuple[ServiceKey, ...] = ()
    in_place: tuple[ServiceKey, ...] = ()
    agent_restart: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.added or self.removed or self.restart or self.in_place or self.agent_restart
        )


def diff(old: Config, new: Config) -> ConfigDiff:
    """From `old` to `new`."""
    both = [key for key in new.services if key in old.services]
    changed = [key for key in both if old.services[key] != new.services[key]]
    restart = tuple(
        key for key in changed if old.services[key].fingerprint() != new.services[key].fingerprint()
    )
    return ConfigDiff(
        added=tuple(key for key in new.services if key not in old.services),
        removed=tuple(key for key in old.services if key not in new.services),
        restart=restart,
        in_place=tuple(key for key in changed if key not in restart),
        agent_restart=_settings(old, new),
    )


def _settings(old: Config, new: Config) -> tuple[str, ...]:
    changed: list[str] = []
    for section in ("agent", "consul", "web"):
        before, after = getattr(old, section), getattr(new, section)
        for setting in fields(before):
            name = f"{section}.{setting.name}"
            same = getattr(before, setting.name) == getattr(after, setting.name)
            if not same and name not in LIVE:
                changed.append(name)
    return tuple(changed)
