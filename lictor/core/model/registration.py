"""What Consul should hold for us, what it holds, and the writes that lead from one to the other.

Identity in Consul is (node, service id); ownership is `Meta["lictor-owner"]`, the uuid of this
installation, never a prefix of the id (hashicorp/nomad#2294: prefixes take neighbours' entries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lictor.core.model.state import Health

OWNER_META = "lictor-owner"
NODE_META = "lictor-node"
HASH_META = "lictor-hash"


@dataclass(frozen=True, slots=True)
class CheckDef:
    """One check as we register it.

    `kind` is `http` (Consul asks `target`, a URL), `tcp` (`target` is host:port), `alias` (Consul
    repeats the verdict on the service id `target`) or `ttl` (we tell Consul). Times are seconds. `status` is the status a *new* check starts with; Consul keeps the
    status of a check that already exists.
    """

    check_id: str
    name: str
    kind: str
    target: str = ""
    interval: float = 10.0
    timeout: float = 5.0
    deregister_after: float | None = None
    status: Health = Health.CRITICAL
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Registration:
    """One service entry with its checks, registered in a single call."""

    service_id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[CheckDef, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenCheck:
    """A check as the local Consul agent holds it."""

    check_id: str
    service_id: str
    status: str
    output: str = ""


@dataclass(frozen=True, slots=True)
class SeenService:
    """A service as the local Consul agent holds it."""

    service_id: str
    name: str
    address: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the local Consul agent holds, ours and foreign, by id."""

    services: Mapping[str, SeenService] = field(default_factory=dict)
    checks: Mapping[str, SeenCheck] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Register:
    """PUT agent/service/register with all checks."""

    registration: Registration


@dataclass(frozen=True, slots=True)
class Deregister:
    """PUT agent/service/deregister/:id."""

    service_id: str


@dataclass(frozen=True, slots=True)
class RemoveCheck:
    """PUT agent/check/deregister/:id, for a check of ours that is no longer wanted."""

    check_id: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """PUT agent/check/update/:id, for a TTL check. `output` is Lictor's own sentence."""

    check_id: str
    status: Health
    output: str


Write: TypeAlias = Register | Deregister | RemoveCheck | SetStatus
