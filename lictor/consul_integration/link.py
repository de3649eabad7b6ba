"""The way to one Consul: chosen once at start, ours or somebody's, and the adapters over it.

It stands behind `ports.ConsulLink`. Making it is light (it happens before the first services are
started); the HTTP client is loaded when `connect` is called. It starts no process: the embedded
Consul is a `ServiceSpec` that the agent runs like any other service.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from lictor.consul_integration import embedded
from lictor.core.errors import ConsulError, ConsulUnreachable, LictorError, StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamSpec, ServiceSpec
from lictor.core.ports import ConsulPorts
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.consul_integration.address import TlsOptions
    from lictor.consul_integration.client import ConsulClient


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the config and the environment say about Consul; empty strings: nothing."""

    address: str | None = None
    mode: embedded.Mode = "auto"
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    server_name: str = ""
    verify: bool = True
    kv_prefix: str = "lictor"
    kv_restore: Literal["auto", "never"] = "auto"

    def exports(self) -> Mapping[str, str]:
        """What else the `consul` program must know to get in; the token itself is not here."""
        files = {
            "CONSUL_HTTP_TOKEN_FILE": str(self.token_file or ""),
            "CONSUL_CACERT": self.ca_file,
            "CONSUL_CLIENT_CERT": self.client_cert,
            "CONSUL_CLIENT_KEY": self.client_key,
            "CONSUL_TLS_SERVER_NAME": self.server_name,
            "CONSUL_HTTP_SSL_VERIFY": "" if self.verify else "false",
        }
        return {name: value for name, value in files.items() if value}


