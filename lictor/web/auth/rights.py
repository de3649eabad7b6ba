"""Who may do what: the one table of roles and rights.

It is data, so that it can be read at a glance, walked by a test, and shown to a person. A right that
a role does not have here, it does not have: there is no other place and no default. It decides
nothing about single services; what `Scope.OWN` means for one of them is asked in `gate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """The four roles: all; one's own services; no infrastructure at all; looking only."""

    ADMIN = "admin"
    USER = "user"
    WEB = "web"
    GUEST = "guest"


class Scope(StrEnum):
    """How far a right reaches.

    ALL: everything. OWN: services whose `owner` is the person; of the others, at most what NAMES
    shows. NAMES: names and states, no sentences, addresses, figures, outputs or logs.
    """

    ALL = "all"
    OWN = "own"
    NAMES = "names"


class Right(StrEnum):
    """What a route asks for. Every route that is not open asks for exactly one."""

    SESSION = "session"  # who am I, renew, leave: anybody who has come in
    OWN_PASSWORD = "own_password"  # noqa: S105 - a right's name
    API_DESCRIPTION = "api_description"  # the OpenAPI document
    SERVICES_LIST = "services_list"
    SERVICES_CHANGE = "services_change"  # start, stop, restart of one or of several by name
    SERVICES_CHANGE_ALL = "services_change_all"  # start-all, stop-all, confirm
    START_ENV = "start_env"  # `config.env` of a start or restart
    PARAMS = "params"  # set parameters, switch the model
    HOLDS = "holds"
    RELOAD = "reload"  # read config.yml again
    HEALTH = "health"  # run a service's checks now
    LOGS = "logs"
    EVENTS = "events"
    ENV_NAMES = "env_names"  # names of environment variables, never values
    CONFIG = "config"  # the running configuration, masked
    MONITOR_SUMMARY = "monitor_summary"  # totals of the host and the GPUs
    MONITOR = "monitor"  # processes, containers, disks, networks as well
    REGISTRY = "registry"  # what Consul knows; NAMES: without check outputs and meta
    REGISTRY_CHANGE = "registry_change"  # register, unregister, clean up
    METRICS = "metrics"
    PEOPLE = "people"  # users and API tokens
    AUDIT = "audit"
    GATEWAY = "gateway"  # use of services through /v1


_EVERYBODY = {Right.SESSION: Scope.ALL, Right.API_DESCRIPTION: Scope.ALL}

GRANTS: Mapping[Role, Mapping[Right, Scope]] = MappingProxyType(
    {
        Role.ADMIN: MappingProxyType(dict.fromkeys(Right, Scope.ALL)),
        Role.USER: MappingProxyType(
            {
                **_EVERYBODY,
                Right.OWN_PASSWORD: Scope.ALL,
                Right.SERVICES_LIST: Scope.OWN,
                Right.SERVICES_CHANGE: Scope.OWN,
                Right.PARAMS: Scope.OWN,
                Right.HEALTH: Scope.OWN,
                Right.LOGS: Scope.OWN,
                Right.EVENTS: Scope.OWN,
                Right.ENV_NAMES: Scope.OWN,
                Right.MONITOR_SUMMARY: Scope.ALL,
                Right.REGISTRY: Scope.NAMES,
                Right.GATEWAY: Scope.ALL,
            }
        ),
        Role.WEB: MappingProxyType(
            {**_EVERYBODY, Right.OWN_PASSWORD: Scope.ALL, Right.GATEWAY: Scope.ALL}
        ),
        Role.GUEST: MappingProxyType(
            {**_EVERYBODY, Right.SERVICES_LIST: Scope.NAMES, Right.EVENTS: Scope.NAMES}
        ),
    }
)

#: The services pages. For the role `web`, and in mode `cloud` for all but admins, they do not exist:
#: such a request is answered 404, as an unknown path is, and not 403.
INFRASTRUCTURE = frozenset(Right) - {
    Right.SESSION,
    Right.OWN_PASSWORD,
    Right.API_DESCRIPTION,
    Right.GATEWAY,
}


def granted(role: Role, right: Right, *, mode: str = "full") -> Scope | None:
    """How far `role` has `right` on an agent in `mode` (`agent.mode`); None: not at all."""
    if hidden(role, right, mode=mode):
        return None
    return GRANTS[role].get(right)


def hidden(role: Role, right: Right, *, mode: str = "full") -> bool:
    """Whether the pages behind `right` do not exist for `role` (404 instead of 403)."""
    if right not in INFRASTRUCTURE or role is Role.ADMIN:
        return False
    return role is Role.WEB or mode == "cloud"


#: Every route that asks for no right, and why. One that asks for none and is not here fails a test.
OPEN: Mapping[str, str] = MappingProxyType(
    {
        "GET /health": "says only ok, to Consul and to load balancers",
        "GET /health/services/{name}": "says only the state word, for checks of others",
        "POST /admin/auth/login": "its credential is a password in the body",
        "POST /admin/auth/link": "its credential is a one-time secret in the body",
        "POST /admin/auth/refresh": "its credential is the renewal cookie",
        "GET /": "the page that asks for the password; it holds no data",
        "GET /dashboard": "the same page",
        "GET /static/{version}/{name:path}": "that page's own scripts, styles and pictures",
    }
)
