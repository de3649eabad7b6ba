"""What a container needs, as config.yml says it, after expansion.

A value only: whether an engine can give it is the business of the docker driver. It is part of a
service's fingerprint, because a running container cannot be given another network or volume.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """The `docker:` part of a service.

    `name` None: made from the service's name. `volumes` are `source:target[:ro]`, `ports`
    `[host:]port:port`; `shm_size` is bytes. `build`: a folder with a Dockerfile, from which `image`
    is built when it is missing.
    """

    image: str
    name: str | None = None
    network: str | None = None
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    shm_size: int | None = None
    ipc: str | None = None
    build: str | None = None
