"""Hosts of a network of their own: one network namespace each, on a bridge in one more.

It exists because loopback addresses cannot be cut: here a host's cable is pulled, and everything on
it goes on without the others. Nothing of it is seen in the machine's own network. It needs root and
`ip` (iproute2), and takes away only the namespaces that it made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.agent import unique
from tests.support.consul_cluster import Member

_NET = "10.177.0"


def why_not() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need `ip` (iproute2)"
    name = unique("lictor-try")
    made = _ip("netns", "add", name, check=False)
    if made.returncode != 0:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    ran = _ip("netns", "exec", name, "true", check=False)
    _ip("netns", "del", name, check=False)
    return f"network namespaces do not work here: {ran.stderr.strip()}" if ran.returncode else ""


class Network:
    """A hub with three addresses for servers, and hosts on it. Use it as a context manager."""

    def __init__(self) -> None:
        self.hub = unique("lictor-hub")
        self.servers = tuple(f"{_NET}.{number}" for number in (1, 2, 3))
        self._hosts: dict[str, int] = {}

    def __enter__(self) -> Self:
        _ip("netns", "add", self.hub)
        try:
            self._in(self.hub, "link", "add", "br0", "type", "bridge")
            for address in self.servers:
                self._in(self.hub, "addr", "add", f"{address}/24", "dev", "br0")
            for device in ("lo", "br0"):
                self._in(self.hub, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*map(self.namespace, self._hosts), self.hub):
            _ip("netns", "del", name, check=False)

    def host(self, name: str) -> str:
        """Add a host; its address."""
        number = 11 + len(self._hosts)
        self._hosts[name] = number
        space = self.namespace(name)
        _ip("netns", "add", space)
        peer = ("type", "veth", "peer", "name", "eth0", "netns", space)
        self._in(self.hub, "link", "add", f"port{number}", *peer)
        self._in(self.hub, "link", "set", f"port{number}", "master", "br0", "up")
        self._in(space, "addr", "add", f"{_NET}.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._in(space, "link", "set", device, "up")
        return f"{_NET}.{number}"

    def namespace(self, name: str) -> str:
        """The namespace of a host."""
        return f"{self.hub}-{name}"

    def cut(self, name: str) -> None:
        """Pull the cable of a host."""
        self._in(self.hub, "link", "set", f"port{self._hosts[name]}", "down")

    def mend(self, name: str) -> None:
        """Put it back."""
        self._in(self.hub, "link", "set", f"port{self._hosts[name]}", "up")

    def under(self, name: str) -> tuple[str, ...]:
        """What to put before a command so that it runs on a host; its pid stays the command's."""
        return ("ip", "netns", "exec", self.namespace(name))

    @staticmethod
    def _in(space: str, *words: str) -> None:
        _ip("-n", space, *words)


@dataclass
class FarMember(Member):
    """A member of a cluster in a namespace; spoken to through the `consul` program there."""

    namespace: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._program = self.binary
        wrapper = self.dir / "consul"
        wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {self.namespace} {self._program} "$@"\n')
        wrapper.chmod(0o755)
        self.binary = str(wrapper)

    def consul(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one `consul` command against this member."""
        return subprocess.run(
            [self.binary, *words],
            env={"CONSUL_HTTP_ADDR": self.http, "PATH": os.environ.get("PATH", os.defpath)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def put_kv(self, key: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        done = self.consul("kv", "put", key, text)
        assert done.returncode == 0, done

    def _usable(self) -> bool:
        written = self.consul("kv", "put", "_harness", "up").returncode == 0
        nodes = self.consul("catalog", "nodes")
        names = [line.split()[0] for line in nodes.stdout.splitlines() if line.split()]
        return written and self.node in names


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done


def members(network: Network, binary: str, hosts: Sequence[str]) -> list[FarMember]:
    """Three servers on the hub, then a client on each host; not started."""

    def one(node: str, address: str, space: str, *, server: bool) -> FarMember:
        return FarMember(
            str(Path(binary).resolve()),
            node=node,
            address=address,
            servers=network.servers,
            is_server=server,
            namespace=space,
        )

    made = [
        one(f"server{number}", address, network.hub, server=True)
        for number, address in enumerate(network.servers, 1)
    ]
    return made + [
        one(name, network.host(name), network.namespace(name), server=False) for name in hosts
    ]
