"""What config.yml says about the agent itself, and the whole of it: `Config`.

Frozen values, complete: every default is filled in and every relative path is absolute. They are
what the rest of Lictor sees of a config file; nobody else knows YAML. Secrets stay out of `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lictor.core.errors import Problem
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The agent on this host.

    `node` None: the host name made DNS-safe, then fixed in `data_dir`. `advertise` None: loopback.
    `port_range` is inclusive.
    """

    data_dir: Path
    node: str | None = None
    mode: Literal["full", "local", "cloud"] = "full"
    advertise: str | None = None
    on_term: Literal["stop", "keep"] = "stop"
    port_range: tuple[int, int] = (20000, 20999)
    socket_group: str | None = None


@dataclass(frozen=True, slots=True)
class ConsulSettings:
    """How to reach Consul. `address` None: nobody named one (`embedded: auto` may apply).

    `address` is a URL: `http://host:port`, `https://host:port` or `unix:///path`. `token_file` is
    read by the client at each use; when it is set, `token` is None.
    """

    address: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    tls_server_name: str | None = None
    verify: bool = True
    datacenter: str | None = None
    embedded: Literal["auto", "never", "always"] = "auto"
    kv_prefix: str = "lictor"
    kv_restore: Literal["auto", "never"] = "auto"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificate (chain) and key, PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The HTTP side of the agent. `port` 0: any free port. `base_path` is "" or begins with `/`."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 7031
    tls: TlsSettings | None = None
    base_path: str = ""
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    behind_proxy: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """One config.yml, read, checked and expanded.

    `services` is in the order of the file. `notes` are sentences for the person who wrote it:
    accepted but without effect yet, or a risk. `allocated_ports` are the ports that Lictor chose,
    by service key as text; hand them to the next load, so that they stay.
    """

    path: Path
    agent: AgentSettings
    consul: ConsulSettings = field(default_factory=ConsulSettings)
    web: WebSettings = field(default_factory=WebSettings)
    services: Mapping[ServiceKey, ServiceSpec] = field(default_factory=dict)
    notes: tuple[Problem, ...] = ()
    allocated_ports: Mapping[str, int] = field(default_factory=dict)
