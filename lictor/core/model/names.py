"""Names that DNS can carry, and how what people type becomes one.

A service name is one DNS label (RFC 1035 §2.3.1, RFC 1123 §2.1). Consul takes nearly anything and
then fails to resolve it (consul.md §2), so names are checked here, before anything is registered.
Users' documents use `_` and capitals (`gpt_sovits_server`, `vLLM`): those are accepted on input.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

#: Consul's own service and Lictor's registration of itself.
RESERVED = frozenset({"consul", "lictor"})


class BadName(ValueError):
    """The text cannot be made a DNS label; the message says why."""


def is_label(text: str) -> bool:
    """Whether `text` already is a DNS label as Lictor wants it (lower case, 1 to 63 characters)."""
    return _LABEL.fullmatch(text) is not None


def canonical(raw: str) -> str:
    """The DNS label for what a person typed: lower case, `_` becomes `-`.

    Raises `BadName` for anything that is still no label then.
    """
    name = raw.strip().lower().replace("_", "-")
    if is_label(name):
        return name
    if not name:
        raise BadName("a name cannot be empty")
    if len(name) > 63:
        raise BadName(f"{raw!r} is longer than the 63 characters that DNS allows")
    raise BadName(f"{raw!r} is not a DNS name: use letters a-z, digits and inner hyphens")


def dns_safe(text: str, fallback: str = "node") -> str:
    """The nearest DNS label to a host name: the first label, odd characters as hyphens."""
    first = text.split(".", maxsplit=1)[0].lower()
    safe = re.sub(r"[^a-z0-9]+", "-", first).strip("-")[:63].strip("-")
    return safe or fallback


class ServiceKey(NamedTuple):
    """Which service on this host: its name and, if it has instances, the instance.

    Written `piper` or `piper@a`, in commands and in KV keys alike.
    """

    name: str
    instance: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.instance}" if self.instance else self.name

    @classmethod
    def parse(cls, raw: str) -> ServiceKey:
        """Read `name` or `name@instance` as typed; raises `BadName`."""
        name, at, instance = raw.partition("@")
        return cls(canonical(name), canonical(instance) if at else "")

    def meant_by(self, name: ServiceKey) -> bool:
        """Whether a name as typed means this service: `piper` means all its instances."""
        return self == name or (self.name == name.name and not name.instance)


def registration_id(node: str, key: ServiceKey) -> str:
    """The Consul service id of a service of ours: `lictor:<node>:<name>[:<instance>]`."""
    tail = f":{key.instance}" if key.instance else ""
    return f"lictor:{node}:{key.name}{tail}"
