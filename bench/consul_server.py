"""A Consul of a benchmark's own: one dev server on free ports, with `raft_multiplier` 1."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import common

_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Consul:
    """A Consul that was started for this run."""

    address: str
    dns: int

    def call(self, method: str, path: str, body: object = None) -> object:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        link = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            link.request(method, f"/v1/{path}", None if body is None else json.dumps(body))
            answer = link.getresponse()
            data = answer.read()
            return json.loads(data) if answer.status == 200 and data else None
        finally:
            link.close()

    def passing(self, pattern: str) -> int:
        """How many checks of services with such a name pass."""
        found = self.call("GET", "health/state/passing") or []
        return sum(bool(re.fullmatch(pattern, check["ServiceName"])) for check in found)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Consul | None]:
    """One with a leader, until the block ends; None where there is no program."""
    binary = common.consul_binary()
    if binary is None:
        yield None
        return
    ports = {name: common.free_port() for name in ("http", "server", "serf_lan", "dns")}
    config, log = folder / "consul.json", folder / "consul.log"
    config.write_text(
        json.dumps(
            {
                "ports": {**ports, "grpc": -1, "serf_wan": -1},
                "performance": {"raft_multiplier": 1},
                "limits": {"http_max_conns_per_client": 1000},
            }
        )
    )
    argv = [binary, "agent", "-dev", "-node=bench", "-bind=127.0.0.1", "-log-level=err"]
    with common.started([*argv, f"-config-file={config}"], log) as (process, _):
        found = Consul(f"http://127.0.0.1:{ports['http']}", ports["dns"])

        def led() -> bool:
            if process.poll() is not None:
                raise common.failed(process, log, "Consul did not become ready")
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(found.call("GET", "catalog/nodes"))
            return False

        common.until(led, "Consul has a leader", _DEADLINE_S)
        yield found
