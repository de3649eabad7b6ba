"""`register` and `unregister` when no agent runs, straight against Consul; and the way there.

Where Consul is: what a running agent says (`resolve` asks even then), else the config, else what
this data_dir remembers, else CONSUL_HTTP_ADDR or the usual address. Nothing is started here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lictor.cli.client import ask_object
from lictor.cli.wiring.configured import find_config, read_config
from lictor.cli.wiring.consul import link_for, way_in
from lictor.consul_integration.client import ConsulClient
from lictor.consul_integration.dns import dns_endpoint
from lictor.consul_integration.inspection import domain_of
from lictor.consul_integration.registry import ConsulRegistry
from lictor.core.config.settings import Config, ConsulSettings
from lictor.core.errors import (
    AgentUnreachable,
    ConfigError,
    ConsulUnreachable,
    Forbidden,
    NoSuchService,
    NotPermitted,
    OperationFailed,
)
from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey, dns_safe
from lictor.core.model.reason import because
from lictor.core.model.registration import (
    Deregister,
    Register,
    Registration,
    SetStatus,
)
from lictor.core.model.state import Health, Phase, ServiceState
from lictor.core.planning.groups import MEMBER_META
from lictor.core.planning.registration import Owner, belongs_to, wanted
from lictor.core.runtime import views
from lictor.core.runtime.storage.codec import key_from
from lictor.core.runtime.storage.datadir import DataDir
from lictor.core.runtime.supervision.reconciler import keys_named
from lictor.core.worded import worded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reach:
    """A Consul and, if somebody knows it already, where its DNS is."""

    client: ConsulClient
    dns: tuple[str, int] | None = None


def register(names: list[str]) -> list[dict[str, Any]]:
    """Register what config.yml defines. Consul asks the services itself; nobody supervises them."""
    config = read_config(find_config(None))
    owner, keys = _owner(config), _chosen(names, config)
    sentence = views.say(because("registry.by_hand"))

    async def write(reach: Reach) -> list[dict[str, Any]]:
        registry = ConsulRegistry(reach.client, owner.node)
        await registry.ready()
        for key in keys:
            want = DesiredService(spec=config.services[key], state=DesiredState.RUNNING)
            entry = wanted(want, ServiceState(phase=Phase.READY), owner, views.say)
            if entry is None:
                continue
            registration = _unproven(entry.registration)
            await registry.apply(Register(registration))
            check = f"{registration.service_id}:lictor"
            await registry.apply(SetStatus(check, Health.PASSING, sentence))
        return [_row(key, "registry.by_hand") for key in keys]

    return with_consul(write)


def unregister(names: list[str]) -> list[dict[str, Any]]:
    """Deregister what this installation left in Consul; entries of others are never touched."""
    config = _config()
    if config is None:
        raise worded(OperationFailed, because("registry.needs_config"))
    if not config.agent.data_dir.exists():  # who has no name yet has left nothing
        if names:
            raise _nothing_ours(names)
        return []
    owner = _owner(config)
    wanted_names = [ServiceKey.parse(name) for name in names]

    async def withdraw(reach: Reach) -> list[dict[str, Any]]:
        registry = ConsulRegistry(reach.client, owner.node)
        await registry.ready()
        seen = await registry.read()
        ours: dict[ServiceKey, list[str]] = {}
        for service_id, there in seen.services.items():
            if belongs_to(there, owner):
                member = key_from(there.meta.get(MEMBER_META, ""))  # under its group's name
                key = member or _key_of(service_id, owner)
                ours.setdefault(key, []).append(service_id)
        chosen = keys_named(wanted_names, ours) if names else list(ours)
        if names and not chosen:
            raise _nothing_ours(names)
        for service_id in (each for key in chosen for each in ours[key]):
            await registry.apply(Deregister(service_id))
        return [_row(key, "registry.unregistered") for key in chosen]

    return with_consul(withdraw)


def _nothing_ours(names: list[str]) -> NoSuchService:
    return worded(NoSuchService, because("registry.nothing_ours", names=", ".join(names)))


def _unproven(registration: Registration) -> Registration:
    """Its checks start critical: only Consul's own answer makes them pass.

    Those that only an agent could ask are left out: nobody would ever answer them.
    """
    return replace(
        registration,
        checks=tuple(
            replace(check, status=Health.CRITICAL)
            for check in registration.checks
            if check.kind != "ttl" or check.check_id.endswith(":lictor")
        ),
    )


def _row(key: ServiceKey, code: str) -> dict[str, Any]:
    return {
        "service": str(key),
        "result": "done",
        "sentence": views.say(because(code)),
        "reason": code,
        "reason_params": {},
    }


def _key_of(service_id: str, owner: Owner) -> ServiceKey:
    name, _, instance = service_id.removeprefix(f"lictor:{owner.node}:").partition(":")
    return ServiceKey(name, instance)


def _chosen(names: list[str], config: Config) -> list[ServiceKey]:
    if not names:
        return list(config.services)
    keys = keys_named([ServiceKey.parse(name) for name in names], config.services)
    if not keys:
        raise worded(NoSuchService, because("config.undefined", names=", ".join(names)))
    return keys


def _owner(config: Config) -> Owner:
    """Who we are, kept in the folder, so that the agent knows the entries as its own.

    It takes no lock, because the folder may belong to an agent that is just starting.
    """
    datadir = DataDir(config.agent.data_dir, -1)
    try:
        datadir.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Owner(uuid=datadir.agent_id(), node=datadir.node(config.agent.node))
    except OSError as error:
        path, why = str(config.agent.data_dir), str(error.strerror)
        raise worded(OperationFailed, because("agent.data_dir", path=path, error=why)) from error


def _config() -> Config | None:
    try:
        return read_config(find_config(None))
    except ConfigError:
        return None


def kv_prefix() -> str:
    """Where Lictor's keys are in KV, as the config says."""
    config = _config()
    return (config.consul if config is not None else ConsulSettings()).kv_prefix.strip("/")