class Link:
    """`ports.ConsulLink` over HTTP."""

    def __init__(
        self,
        choice: embedded.Choice,
        wishes: Wishes,
        *,
        data_dir: Path,
        node: str,
        own: tuple[embedded.EmbeddedPlan, ServiceSpec] | None = None,
    ) -> None:
        self._choice = choice
        self._wishes = wishes
        self._data_dir = data_dir
        self._node = node
        self._own = own
        self._client: ConsulClient | None = None
        self._dns: tuple[str, int] | None = None
        self._remembered = False
        self._prepared = own is None

    @classmethod
    def choose(
        cls, wishes: Wishes, *, data_dir: Path, node: str, environ: Mapping[str, str] = os.environ
    ) -> Self:
        """Decide which Consul to use; for one of our own, write its files. Does not contact it."""
        choice = embedded.choose(
            data_dir=data_dir,
            env=environ,
            address=wishes.address,
            mode=wishes.mode,
            token=wishes.token,
        )
        own = None
        if choice.kind == "embedded" and choice.binary is not None:
            server = embedded.EmbeddedConsul(data_dir, node, choice.binary)
            try:
                plan = server.prepare()
            except StartFailed as error:
                params = {name: str(value) for name, value in error.params.items()}
                choice = embedded.Choice("none", Reason(error.reason_code, params))
            else:
                own = plan, server.spec(plan)
        return cls(choice, wishes, data_dir=data_dir, node=node, own=own)

    @property
    def address(self) -> str | None:
        """Its HTTP address; None when there is no Consul at all."""
        return self._own[0].address if self._own is not None else self._choice.address

    @property
    def problem(self) -> Reason | None:
        """Why there is none, if so."""
        return self._choice.reason if self._choice.kind == "none" else None

    @property
    def why(self) -> Reason:
        """Why this Consul and no other."""
        return self._choice.reason

    def service(self) -> ServiceSpec | None:
        """The embedded Consul as a service for us to run; None when it is somebody's."""
        return self._own[1] if self._own is not None else None

    async def client(self) -> ConsulClient:
        """The client, made at the first call; loading it takes a moment, so it loads in a thread."""
        if self._client is None:
            if self.address is None:
                none, brings = because("consul.none"), because("next.get_consul")
                raise worded(ConsulUnreachable, none, hint=brings)
            await asyncio.to_thread(importlib.import_module, "lictor.consul_integration.client")
            self._client = self._make_client(self.address)
        return self._client

    async def connect(
        self,
        *,
        params_of: Callable[[ServiceKey], Mapping[str, ParamSpec] | None],
        memory: Mapping[str, object] | None,
        notify: Callable[[Reason], None],
    ) -> ConsulPorts:
        """Make the adapters (no contact yet)."""
        client = await self.client()
        from lictor.consul_integration.actual import KvActual  # noqa: PLC0415 - loaded by now
        from lictor.consul_integration.attic import ConsulAttic  # noqa: PLC0415
        from lictor.consul_integration.desired import KvDesired  # noqa: PLC0415
        from lictor.consul_integration.discovery import ConsulDiscovery  # noqa: PLC0415
        from lictor.consul_integration.inspection import ConsulInspection  # noqa: PLC0415
        from lictor.consul_integration.lease import Lease  # noqa: PLC0415
        from lictor.consul_integration.memory import Remembered  # noqa: PLC0415
        from lictor.consul_integration.nodes import KvNodes  # noqa: PLC0415
        from lictor.consul_integration.queries import ConsulQueries  # noqa: PLC0415
        from lictor.consul_integration.registry import ConsulRegistry  # noqa: PLC0415

        prefix = self._wishes.kv_prefix
        lease = Lease(client, self._node, prefix=prefix)
        registry = ConsulRegistry(client, self._node, lease=lease)
        return ConsulPorts(
            registry=registry,
            desired=KvDesired(
                client,
                self._node,
                params_of=params_of,
                prefix=prefix,
                kv_restore=self._wishes.kv_restore,
                remembered=Remembered.from_record(memory) if memory is not None else None,
                notify=notify,
                lease=lease,
            ),
            actual=KvActual(client, self._node, prefix=prefix, lease=lease),
            discovery=ConsulDiscovery(client),
            inspection=ConsulInspection(client),
            nodes=KvNodes(client, lease, prefix=prefix),
            queries=ConsulQueries(client),
            attic=ConsulAttic(client, registry, lease),
        )

    async def prepare(self) -> None:
        """Let everybody on this host read an embedded Consul of ours; idempotent."""
        if self._prepared or self._own is None:
            return
        plan = self._own[0]
        try:
            await asyncio.to_thread(embedded.bootstrap_acl, plan.address, plan.token, deadline=2.0)
        except ConsulError:
            raise
        except (LictorError, OSError) as error:
            raise ConsulUnreachable(str(error)) from error
        self._prepared = True

    def remember(self) -> None:
        """The first good contact: this data_dir belongs to this kind of Consul from now on."""
        if not self._remembered:
            self._remembered = True
            embedded.remember(self._data_dir, self._choice, self.address)

    async def about(self) -> Mapping[str, str | int | None]:
        """`ui`, `dns` (host:port) and `domain`, as Consul itself tells; None where it does not."""
        from lictor.consul_integration.dns import dns_endpoint  # noqa: PLC0415 - light, but late
        from lictor.consul_integration.inspection import domain_of  # noqa: PLC0415

        client = await self.client()
        seen = await client.agent_self()
        self._dns = dns_endpoint(seen, client.address.host)
        ui_on = bool(_dig(seen, "DebugConfig", "EnableUI")) or bool(
            _dig(seen, "DebugConfig", "UIConfig", "Enabled")
        )
        return {
            "ui": f"{self.address}/ui/" if ui_on else None,
            "dns": f"{self._dns[0]}:{self._dns[1]}" if self._dns else None,
            "domain": domain_of(seen),
        }

    def exports(self) -> Mapping[str, str]:
        """What `lictor env` prints."""
        if self.address is None:
            return {}
        token = self._own[0].token if self._own is not None else self._wishes.token
        dns_port = self._own[0].dns_port if self._own is not None else None
        host = "127.0.0.1"
        if self._dns is not None:
            host, dns_port = self._dns
        told = embedded.exports(self.address, token, dns_port, self._node, dns_host=host)
        return told if self._own is not None else {**told, **self._wishes.exports()}

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.close()

    def holder(self) -> Mapping[str, Any] | None:
        """The document of the agent that has this node's lease now; None if none is known.

        One short look that loads nothing heavy, for a start; a Consul of our own is not asked.
        Blocks for about a second at most.
        """
        if self._own is not None or self.address is None:
            return None
        from lictor.consul_integration.address import ConsulAddress, TokenFile  # noqa: PLC0415
        from lictor.consul_integration.peek import holder  # noqa: PLC0415 - only when it is asked

        wishes = self._wishes
        token = TokenFile(wishes.token_file)() if wishes.token_file is not None else wishes.token
        try:
            where = ConsulAddress.parse(self.address)
        except ConsulError:
            return None  # the client will say what is wrong with it
        key = f"{wishes.kv_prefix.strip('/')}/nodes/{self._node}"
        return holder(where, key, token=token, tls=self._tls())

    def _make_client(self, address: str) -> ConsulClient:
        from lictor.consul_integration.address import TokenFile  # noqa: PLC0415
        from lictor.consul_integration.client import ConsulClient  # noqa: PLC0415

        wishes = self._wishes
        if self._own is not None:
            return ConsulClient(address, token=self._own[0].token)
        token = TokenFile(wishes.token_file) if wishes.token_file is not None else wishes.token
        return ConsulClient(address, token=token, tls=self._tls())

    def _tls(self) -> TlsOptions:
        from lictor.consul_integration.address import TlsOptions  # noqa: PLC0415

        wishes = self._wishes
        return TlsOptions(
            ca_file=wishes.ca_file,
            client_cert=wishes.client_cert,
            client_key=wishes.client_key,
            server_name=wishes.server_name,
            verify=wishes.verify,
        )


def _dig(tree: Mapping[str, Any], *path: str) -> Any:
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
