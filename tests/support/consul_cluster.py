"""Several Consul servers, and clients of theirs, each on a loopback address of its own.

It exists because a lost leader, a lost quorum and a node's own client agent look different from
anything a single server can do. Every member has Consul's usual port numbers, on addresses of
127.0.0.0/8 that nobody uses, so nothing collides with a Consul of the machine. It ends only the
processes that it started.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.consul import ConsulServer

_PORTS = {"http": 8500, "dns": 8600, "serf_lan": 8301, "server": 8300}
_ELECTION_S = 40.0


@dataclass
class Member(ConsulServer):
    """One member of a cluster: a server, or a client agent for one node."""

    servers: tuple[str, ...] = ()
    is_server: bool = True

    def _pick_ports(self) -> None:
        self.ports = dict(_PORTS)

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        config["ports"] = {**self.ports, "serf_wan": -1, "grpc": -1}
        config["retry_join"] = list(self.servers)
        config["retry_interval"] = "1s"  # the usual 30 s would be the length of every start
        config["server"] = self.is_server
        if self.is_server:
            config["bootstrap_expect"] = len(self.servers)
        else:
            del config["bootstrap_expect"]
        return config


@dataclass
class Cluster:
    """`size` servers, and any number of client agents. Use it as a context manager."""

    binary: str
    size: int = 3
    acl: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._net = _free_net()
        self.addresses = tuple(f"{self._net}.{number}" for number in range(1, self.size + 1))
        self.servers = [
            self._member(f"server{number}", address, is_server=True)
            for number, address in enumerate(self.addresses, 1)
        ]
        self.clients: dict[str, Member] = {}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Start all servers; return when they have a leader and each of them serves."""
        for server in self.servers:
            server._spawn()
        for server in self.servers:
            if not server._wait_usable():
                raise RuntimeError(f"{server.node} did not start:\n{server.log()[-3000:]}")
        return self

    def client(self, node: str) -> Member:
        """A started client agent for one node, in touch with the servers."""
        address = f"{self._net}.{100 + len(self.clients)}"
        member = self._member(node, address, is_server=False)
        self.clients[node] = member
        return member.start()  # type: ignore[return-value] # `start` returns itself

    def leader(self) -> Member:
        """The server that leads now; waits for an election."""
        deadline = time.monotonic() + _ELECTION_S
        while time.monotonic() < deadline:
            for server in self.servers:
                # Just after a death the others still name the dead one, so it must be alive.
                if server.running and (found := self._named_by(server)) is not None:
                    return found
            time.sleep(0.05)
        raise AssertionError("no leader was elected")

    def followers(self) -> list[Member]:
        """The living servers that do not lead."""
        leader = self.leader()
        return [server for server in self.servers if server.running and server is not leader]

    def close(self) -> None:
        """End every member and remove what it left on disk."""
        for member in (*self.clients.values(), *self.servers):
            member.close()

    def _named_by(self, server: Member) -> Member | None:
        with contextlib.suppress(OSError):
            named = server.raw("GET", "status/leader", timeout=3).json
            address = str(named or "").rpartition(":")[0]
            for other in self.servers:
                if other.address == address and other.running:
                    return other
        return None

    def _member(self, node: str, address: str, *, is_server: bool) -> Member:
        return Member(
            self.binary,
            acl=self.acl,
            node=node,
            address=address,
            extra=dict(self.extra),
            servers=self.addresses,
            is_server=is_server,
        )


def _free_net() -> str:
    """The first three numbers of addresses on which nobody has Consul's ports."""
    start = os.getpid() * 7 + time.monotonic_ns() // 1_000_000
    for offset in range(200):
        number = start + offset
        net = f"127.{60 + number // 250 % 100}.{number % 250 + 1}"
        if all(_is_free(f"{net}.{host}") for host in (1, 2, 3, 100)):
            return net
    raise AssertionError("no loopback addresses are free")


def _is_free(address: str) -> bool:
    for port in _PORTS.values():
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True