def with_consul(work: Callable[[Reach], Awaitable[T]]) -> T:
    """Do `work` with a client for the Consul that is meant here, and close it."""

    async def run() -> T:
        reach = await _reach()
        try:
            return await work(reach)
        finally:
            await reach.client.close()

    return asyncio.run(run())


async def _reach() -> Reach:
    told = _told_by_agent()
    if told is not None:
        known = _config()
        token, tls = way_in(known.consul if known is not None else None)
        token = told.get("CONSUL_HTTP_TOKEN") or token
        client = ConsulClient(str(told["CONSUL_HTTP_ADDR"]), token=token, tls=tls)
        host, _, port = str(told.get("LICTOR_DNS", "")).rpartition(":")
        return Reach(client, (host.strip("[]"), int(port)) if port else None)
    # Without a config the environment alone says where Consul is, and what its token is.
    config = _config() or read_config(Path(os.devnull))
    settings, data_dir = config.consul, config.agent.data_dir
    if not (data_dir / "consul" / "choice.json").exists() and settings.embedded == "auto":
        settings = replace(settings, embedded="never")  # nothing is made here, only asked
    node = config.agent.node or dns_safe("")
    link = link_for(settings, data_dir=data_dir, node=node)
    if link.address is None:
        raise worded(ConsulUnreachable, link.problem or because("consul.none"))
    return Reach(await link.client())


def _told_by_agent() -> Mapping[str, Any] | None:
    try:
        told = ask_object("env")
    except (AgentUnreachable, NotPermitted):
        return None
    return told if told.get("CONSUL_HTTP_ADDR") else None


async def dns_of(reach: Reach) -> tuple[tuple[str, int], str]:
    """Where the DNS of this Consul is, and the domain that it answers for."""
    try:
        seen = await reach.client.agent_self()
    except Forbidden as error:
        if reach.dns is None:
            await reach.client.check_token()  # none, or one that was revoked, is said as such
            hidden = because("dns.place_hidden")
            raise worded(Forbidden, hidden, hint=because("next.policy")) from error
        return reach.dns, "consul"
    found = reach.dns or dns_endpoint(seen, reach.client.address.host)
    if found is None:
        unknown = because("dns.place_unknown")
        raise worded(ConsulUnreachable, unknown, hint=because("next.dns_off"))
    return found, domain_of(seen)
