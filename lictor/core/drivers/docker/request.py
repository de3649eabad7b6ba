"""From a service's definition to the container it asks for: a value, made without any engine.

What Docker would do by itself and we do not want is decided here: nothing restarts but by us, ports
are published on loopback unless somebody writes an address, processes of the container get an init
that hands on signals and collects orphans, and the agent's own PATH and HOME stay out of it. The
environment may hold secrets: it is in the request, and never in a `repr`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lictor.core.drivers.docker.terms import FINGERPRINT, JOB, NODE, OWNER, SERVICE
from lictor.core.model.container import Published, published
from lictor.core.model.spec import ServiceSpec

#: Words of `network` that name no network of their own.
BUILT_IN = ("host", "none", "bridge", "default")
#: What a process gets from its agent, and what an image says for itself.
OF_THE_HOST = frozenset({"PATH", "HOME", "LANG", "TZ", "USER", "TMPDIR"})


@dataclass(frozen=True, slots=True)
class Request:
    """One container to be made. Sizes are bytes; `command` None: what the image says."""

    name: str
    image: str
    labels: Mapping[str, str]
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    network: str | None = None
    binds: tuple[str, ...] = ()
    ports: tuple[Published, ...] = ()
    shm_size: int | None = None
    ipc: str | None = None
    memory: int | None = None
    cpu: float | None = None
    tasks: int | None = None
    init: bool = True
    gpus: tuple[str, ...] = ()
    gpu_by: str = ""
    log_size: int = 10 * 1024 * 1024

    @property
    def own_network(self) -> str | None:
        """The network that has to be there, if it is not one that every engine has."""
        name = self.network
        if name is None or name in BUILT_IN or name.startswith("container:"):
            return None
        return name


def container_name(spec: ServiceSpec, node: str) -> str:
    """The name from the config, or `lictor-<node>-<service>`."""
    if spec.docker is not None and spec.docker.name:
        return spec.docker.name
    return "-".join(filter(None, ("lictor", node, spec.key.name, spec.key.instance)))


def name_beside(name: str) -> str:
    """A second name, for a container that is to have this one later.

    No default name has a dot in it, so it is that of no service.
    """
    return f"{name}.next"


def service_request(spec: ServiceSpec, *, owner: str, node: str) -> Request:
    """The container of a service; `gpu_by` is filled in once the engine was asked.

    The command is what stands behind the image, as with `docker run`: the image's own entry point
    stays.
    """
    return _request(spec, owner, node, command=spec.container_argv() or None)


def job_request(spec: ServiceSpec, argv: Sequence[str], *, owner: str, node: str) -> Request:
    """The container of a `before` job: the service's, with another program and without its ports."""
    whole = _request(spec, owner, node, command=tuple(argv[1:]))
    return Request(
        name=f"{whole.name}-before",
        image=whole.image,
        labels={**whole.labels, JOB: "1"},
        command=tuple(argv[1:]),
        entrypoint=tuple(argv[:1]),
        environment=whole.environment,
        user=whole.user,
        network=whole.network,
        binds=whole.binds,
        shm_size=whole.shm_size,
        ipc=whole.ipc,
        memory=whole.memory,
        cpu=whole.cpu,
        tasks=whole.tasks,
        init=whole.init,
        log_size=whole.log_size,
    )


def _request(
    spec: ServiceSpec, owner: str, node: str, *, command: tuple[str, ...] | None
) -> Request:
    docker = spec.docker
    if docker is None:
        raise ValueError(f"{spec.key} has no `docker` part")
    labels = {OWNER: owner, SERVICE: str(spec.key), FINGERPRINT: spec.fingerprint()}
    if node:
        labels[NODE] = node
    shared = docker.network == "host" or (docker.network or "").startswith("container:")
    return Request(
        name=container_name(spec, node),
        image=docker.image,
        labels=labels,
        command=command,
        environment=environment(spec, owner, node),
        user=":".join(filter(None, (spec.user, spec.group))) or None,
        network=docker.network,
        binds=tuple(bind(text, spec.cwd) for text in docker.volumes),
        ports=() if shared else tuple(published(text) for text in docker.ports),
        shm_size=docker.shm_size,
        ipc=docker.ipc,
        memory=spec.limits.memory,
        cpu=spec.limits.cpu,
        tasks=spec.limits.tasks,
        init=docker.init,
        gpus=spec.gpus,
        log_size=spec.log.max_size,
    )


def environment(spec: ServiceSpec, owner: str, node: str) -> dict[str, str]:
    """The variables of the container: those of the definition, and ours.

    PATH, HOME and their like come from the image unless the definition itself sets them.
    """
    given = {
        name: value
        for name, value in spec.environment().items()
        if name not in OF_THE_HOST or name in spec.env_names or value != os.environ.get(name)
    }
    ours = {"LICTOR_AGENT": owner, "LICTOR_SERVICE": str(spec.key)}
    if node:
        ours["LICTOR_NODE"] = node
    if spec.gpus:
        # Inside the container the cards it was given count from 0; the order is that of PCI.
        ours["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return {**given, **ours}


def bind(text: str, folder: str) -> str:
    """A volume as Docker takes it: a relative folder counts from the service's `cwd`."""
    source, colon, rest = text.partition(":")
    if source.startswith("~"):
        source = str(Path(source).expanduser())
    elif source in {".", ".."} or source.startswith(("./", "../")):
        source = os.path.normpath(Path(folder) / source)
    return source + colon + rest


def folder_of(text: str, cwd: str) -> Path:
    """The folder of a Dockerfile, which counts from the service's `cwd` too."""
    return Path(cwd) / Path(text).expanduser()
