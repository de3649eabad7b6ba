"""The schema of config.yml: the file as a whole, and the sections about the agent itself.

These models are the reference of what may be written: each field carries the sentence that
`lictor config schema` shows in an editor. They check types and ranges of single values; what needs
the whole file is in `crosscheck`. The section `services` is in `schema_service`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lictor.core.config.fields import (
    BasePath,
    ConsulAddress,
    Flag,
    Host,
    Name,
    Origin,
    PortOrAny,
    PortRange,
    Text,
    fail,
)
from lictor.core.config.schema_service import ServiceModel

__all__ = ["AgentModel", "ConfigModel", "ConsulModel", "WebModel", "json_schema"]

SCHEMA_TITLE = "Lictor: config.yml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class AgentModel(_Section):
    """The agent on this host."""

    node: Name | None = Field(
        default=None,
        description="Name of this host in Consul KV. Default: the host name, made DNS-safe",
    )
    mode: Literal["full", "local", "cloud"] = Field(
        default="full",
        description="full (local means the same), or cloud: services whose `modes` lack cloud are not run",
    )
    advertise: Host | None = Field(
        default=None,
        description="Address registered for services that bind to all addresses. Default: loopback",
    )
    data_dir: Text | None = Field(
        default=None,
        description="Folder for state, logs and the socket. Default: /var/lib/lictor for root, else "
        "$XDG_STATE_HOME/lictor; $LICTOR_DATA_DIR overrides both",
    )
    on_term: Literal["stop", "keep"] = Field(
        default="stop", description="On SIGTERM: stop all services in order, or leave them running"
    )
    port_range: PortRange = Field(
        default=(20000, 20999),
        description="Where Lictor takes a port from, for a service that uses {port} and names none",
    )
    socket_group: Text | None = Field(
        default=None,
        description="Unix group whose members may command the agent, besides root and its own user",
    )


class ConsulModel(_Section):
    """How to reach Consul. What is not said here comes from the CONSUL_* environment."""

    address: ConsulAddress | None = Field(
        default=None,
        description="URL of the local Consul agent, or unix:///path. Default: $CONSUL_HTTP_ADDR, "
        "else http://127.0.0.1:8500",
    )
    token: Text | None = Field(
        default=None, description="ACL token. Better: token_file, or the environment"
    )
    token_file: Text | None = Field(default=None, description="File that holds the ACL token")
    ca_file: Text | None = Field(
        default=None, description="PEM file of the CA that signed Consul's certificate"
    )
    client_cert: Text | None = Field(default=None, description="PEM file of our client certificate")
    client_key: Text | None = Field(default=None, description="PEM file of its key")
    tls_server_name: Text | None = Field(
        default=None, description="Name expected in Consul's certificate"
    )
    verify: Flag | None = Field(
        default=None, description="Whether to verify Consul's certificate (default: true)"
    )
    datacenter: Text | None = Field(
        default=None, description="Datacenter to ask, if not the agent's own"
    )
    embedded: Literal["auto", "never", "always"] = Field(
        default="auto",
        description="Whether Lictor runs a Consul of its own; auto: only while no address is known",
    )
    kv_prefix: Text = Field(
        default="lictor", description="Folder in Consul KV for desired and actual state"
    )
    kv_restore: Literal["auto", "never"] = Field(
        default="auto",
        description="Whether to republish this node's desired state after Consul lost it",
    )

    @model_validator(mode="after")
    def _consistent(self) -> ConsulModel:
        if self.token and self.token_file:
            raise fail("`token` and `token_file` are both given", "keep one of them")
        if (self.client_cert is None) != (self.client_key is None):
            raise fail("`client_cert` and `client_key` are only useful together")
        if not self.kv_prefix.strip("/") or any(c in self.kv_prefix for c in "?#% "):
            raise fail("`kv_prefix` must be a plain path such as lictor")
        return self


class TlsModel(_Section):
    """Certificate and key of the web server."""

    cert: Text = Field(description="PEM file: certificate and its chain")
    key: Text = Field(description="PEM file: the key")


class WebModel(_Section):
    """The HTTP API, the metrics and the dashboard."""

    enabled: Flag = Field(default=True, description="Whether to serve HTTP at all")
    host: Host = Field(default="127.0.0.1", description="Address to listen on")
    port: PortOrAny = Field(default=7031, description="Port to listen on; 0: any free port")
    tls: TlsModel | None = Field(default=None, description="Serve https with this certificate")
    base_path: BasePath = Field(
        default="", description="Path under which a proxy offers the dashboard"
    )
    cors_origins: list[Origin] = Field(
        default=[], description="Web origins that may call the API from a browser"
    )
    allowed_hosts: list[Text] = Field(default=[], description="Host names under which it answers")
    behind_proxy: Flag = Field(
        default=False, description="Believe X-Forwarded-* of a proxy on loopback"
    )


class ConfigModel(_Section):
    """The whole file."""

    agent: AgentModel = Field(
        default_factory=lambda: AgentModel.model_validate({}), description="The agent on this host"
    )
    consul: ConsulModel = Field(
        default_factory=lambda: ConsulModel.model_validate({}), description="How to reach Consul"
    )
    web: WebModel = Field(
        default_factory=lambda: WebModel.model_validate({}), description="HTTP API and dashboard"
    )
    services: dict[str, ServiceModel] = Field(
        default_factory=dict,
        description="What should be up on this host, by name. Names become DNS labels: `_` and "
        "capitals are mapped",
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of config.yml, for editors: descriptions, defaults and examples."""
    schema = ConfigModel.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA_TITLE
    return schema
