"""The nouns of people.db: users, sessions, API tokens, and lines of the audit log.

Frozen values without behaviour; `repr` shows no hash and no digest. What may be done with them is
said in `people` and `audit`, how they are kept in `peopledb`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lictor.web.auth.rights import Right, Role


@dataclass(frozen=True, slots=True)
class User:
    """A person with a password. Times are Unix seconds.

    `generation` rises whenever all that was given out before must end (a new password, disabled).
    """

    name: str
    role: Role
    hash: str = field(repr=False)
    created: float
    changed: float
    disabled: bool = False
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. `renewal` is the digest of the cookie that renews it, `previous` the one before.

    Two tabs may renew at the same moment, so `previous` counts for a moment after `renewed`.
    """

    id: str
    user: str
    generation: int
    created: float
    renewed: float
    expires: float
    renewal: str = field(repr=False)
    previous: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A credential of a program.

    It acts as `user` (whose role counts, and with whom it ends), or alone with `role` under its own
    name. `only` limits it to some rights. `digest` is all that is kept of its secret.
    """

    id: str
    name: str
    user: str | None
    role: Role | None
    only: frozenset[Right] | None
    digest: str = field(repr=False)
    created: float
    expires: float | None = None
    used: float | None = None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what, from where, and what came of it.

    `action` is a method and a route, or an operation of the command line; `outcome` is ok, denied,
    refused or failed; `status` the HTTP status (0 on the socket). `id` is 0 until it is kept.
    """

    at: float
    who: str
    role: str
    via: str
    remote: str
    action: str
    target: str
    outcome: str
    status: int = 0
    detail: str = ""
    id: int = 0

    def plain(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "at": self.at,
            "who": self.who,
            "role": self.role,
            "via": self.via,
            "remote": self.remote,
            "action": self.action,
            "target": self.target,
            "outcome": self.outcome,
            "status": self.status,
            "detail": self.detail,
        }
