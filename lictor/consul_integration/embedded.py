"""Consul for a person who has none: which Consul is used, and how Lictor's own one is run.

`choose` decides between a Consul that is there and one of our own, and remembers: a real Consul
that is briefly down is never replaced, and ours is never mistaken for somebody else's.
`EmbeddedConsul` prepares the files and the `ServiceSpec` with which Lictor's process driver runs a
real single-server Consul as its first service. Nothing here starts, stops or waits for a process.
Only light modules are imported: this runs before the first services are started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from lictor.consul_integration.embedded_config import (
    USUAL_PORTS,
    configuration,
    own_token,
    read_json,
    settle_ports,
    version_of,
    write_json,
)
from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import HealthSpec, ProbeSpec, RestartPolicy, ServiceSpec, StopSpec

Mode: TypeAlias = Literal["auto", "never", "always"]
Kind: TypeAlias = Literal["external", "embedded", "none"]

#: Where the `consul` program looks too when nothing else is said.
DEFAULT_ADDRESS = "http://127.0.0.1:8500"

#: Fixed, so that an agent started from another shell does not see a changed service.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_binary(env: Mapping[str, str], data_dir: Path) -> Path | None:
    """The Consul program: `$CONSUL_BIN`, PATH, `data_dir/bin/consul`, `.cache/bin/consul`.

    The last one is where `make` puts it, below the current directory. A `$CONSUL_BIN` that cannot
    be run gives None: nobody wants another Consul than the one that was named.
    """
    named = env.get("CONSUL_BIN")
    if named:
        return _program(Path(named))
    found = shutil.which("consul", path=env.get("PATH", os.defpath))
    if found:
        return Path(found).absolute()
    return _program(data_dir / "bin" / "consul") or _program(Path(".cache/bin/consul"))


def _program(path: Path) -> Path | None:
    return path.absolute() if path.is_file() and os.access(path, os.X_OK) else None


# --- which Consul ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Which Consul to use, and why.

    `external`: the one at `address`. `embedded`: one of our own, run from `binary`; its address
    comes from `EmbeddedConsul.prepare`. `none`: there is none and none can be run; the agent
    supervises without it.
    """

    kind: Kind
    reason: Reason
    address: str | None = None
    binary: Path | None = None


def choose(
    *,
    data_dir: Path,
    env: Mapping[str, str],
    address: str | None = None,
    mode: Mode = "auto",
    token: str | None = None,
    local: str = DEFAULT_ADDRESS,
) -> Choice:
    """Decide which Consul to use. Blocks for at most about a second, the first time only.

    `address` and `mode` are `consul.address` and `consul.embedded` of the config, `token` is what
    a client would send, `local` is where to look for a Consul that nobody named.
    """
    if address:
        return Choice("external", because("consul.chosen_named", address=address), address)
    if mode == "always":
        return _embedded(env, data_dir, because("consul.chosen_always"))
    remembered = read_json(_memory(data_dir))
    named = env.get("CONSUL_HTTP_ADDR")
    if named and not _is_our_own(named, remembered):
        return Choice("external", because("consul.chosen_named", address=named), named)
    if mode == "never":
        return Choice("external", because("consul.chosen_never", address=local), local)
    if remembered.get("kind") == "embedded":
        return _embedded(env, data_dir, because("consul.chosen_before"))
    if remembered.get("kind") == "external":
        known = str(remembered.get("address") or local)
        return Choice("external", because("consul.worked_before", address=known), known)
    return _look_around(data_dir, env, token, local)


def _look_around(data_dir: Path, env: Mapping[str, str], token: str | None, local: str) -> Choice:
    # 20 ms of imports that only a first start without any address needs.
    from lictor.consul_integration.embedded_acl import probe  # noqa: PLC0415

    answer = probe(local, token)
    if answer == "usable":
        return Choice("external", because("consul.chosen_local", address=local), local)
    if answer == "waiting":
        return Choice("external", because("consul.local_waiting", address=local), local)
    if answer == "forbidden":
        return _embedded(env, data_dir, because("consul.local_forbidden", address=local))
    return _embedded(env, data_dir, because("consul.chosen_first", address=local))


def _embedded(env: Mapping[str, str], data_dir: Path, why: Reason) -> Choice:
    binary = find_binary(env, data_dir)
    if binary is not None:
        return Choice("embedded", why, binary=binary)
    named = env.get("CONSUL_BIN")
    if named:
        return Choice("none", because("consul.bad_binary", path=named, error="not a program"))
    return Choice("none", because("consul.no_binary", hint="scripts/get-consul"))


def _is_our_own(named: str, remembered: Mapping[str, object]) -> bool:
    """Whether CONSUL_HTTP_ADDR is what `lictor env` printed for the embedded Consul.

    Whoever starts the agent from such a shell means the same Consul, not somebody else's.
    """
    if remembered.get("kind") != "embedded":
        return False
    return _plain(named) == _plain(str(remembered.get("address") or ""))


def _plain(address: str) -> str:
    bare = address.strip().removeprefix("http://").rstrip("/")
    return bare.replace("localhost", "127.0.0.1")


