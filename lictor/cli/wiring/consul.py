"""From config.yml to the way to Consul, for the agent and for commands that need none."""

from __future__ import annotations

import os
from pathlib import Path

from lictor.consul_integration.address import ConsulSettings as FromEnvironment
from lictor.consul_integration.address import TlsOptions, TokenFile, TokenProvider
from lictor.consul_integration.link import Link, Wishes
from lictor.core.config.settings import ConsulSettings


def link_for(settings: ConsulSettings, *, data_dir: Path, node: str) -> Link:
    """The Consul that these settings mean."""
    # An address that only the environment names may be the one that `lictor env` printed: `choose`
    # must see where it comes from.
    named = settings.address
    if named is not None and _same(named, os.environ.get("CONSUL_HTTP_ADDR")):
        named = None
    wishes = Wishes(
        address=named,
        mode=settings.embedded,
        token=settings.token,
        token_file=settings.token_file,
        ca_file=str(settings.ca_file or ""),
        client_cert=str(settings.client_cert or ""),
        client_key=str(settings.client_key or ""),
        server_name=settings.tls_server_name or "",
        verify=settings.verify,
        kv_prefix=settings.kv_prefix,
        kv_restore=settings.kv_restore,
    )
    return Link.choose(wishes, data_dir=data_dir, node=node)


def way_in(settings: ConsulSettings | None) -> tuple[str | TokenProvider | None, TlsOptions]:
    """Token and TLS for an address that somebody else named; None: only the environment says."""
    if settings is None:
        found = FromEnvironment.resolve(os.environ, address="127.0.0.1")
        return found.token, found.tls
    token = TokenFile(settings.token_file) if settings.token_file is not None else settings.token
    return token, TlsOptions(
        ca_file=str(settings.ca_file or ""),
        client_cert=str(settings.client_cert or ""),
        client_key=str(settings.client_key or ""),
        server_name=settings.tls_server_name or "",
        verify=settings.verify,
    )


def _same(address: str, other: str | None) -> bool:
    return other is not None and _bare(address) == _bare(other)


def _bare(address: str) -> str:
    return address.strip().removeprefix("http://").rstrip("/")
