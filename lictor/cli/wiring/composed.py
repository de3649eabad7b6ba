"""`lictor generate compose`: the services that are containers, as a Compose file.

For a machine that has Compose and no Lictor, or for a look at what would run. It says what the docker
driver would ask of the engine. Values of variables stay out of it, because people commit such files
and send them around: each is named as `${NAME}`, for an `.env` beside it. Nothing is written here.
"""

from __future__ import annotations

from typing import Any

from lictor import __version__
from lictor.cli.wiring.configured import find_config, read_config
from lictor.core.config.emit import to_yaml
from lictor.core.drivers.docker.request import Request, environment, folder_of, service_request
from lictor.core.model.container import Published
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec

_POLICY = {"always": "always", "on-failure": "on-failure", "never": "no"}


def compose_file(explicit: str | None) -> tuple[str, list[str]]:
    """The text, and the names of the services that are not in it."""
    config = read_config(find_config(explicit))
    specs = {key: spec for key, spec in config.services.items() if spec.docker is not None}
    left_out = [str(key) for key in config.services if key not in specs]
    whole: dict[str, Any] = {
        "services": {_name(key): _service(spec, specs) for key, spec in specs.items()}
    }
    requests = [_request(spec) for spec in specs.values()]
    networks = sorted({name for request in requests if (name := request.own_network)})
    if networks:
        whole["networks"] = {name: {"name": name} for name in networks}
    volumes = sorted({source for request in requests for source in _named_volumes(request)})
    if volumes:
        whole["volumes"] = {name: {"name": name} for name in volumes}
    head = f"# Made by lictor {__version__}: lictor generate compose\n"
    return head + to_yaml(whole), left_out


def _name(key: ServiceKey) -> str:
    return "-".join(filter(None, (key.name, key.instance)))


def _request(spec: ServiceSpec) -> Request:
    return service_request(spec, owner="", node="")


def _service(spec: ServiceSpec, specs: dict[ServiceKey, ServiceSpec]) -> dict[str, Any]:
    request = _request(spec)
    docker = spec.docker
    found: dict[str, Any] = {
        "image": request.image,
        "build": str(folder_of(docker.build, spec.cwd)) if docker and docker.build else None,
        "container_name": docker.name if docker else None,
        "command": [_literal(word) for word in request.command or ()],
        "environment": {name: f"${{{name}}}" for name in sorted(_variables(spec))},
        "user": request.user,
        "volumes": list(request.binds),
        "ports": [_port(port) for port in request.ports],
        "shm_size": request.shm_size,
        "ipc": request.ipc,
        "init": request.init,
        "mem_limit": request.memory,
        "cpus": request.cpu,
        "pids_limit": request.tasks,
        "restart": _POLICY[spec.restart.policy],
        "stop_signal": f"SIG{spec.stop.signal}",
        "stop_grace_period": f"{max(1, round(spec.stop.timeout))}s",
        "depends_on": _depends_on(spec, specs),
    }
    if request.own_network:
        found["networks"] = [request.own_network]
    elif request.network is not None and request.network != "default":
        found["network_mode"] = request.network
    if spec.gpu is not None:
        found["deploy"] = {"resources": {"reservations": {"devices": [_gpus(spec)]}}}
    return {name: value for name, value in found.items() if value not in (None, [], {}, "")}


def _variables(spec: ServiceSpec) -> set[str]:
    return {name for name in environment(spec, "", "") if not name.startswith("LICTOR_")}


def _gpus(spec: ServiceSpec) -> dict[str, Any]:
    wanted: dict[str, Any] = {"driver": "nvidia", "capabilities": ["gpu"]}
    devices = spec.gpu.devices if spec.gpu is not None else ()
    return {**wanted, "device_ids": list(devices)} if devices else {**wanted, "count": 1}


def _depends_on(spec: ServiceSpec, specs: dict[ServiceKey, ServiceSpec]) -> list[str]:
    names = {dependency.name for dependency in spec.depends_on}
    return [_name(key) for key in specs if key.name in names]


def _port(port: Published) -> str:
    host = f"[{port.host}]" if ":" in port.host else port.host
    kind = "" if port.protocol == "tcp" else f"/{port.protocol}"
    return f"{host}:{port.outside}:{port.inside}{kind}"


def _named_volumes(request: Request) -> list[str]:
    sources = (text.partition(":")[0] for text in request.binds)
    return [source for source in sources if not source.startswith(("/", "."))]


def _literal(word: str) -> str:
    """Compose fills in `$NAME`; a dollar of ours is none of that."""
    return word.replace("$", "$$")