def remember(data_dir: Path, choice: Choice, address: str | None = None) -> None:
    """Write down the choice that worked, after the first good contact with that Consul.

    `address` is where it answered (for an embedded one: of its plan). A choice of `none` is not
    remembered. Raises OSError if the data_dir cannot be written.
    """
    if choice.kind == "none":
        return
    path = _memory(data_dir)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, {"kind": choice.kind, "address": address or choice.address})


def _memory(data_dir: Path) -> Path:
    return data_dir / "consul" / "choice.json"


# --- our own -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddedPlan:
    """Everything about the embedded Consul that others need: where it will be, how it is run."""

    argv: tuple[str, ...]
    address: str
    http_port: int
    dns_port: int
    ui_url: str
    folder: Path
    version: tuple[int, int, int]
    token: str = field(repr=False)


class EmbeddedConsul:
    """The Consul of one data_dir: all its files are in `data_dir/consul` (0700).

    `usual` are the ports to prefer, by the names of Consul's `ports` block.
    """

    def __init__(
        self,
        data_dir: Path,
        node: str,
        binary: Path,
        *,
        usual: Mapping[str, int] = USUAL_PORTS,
    ) -> None:
        self._folder = data_dir.absolute() / "consul"
        self._node = node
        self._binary = binary
        self._usual = usual

    def prepare(self) -> EmbeddedPlan:
        """Write (or find) token, ports and configuration, and say how to run it. Idempotent.

        While a Consul of this data_dir runs, its ports stay as they are, so that another agent can
        take it over. Raises `StartFailed`: `consul.bad_binary`, `consul.no_port`, or
        `consul.no_folder` when the data_dir cannot be written.
        """
        try:
            return self._prepare()
        except OSError as error:
            text = error.strerror or str(error)
            raise StartFailed(
                f"The folder {self._folder} for Lictor's Consul cannot be used: {text}.",
                reason_code="consul.no_folder",
                params={"path": str(self._folder), "error": text},
            ) from error

    def _prepare(self) -> EmbeddedPlan:
        folder = self._folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        version = version_of(self._binary, folder)
        token = own_token(folder)
        config = folder / "consul.json"
        ports = settle_ports(folder, self._usual, config)
        data = folder / "data"
        content = configuration(
            node=self._node, data=data, ports=ports, token=token, version=version
        )
        write_json(config, content)
        address = f"http://127.0.0.1:{ports['http']}"
        return EmbeddedPlan(
            argv=(str(self._binary), "agent", f"-config-file={config}"),
            address=address,
            http_port=ports["http"],
            dns_port=ports["dns"],
            ui_url=f"{address}/ui/",
            folder=folder,
            version=version,
            token=token,
        )

    def spec(self, plan: EmbeddedPlan) -> ServiceSpec:
        """The service as which the process driver runs it.

        Ready means: it has a leader and the leader finished its first work (ACLs among it).
        `status/leader` cannot tell (200 with "" until then). A consistent read of the catalog is
        open to everybody, is held while there is no leader and is 500 if that lasts too long
        (measured on 1.8.7: answered 2.1 s after the first start, 1.3 s after a later one).
        """
        probe = ProbeSpec(
            "http", f"{plan.address}/v1/catalog/services?consistent", interval=5.0, timeout=5.0
        )
        return ServiceSpec(
            key=ServiceKey("consul"),
            description="Lictor's own Consul: registry, KV, DNS and UI of this host",
            display_name="Consul",
            command=plan.argv,
            cwd=str(plan.folder),
            env={"PATH": _PATH, "HOME": str(plan.folder)},
            umask=0o077,
            port=plan.http_port,
            health=HealthSpec(probe=probe, startup=60.0, failures=3),
            restart=RestartPolicy(policy="always", backoff=1.0, max_backoff=30.0),
            stop=StopSpec(signal="TERM", timeout=10.0, pause=0.0),
            registered=False,
        )


def bootstrap_acl(address: str, token: str, *, deadline: float = 30.0) -> bool:
    """Let everybody on this host read our Consul: see `embedded_acl.bootstrap_acl`. Blocks."""
    from lictor.consul_integration import embedded_acl  # noqa: PLC0415  (20 ms, not at start)

    return embedded_acl.bootstrap_acl(address, token, deadline=deadline)


def exports(
    address: str,
    token: str | None,
    dns_port: int | None,
    node: str,
    *,
    dns_host: str = "127.0.0.1",
) -> dict[str, str]:
    """What `lictor env` exports, for the `consul` program and for people's scripts.

    `LICTOR_DNS` is host:port of Consul's DNS. What is not known is left out.
    """
    found = {"CONSUL_HTTP_ADDR": address}
    if token:
        found["CONSUL_HTTP_TOKEN"] = token
    found["LICTOR_NODE"] = node
    if dns_port:
        host = f"[{dns_host}]" if ":" in dns_host else dns_host
        found["LICTOR_DNS"] = f"{host}:{dns_port}"
    return found
