"""Services in containers, for tests from outside: an agent on a real engine, and small definitions."""

from __future__ import annotations

from typing import Any

from tests.e2e.world import QUICK
from tests.support.agent import RunningAgent
from tests.support.children import free_port
from tests.support.dockerd import IMAGE, DockerEngine

LOOP = "while :; do sleep 0.05; done"


def boxed(*command: str, port: int | None = None, **keys: Any) -> dict[str, Any]:
    """A busybox container that is started again soon; on the host's network if it has a port."""
    docker = {
        "image": IMAGE,
        "network": "none" if port is None else "host",
        **keys.pop("docker", {}),
    }
    base: dict[str, Any] = {
        "driver": "docker",
        "command": list(command) or ["sh", "-c", LOOP],
        "docker": docker,
        "restart": QUICK,
        "stop": {"timeout": "5s", "pause": "0s"},
    }
    if port is not None:
        base["port"] = port
        base["health"] = {"http": "/", "interval": "1s", "timeout": "2s", "startup": "30s"}
    return {**base, **keys}


def boxed_web(**keys: Any) -> dict[str, Any]:
    """A well behaved HTTP service in a container."""
    port = keys.pop("port", None) or free_port()
    return boxed("httpd", "-f", "-v", "-p", f"127.0.0.1:{port}", "-h", "/www", port=port, **keys)


def on(engine: DockerEngine) -> dict[str, str]:
    """The environment of an agent that uses this engine."""
    return {"DOCKER_HOST": engine.address}


def container_of(agent: RunningAgent, name: str) -> str:
    found = agent.row(name)["container_id"]
    assert isinstance(found, str), agent.row(name)
    return found
