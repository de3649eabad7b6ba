"""The sections `agent`, `consul` and `web`, and the environment that completes them.

The environment counts where the file is silent, by the names that the `consul` program itself
uses; only `$LICTOR_DATA_DIR` beats the file. Files that are named here (tokens, certificates) are
not opened: they are read by whoever uses them, each time, so that they can be renewed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from lictor.core.config.context import LoadContext, resolve
from lictor.core.config.expand import Scope, mapping
from lictor.core.config.fields import NO_CONSUL_URL, consul_url
from lictor.core.config.problems import Place, Problems, quote
from lictor.core.config.schema import AgentModel, ConsulModel, WebModel
from lictor.core.config.settings import AgentSettings, ConsulSettings, TlsSettings, WebSettings
from lictor.core.config.tree import Map, Node, Scalar, describe
from lictor.core.config.validate import Subject, check

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Sections:
    """The top of a config file, with what its parts need to be understood."""

    root: Map
    folder: Path
    context: LoadContext
    problems: Problems

    def subject(self, name: str) -> Subject | None:
        """One section, or None if it is not there (or no mapping, which is written down)."""
        node: Node | None = self.root.get(name)
        if node is None:
            return None
        if not isinstance(node, Map):
            message = f"expected a mapping (key: value), got {describe(node)}"
            self.problems.add(node.place, name, message)
            return None
        return Subject(node, self.root.entries[name].key_place, (name,))

    def model(self, name: str, kind: type[M], scope: Scope) -> M:
        """The checked section; defaults for what is missing or wrong (which is written down)."""
        subject = self.subject(name)
        if subject is not None:
            data = mapping(subject.tree, scope, (name,))
            found = check(kind, data, subject, self.problems)
            if found is not None:
                return found.model
        return kind.model_validate({})


def agent_settings(sections: Sections) -> AgentSettings:
    """The section `agent`, complete."""
    context = sections.context
    scope = Scope(context.env, sections.problems)
    model = sections.model("agent", AgentModel, scope)
    return AgentSettings(
        data_dir=_data_dir(model.data_dir, sections),
        node=model.node,
        mode=model.mode,
        advertise=model.advertise,
        on_term=model.on_term,
        port_range=model.port_range,
        socket_group=model.socket_group,
    )


def _data_dir(written: str | None, sections: Sections) -> Path:
    context = sections.context
    if context.data_dir is not None:
        return context.data_dir.absolute()
    if context.env.get("LICTOR_DATA_DIR"):
        return Path(context.env["LICTOR_DATA_DIR"]).absolute()
    if written is not None:
        return resolve(written, sections.folder, context.env)
    return default_data_dir(context.env, is_root=context.is_root)


def default_data_dir(env: Mapping[str, str], *, is_root: bool) -> Path:
    """Where state lives when nobody says so (XDG Base Directory Specification, for a user)."""
    if is_root:
        return Path("/var/lib/lictor")
    state = env.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):  # the specification: relative paths are to be ignored
        state = str(Path(env.get("HOME") or "/") / ".local" / "state")
    return Path(state) / "lictor"


def consul_settings(sections: Sections, scope: Scope) -> ConsulSettings:
    """The section `consul`, completed from the environment."""
    model = sections.model("consul", ConsulModel, scope)
    env = sections.context.env
    folder = sections.folder

    def path(written: str | None, variable: str) -> Path | None:
        if written is not None:
            return resolve(written, folder, env)
        value = env.get(variable)
        return Path(value).absolute() if value else None

    token, token_file = model.token, path(model.token_file, "")
    if token is None and token_file is None:
        token, token_file = env.get("CONSUL_HTTP_TOKEN"), path(None, "CONSUL_HTTP_TOKEN_FILE")
    ours = model.client_cert is None  # certificate and key come from one place, never mixed
    verify = model.verify
    if verify is None:
        verify = _flag(env, "CONSUL_HTTP_SSL_VERIFY", sections.problems, default=True)
    return ConsulSettings(
        address=_consul_address(model.address, sections),
        token=None if token_file is not None else token or None,
        token_file=token_file,
        ca_file=path(model.ca_file, "CONSUL_CACERT"),
        client_cert=path(model.client_cert, "CONSUL_CLIENT_CERT"),
        client_key=path(model.client_key, "CONSUL_CLIENT_KEY" if ours else ""),
        tls_server_name=model.tls_server_name or env.get("CONSUL_TLS_SERVER_NAME") or None,
        verify=verify,
        datacenter=model.datacenter,
        embedded=model.embedded,
        kv_prefix=model.kv_prefix.strip("/"),
        kv_restore=model.kv_restore,
    )


def _consul_address(written: str | None, sections: Sections) -> str | None:
    env = sections.context.env
    secure = _flag(env, "CONSUL_HTTP_SSL", sections.problems, default=False)
    given = written or env.get("CONSUL_HTTP_ADDR") or None
    if given is None:
        return None
    address = consul_url(given, secure=secure)
    if address is None:  # the file's own has been checked, so this is the environment's
        hint = "no path, no user name, no password"
        sections.problems.add(Place("$CONSUL_HTTP_ADDR"), "", NO_CONSUL_URL, hint)
    return address


def _flag(env: Mapping[str, str], name: str, problems: Problems, *, default: bool) -> bool:
    value = env.get(name, "")
    if not value:
        return default
    if value.lower() in {"1", "t", "true"}:
        return True
    if value.lower() in {"0", "f", "false"}:
        return False
    problems.add(Place(f"${name}"), "", f"expected true or false, got {value[:40]!r}")
    return default


def web_settings(sections: Sections, scope: Scope) -> WebSettings:
    """The section `web`."""
    model = sections.model("web", WebModel, scope)
    env, folder = sections.context.env, sections.folder
    tls = None
    if model.tls is not None:
        tls = TlsSettings(resolve(model.tls.cert, folder, env), resolve(model.tls.key, folder, env))
    if model.enabled and tls is None and not _loopback(model.host):
        _refuse_wide(sections, model.host)
    return WebSettings(
        enabled=model.enabled,
        host=model.host,
        port=model.port,
        tls=tls,
        base_path=model.base_path,
        cors_origins=tuple(model.cors_origins),
        allowed_hosts=tuple(model.allowed_hosts),
        behind_proxy=model.behind_proxy,
    )


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def _refuse_wide(sections: Sections, host: str) -> None:
    """Passwords and tokens never cross a network in the clear (reliability.md P10)."""
    subject = sections.subject("web")
    message = (
        f"{quote(host)} is open to other machines, and without tls passwords can be read there"
    )
    hint = "add web.tls, or keep 127.0.0.1 and put a proxy with https in front (web.behind_proxy)"
    if subject is not None:
        subject.complain(sections.problems, ("host",), message, hint)


def written(node: Node | None, *keys: str) -> Scalar | None:
    """The scalar below some keys, if the file has one there."""
    for key in keys:
        node = node.get(key) if isinstance(node, Map) else None
    return node if isinstance(node, Scalar) else None
