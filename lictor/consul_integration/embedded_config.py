"""What the embedded Consul is started with: its ports, its token, its configuration file.

A single server on loopback whose files live in one folder of the data_dir. Everything that is
decided once (ports, token) is written down and found again, because other programs hold on to it:
`consul` in somebody's shell, a resolver that forwards to the DNS port. It never starts a process
and never talks to Consul; only the standard library is used, since this runs before the first
services are started.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from lictor.core.errors import StartFailed

#: Consul's usual ports (developer.hashicorp.com/consul/docs/reference/architecture/ports), by the
#: names of the `ports` block of its configuration.
USUAL_PORTS: Mapping[str, int] = {
    "http": 8500,
    "dns": 8600,
    "server": 8300,
    "serf_lan": 8301,
    "serf_wan": 8302,
}

#: Where else to look: far from the usual ports, below Linux's ephemeral range (32768), so that no
#: outgoing connection can take a port between this choice and Consul's bind.
_OFFSETS = range(10000, 24000, 10)

_LOOPBACK = "127.0.0.1"
_TOKEN_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_VERSION_SHAPE = re.compile(r"Consul v(\d+)\.(\d+)\.(\d+)")
_VERSION_DEADLINE_S = 10.0

Version = tuple[int, int, int]


# --- files -------------------------------------------------------------------------------------


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read (0600), in one step: never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_json(path: Path) -> dict[str, object]:
    """The object in a file of ours; empty when there is none, or when it makes no sense."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write an object, unless the file says so already."""
    if read_json(path) != value:
        write_private(path, json.dumps(value, indent=2) + "\n")


def own_token(folder: Path) -> str:
    """The initial management token: made once, kept in `token` (0600)."""
    path = folder / "token"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        kept = path.read_text(encoding="utf-8").strip()
        if _TOKEN_SHAPE.fullmatch(kept):
            path.chmod(0o600)
            return kept
    made = str(uuid.uuid4())
    write_private(path, made + "\n")
    return made


# --- ports -------------------------------------------------------------------------------------


def is_free(port: int) -> bool:
    """Whether a server could bind this port of 127.0.0.1 now, for TCP and for UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # As Go's net package does: connections in TIME_WAIT are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_LOOPBACK, port))
            except OSError:
                return False
    return True


def pick_ports(usual: Mapping[str, int], remembered: Mapping[str, object]) -> dict[str, int]:
    """A free port for each name: the one of last time, else the usual one, else one nearby."""
    picked: dict[str, int] = {}
    for name, port in usual.items():
        last = remembered.get(name)
        wishes = [last] if isinstance(last, int) and 0 < last < 65536 else []
        wishes += [port, *(port + offset for offset in _OFFSETS)]
        picked[name] = _first_free(name, wishes, picked.values())
    return picked


def _first_free(name: str, wishes: Iterable[int], taken: Iterable[int]) -> int:
    for port in wishes:
        if 0 < port < 65536 and port not in taken and is_free(port):
            return port
    raise StartFailed(
        f"No port of 127.0.0.1 is free for Consul's {name}.",
        reason_code="consul.no_port",
        params={"name": name},
    )


def runs_already(config: Path) -> bool:
    """Whether a process started with this very configuration file is alive.

    An agent that takes over a running Consul finds that Consul's ports held: by its own child.
    """
    mark = f"-config-file={config}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes().split(b"\0"):
                    return True
    return False


def settle_ports(folder: Path, usual: Mapping[str, int], config: Path) -> dict[str, int]:
    """The ports to use, remembered in `ports.json`."""
    path = folder / "ports.json"
    remembered = read_json(path)
    kept = {name: port for name, port in remembered.items() if isinstance(port, int)}
    if set(kept) == set(usual) and (all(map(is_free, kept.values())) or runs_already(config)):
        return kept
    picked = pick_ports(usual, remembered)
    write_json(path, dict(picked))
    return picked


# --- version and configuration -----------------------------------------------------------------


def version_of(binary: Path, folder: Path) -> Version:
    """Which Consul this is, asked once per binary: it takes about 0.1 s, before anything runs.

    Raises `StartFailed` (`consul.bad_binary`) for a program that is none.
    """
    memory = folder / "version.json"
    try:
        about = binary.stat()
        stamp = {"binary": str(binary), "size": about.st_size, "mtime_ns": about.st_mtime_ns}
        known = read_json(memory)
        if all(known.get(name) == value for name, value in stamp.items()):
            match = _VERSION_SHAPE.match(str(known.get("answer")))
        else:
            answer = _ask_version(binary)
            match = _VERSION_SHAPE.match(answer)
            if match:
                write_json(memory, {**stamp, "answer": match.group()})
    except (OSError, subprocess.SubprocessError) as error:
        raise _bad_binary(binary, str(error)) from error
    if match is None:
        raise _bad_binary(binary, "`version` did not answer with a version of Consul")
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def _ask_version(binary: Path) -> str:
    # An environment of its own: CONSUL_* of a shell must not turn this into a call to a server.
    asked = subprocess.run(
        [binary, "version"],
        env={"PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_VERSION_DEADLINE_S,
        check=True,
    )
    return asked.stdout.decode(errors="replace")


def _bad_binary(binary: Path, error: str) -> StartFailed:
    return StartFailed(
        f"{binary} cannot be used as Consul: {error}.",
        reason_code="consul.bad_binary",
        params={"path": str(binary), "error": error},
    )


def configuration(
    *, node: str, data: Path, ports: Mapping[str, int], token: str, version: Version
) -> dict[str, object]:
    """The content of consul.json for a single server that only this host can reach.

    Names of keys follow the version: unknown ones stop Consul from starting, and deprecated ones
    are removed some day.
    """
    management = "initial_management" if version >= (1, 11, 0) else "master"
    ui: dict[str, object] = {"ui": True}
    if version >= (1, 9, 0):
        ui = {"ui_config": {"enabled": True}}
    closed = {"https": -1, "grpc": -1}
    if version >= (1, 14, 0):
        closed["grpc_tls"] = -1  # open by default on servers from 1.14 on
    return {
        "node_name": node,
        "datacenter": "dc1",
        "data_dir": str(data),
        "server": True,
        "bootstrap_expect": 1,
        "bind_addr": _LOOPBACK,
        "client_addr": _LOOPBACK,
        "ports": {**ports, **closed},
        "performance": {"raft_multiplier": 1},
        "acl": {
            "enabled": True,
            "default_policy": "deny",
            "tokens": {management: token, "agent": token},
        },
        **ui,
        # Without it UDP answers are cut silently (consul.md §2), and resolvers never ask again
        # over TCP.
        "dns_config": {"enable_truncate": True},
        "enable_script_checks": False,
        "disable_remote_exec": True,
        "disable_update_check": True,
        "log_level": "WARN",
        # Leaving on TERM took 11.5 s (measured, 1.8.7), longer than we wait before KILL, and a
        # single server has nobody to say good-bye to. Its state stays on disk either way.
        "leave_on_terminate": False,
        "skip_leave_on_interrupt": True,
    }
