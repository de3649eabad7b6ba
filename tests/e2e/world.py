"""What the tests from outside look at and what they run: Consul's answers, small services."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support.agent import wait_until
from tests.support.children import child, free_port
from tests.support.consul import ConsulServer

DIARY = str(Path(__file__).with_name("diary.py"))

QUICK = {"backoff": "200ms", "max_backoff": "2s"}


def service(
    argv: tuple[str, ...] | list[str], port: int | None = None, **keys: Any
) -> dict[str, Any]:
    """A service that is started again soon and stopped without a pause."""
    base: dict[str, Any] = {
        "command": list(argv),
        "restart": QUICK,
        "stop": {"timeout": "5s", "pause": "0s"},
    }
    if port is not None:
        base["port"] = port
        base["health"] = {"http": "/", "interval": "1s", "timeout": "2s", "startup": "30s"}
    return {**base, **keys}


def web(**keys: Any) -> dict[str, Any]:
    """A well behaved HTTP service on a free port."""
    port = keys.pop("port", None) or free_port()
    return service(child("good", port=port), port, **keys)


def plain(**keys: Any) -> dict[str, Any]:
    """A well behaved program without a port."""
    return service(child("good"), **keys)


def diarist(name: str, diary: Path, *words: str, **keys: Any) -> dict[str, Any]:
    """A service that writes into `diary` when it comes and goes."""
    port = keys.pop("port", None) or free_port()
    argv = [sys.executable, "-S", "-E", DIARY, name, str(diary), str(port), *words]
    return service(argv, port, **keys)


class Catalog:
    """Consul's own word about services, past all of Lictor's code."""

    def __init__(self, server: ConsulServer) -> None:
        self._server = server

    def entries(self, name: str) -> dict[str, dict[str, Any]]:
        """The instances of a service with their checks, by id."""
        found = self._server.raw("GET", f"health/service/{name}").json or []
        return {entry["Service"]["ID"]: entry for entry in found}

    def checks(self, name: str, service_id: str) -> dict[str, tuple[str, str]]:
        """Status and output of the checks of one instance, by the last part of the check's id."""
        entry = self.entries(name).get(service_id)
        if entry is None:
            return {}
        return {
            check["CheckID"].removeprefix(f"{service_id}:"): (check["Status"], check["Output"])
            for check in entry["Checks"]
            if check["ServiceID"] == service_id
        }

    def passing(self, name: str, service_id: str) -> bool:
        """Whether the instance is there and every check of it passes."""
        checks = self.checks(name, service_id)
        return bool(checks) and all(status == "passing" for status, _ in checks.values())

    def wait_passing(self, name: str, service_id: str) -> None:
        wait_until(
            lambda: self.passing(name, service_id), what=f"{service_id} passes in the catalog"
        )

    def wait_gone(self, name: str, service_id: str) -> None:
        wait_until(
            lambda: service_id not in self.entries(name), what=f"{service_id} left the catalog"
        )

    def owned_by(self, owner: str) -> list[str]:
        """The ids of every entry of one installation in the local Consul agent."""
        services = self._server.raw("GET", "agent/services").json
        return sorted(
            service_id
            for service_id, entry in services.items()
            if (entry.get("Meta") or {}).get("lictor-owner") == owner
        )
