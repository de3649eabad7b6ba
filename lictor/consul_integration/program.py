"""`ConsulServiceRegistry`: registering and finding services from any Python program.

It is here for programs that are no service of a Lictor agent and still want to be found: four plain
methods, no asyncio to know about, over the same client, deadlines and errors as the agent's own. It
supervises nothing and keeps nothing alive: Consul itself asks the health-check URL. It never changes
or removes an entry that was not made through it under the same `owner`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar

from lictor.consul_integration.address import ConsulSettings, TlsOptions
from lictor.consul_integration.background_loop import BackgroundLoop
from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.discovery import ConsulDiscovery
from lictor.consul_integration.program_input import (
    BadArgument,
    check_call_time,
    check_host,
    check_id,
    check_of,
    check_owner,
    check_port,
    check_times,
    check_way,
    meta_of,
    service_label,
    sought_names,
    tags_of,
)
from lictor.consul_integration.registry import ConsulRegistry
from lictor.consul_integration.transport import Limits
from lictor.core.errors import NotFound, Refused
from lictor.core.model.registration import CheckDef, Deregister, Register, Registration, RemoveCheck
from lictor.core.model.state import Health
from lictor.core.ports import Instance, InstanceRecord

T = TypeVar("T")

#: The key in Meta that says whose entry it is. Not the agents' `lictor-owner`: no agent touches it.
OWNER_META = "lictor-api-owner"
_NAME_META = "lictor-name"

_KINDS = ("http", "tcp")
_BEST_FIRST = (Health.PASSING, Health.WARNING, Health.CRITICAL, Health.MAINTENANCE)


class ServiceStatus(TypedDict):
    """One service. `status` is the health of its best instance, because that is what DNS answers.

    It is `absent` when there is no instance. `passing` and `total` count instances.
    """

    service: str
    status: str
    passing: int
    total: int
    instances: list[InstanceRecord]


class ConsulServiceRegistry:
    """Consul's list of services, for a plain program. All methods are synchronous.

    `address` (`http://host:8500`, `https://…`, `unix:///…`), `token` and `tls` win over the
    environment, which is read as the `consul` program does: CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
    CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT and so on. `owner` says whose the entries are: programs
    with the same one may change each other's, others may not. `timeout` is the seconds within
    which each call answers or raises.

    Every method raises `lictor.core.errors.ConsulError` when Consul did not do it
    (`ConsulUnreachable`, `ConsulTimeout`, `NoLeader`, `Forbidden`, …) and nothing of a library's.
    After an error the same object may simply be used again.

    Use it as a context manager, or call `close`. It may be used from several threads, after a
    fork, and from within a running asyncio program (there each call blocks the loop: wrap it in
    `asyncio.to_thread`).
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: TlsOptions | None = None,
        owner: str = "python",
        timeout: float = 10.0,
    ) -> None:
        check_owner(owner)
        check_call_time(timeout)
        check_way(address, token)
        if tls is not None and not isinstance(tls, TlsOptions):
            raise BadArgument("tls must be TlsOptions.")
        found = ConsulSettings.resolve(os.environ, address=address, token=token)
        settings = ConsulSettings(found.address, tls or found.tls, found.token, chosen=found.chosen)
        self.owner = owner
        self.timeout = timeout
        limits = Limits(total=timeout, connect=min(timeout, 1.0))
        self._loop = BackgroundLoop(lambda: ConsulClient.of(settings, limits=limits))

    # --- the four methods --------------------------------------------------------------------

    def register_service(
        self,
        service_name: str,
        host: str,
        port: int,
        health_check_url: str | None,
        *,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        interval: float = 10.0,
        check_timeout: float = 5.0,
        deregister_critical_after: float | None = 86400.0,
    ) -> str:
        """Register one instance of a service, and return its id.

        Consul itself asks `health_check_url` (http or https) every `interval` seconds and waits
        `check_timeout` for 200–299; with None it opens a TCP connection to host and port. A new
        entry is critical until the first answer. `deregister_critical_after` (seconds, at least
        60): an entry that was critical for so long is removed by Consul; None: never.

        The id follows from name, host and port, so that doing it again is the same entry: it
        changes nothing if nothing differs, and keeps the check's status. `ollama_server` becomes
        `ollama-server`, because DNS carries no `_`; the name as given is kept in Meta.

        Raises `BadArgument` for what cannot be registered, `Refused` when the id is another's.
        """
        name = service_label(service_name)
        check_host(host)
        check_port(port)
        service_id = f"lictor-api:{name}:{host}:{port}"
        check = check_of(service_id, host, port, health_check_url)
        check_times(interval, check_timeout, deregister_critical_after)
        own = {OWNER_META: self.owner, _NAME_META: service_name, "external-source": "lictor"}
        registration = Registration(
            service_id=service_id,
            name=name,
            address=host,
            port=port,
            tags=tags_of(tags),
            meta={**meta_of({} if meta is None else meta), **own},
            checks=(
                CheckDef(
                    check_id=check[0],
                    name=f"{service_name} answers",
                    kind=check[1],
                    target=check[2],
                    interval=interval,
                    timeout=check_timeout,
                    deregister_after=deregister_critical_after,
                ),
            ),
        )
        self._run(lambda client: self._register(client, registration))
        return service_id

    def deregister_service(self, service_id: str) -> bool:
        """Remove one entry by its id; False when there is none.

        Raises `Refused` for an entry that was not made through this class under the same owner.
        """
        known = check_id(service_id)
        return self._run(lambda client: self._deregister(client, known))

    def get_service_status(self, service_name: str) -> ServiceStatus:
        """How a service is, on all nodes; `status` is `absent` when nobody offers it.

        It may be anybody's service, Lictor's agents' too; `a_b` is looked for as `a-b` and then as
        it is. Where this token may not see it this raises `Forbidden` rather than say `absent`.
        """
        names = sought_names(service_name)

        async def ask(client: ConsulClient) -> ServiceStatus:
            for name in names:
                found = await ConsulDiscovery(client).discover(name)
                if found:
                    return _status(name, found)
            return _status(names[0], ())

        return self._run(ask)

    def list_services(self) -> list[ServiceStatus]:
        """Every service of the catalog, sorted by name; Consul's own (`consul`) among them."""

        async def ask(client: ConsulClient) -> list[Instance]:
            return await ConsulDiscovery(client).discover()

        by_name: dict[str, list[Instance]] = {}
        for one in self._run(ask):
            by_name.setdefault(one.service, []).append(one)
        return [_status(name, by_name[name]) for name in sorted(by_name)]

    # --- life --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections. What was registered stays. Closing twice is fine."""
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Callable[[ConsulClient], Awaitable[T]]) -> T:
        return self._loop.run(work, self.timeout)

    async def _register(self, client: ConsulClient, wanted: Registration) -> None:
        there = await _entry(client, wanted.service_id)
        if there is not None:
            self._require_ours(wanted.service_id, there)
        registry = ConsulRegistry(client, "")
        await registry.apply(Register(wanted))
        if there is not None:
            # The kind of the check may have changed: the other one would be asked for ever.
            kept = {check.check_id for check in wanted.checks}
            for check_id in (f"{wanted.service_id}:{kind}" for kind in _KINDS):
                if check_id not in kept:
                    await registry.apply(RemoveCheck(check_id))

    async def _deregister(self, client: ConsulClient, service_id: str) -> bool:
        there = await _entry(client, service_id)
        if there is None:
            return False
        self._require_ours(service_id, there)
        await ConsulRegistry(client, "").apply(Deregister(service_id))
        return True

    def _require_ours(self, service_id: str, there: Mapping[str, Any]) -> None:
        owner = (there.get("Meta") or {}).get(OWNER_META)
        if owner == self.owner:
            return
        whose = f"of owner {owner!r}" if owner else "of somebody else"
        raise Refused(
            f"The entry {service_id} in Consul is {whose}: it is left alone.",
            hint="Only whoever made it should change it.",
            code="registry.foreign",
        )


async def _entry(client: ConsulClient, service_id: str) -> Mapping[str, Any] | None:
    """What the local agent holds under an id; None if nothing. Raises `Forbidden` if hidden.

    The only loud question: the list of all leaves out what the token may not see (1.8.7).
    """
    try:
        found = await client.request("GET", f"/v1/agent/service/{service_id}")
    except NotFound:
        return None
    return found if isinstance(found, dict) else {}


def _status(name: str, found: Iterable[Instance]) -> ServiceStatus:
    records = [one.record() for one in found]
    healths = {record["health"] for record in records}
    best = next((word.value for word in _BEST_FIRST if word.value in healths), "absent")
    return {
        "service": name,
        "status": best,
        "passing": sum(record["health"] == Health.PASSING.value for record in records),
        "total": len(records),
        "instances": records,
    }
