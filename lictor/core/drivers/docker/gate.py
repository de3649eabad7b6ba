"""The gate to Docker: the only module that speaks with its library.

Every method is one short blocking conversation with the engine, within `limit` seconds, for a
worker thread; the streams are for threads of their own. Answers become values of `terms`, and every
failure one of its two errors: no exception of the library or of its HTTP client gets past here. It
decides nothing. The engine is that of `DOCKER_HOST`, else the system's socket, else the user's
(rootless); its version is asked for once and then used by all threads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, TLSParameterError
from docker.types import DeviceRequest, LogConfig

from lictor.core.drivers.docker.answers import (
    Step,
    build_step,
    gpu_by,
    inspected,
    one_line,
    pull_step,
    seen,
    shown,
)
from lictor.core.drivers.docker.request import Request
from lictor.core.drivers.docker.terms import (
    OWNER,
    EngineAway,
    EngineFacts,
    EngineRefused,
    Inspected,
    Seen,
)
from lictor.core.model.reason import Reason, because

P = ParamSpec("P")
R = TypeVar("R")

_SYSTEM = "/var/run/docker.sock"
_TOO_LATE = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
_LOG_FILES = "2"  # what the engine keeps for an agent that is away; ours is under data_dir
_OTHERS = 10.0  # seconds that a removal which somebody else began may take
_NANO = 1_000_000_000


def usual_address() -> str:
    """Where the engine is looked for."""
    named = os.environ.get("DOCKER_HOST")
    if named:
        return named
    user = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    return f"unix://{user if not Path(_SYSTEM).exists() and user.exists() else _SYSTEM}"


def _told(
    method: Callable[Concatenate[Engine, P], R],
) -> Callable[Concatenate[Engine, P], R]:
    """Map what the library and its HTTP client raise."""

    def wrapped(self: Engine, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.told():
            return method(self, *args, **kwargs)

    wrapped.__doc__ = method.__doc__
    return wrapped


class Engine:
    """One engine. Safe for several threads: each has a client of its own."""

    def __init__(self, address: str | None = None) -> None:
        self.address = address or usual_address()
        self._version: str | None = None
        self._local = threading.local()

    def client(self, limit: float) -> docker.APIClient:
        """This thread's client. Making the first one asks the engine for its version."""
        self._knock(limit)
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self.new_client(limit)
            self._local.client = client
        client.timeout = limit
        return client

    def new_client(self, limit: float) -> docker.APIClient:
        """A client for a stream, to be closed by the caller."""
        self._knock(limit)
        options: dict[str, Any] = docker.utils.kwargs_from_env()
        options["base_url"] = self.address
        client = docker.APIClient(version=self._version or "auto", timeout=limit, **options)
        self._version = client.api_version
        return client

    def _knock(self, limit: float) -> None:
        """Raise what the kernel says if nobody listens.

        The library would wrap it four times, and leave its socket open.
        """
        scheme, _, path = self.address.partition("://")
        if scheme == "unix":
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(limit)
                knock.connect(path)

    def leave(self) -> None:
        """Close this thread's client."""
        client = getattr(self._local, "client", None)
        if client is not None:
            client.close()
            del self._local.client

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise `EngineAway` or `EngineRefused` for whatever happens within."""
        try:
            yield
        except APIError as error:
            status = error.response.status_code if error.response is not None else 0
            raise EngineRefused(one_line(error.explanation or error), status) from error
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            DockerException,
            TLSParameterError,
            OSError,
        ) as error:
            if isinstance(error, DockerException) and _os_error(error) is None:
                refused = _status_below(error)
                if refused is not None:
                    raise EngineRefused(one_line(error), refused) from error
            self._version = None  # who comes back may be another one
            raise EngineAway(self._why(error)) from error

    def _why(self, error: BaseException) -> Reason:
        below = _os_error(error)
        if isinstance(below, FileNotFoundError):
            return because("docker.absent", address=self.address)
        if isinstance(below, PermissionError):
            return because("docker.denied", address=self.address)
        said = one_line(error)
        if any(isinstance(one, _TOO_LATE) for one in _chain(error)):
            said = "no answer in time"
        elif below is not None and below.strerror:
            said = below.strerror
        return because("docker.unreachable", address=self.address, why=said)

    # --- looking ------------------------------------------------------------------------

    @_told
    def listing(self, owner: str, limit: float) -> tuple[Seen, ...]:
        """Every container of one owner, running or not."""
        found = self.client(limit).containers(all=True, filters={"label": f"{OWNER}={owner}"})
        return tuple(seen(one) for one in found)

    @_told
    def everything(self, limit: float) -> list[dict[str, str]]:
        """Every container, anybody's, as people know it."""
        return [shown(one) for one in self.client(limit).containers(all=True)]

    @_told
    def inspect(self, name: str, limit: float) -> Inspected | None:
        """One container by its name or id; None: there is none."""
        try:
            return inspected(self.client(limit).inspect_container(name))
        except APIError as error:
            if error.response is not None and error.response.status_code == 404:
                return None
            raise

    @_told
    def facts(self, limit: float) -> EngineFacts:
        """Its version, and how it gives out GPUs."""
        info = self.client(limit).info()
        return EngineFacts(str(info.get("ServerVersion") or "?"), gpu_by(info))

    @_told
    def has_image(self, image: str, limit: float) -> bool:
        """Whether the image is there, without asking any registry."""
        try:
            self.client(limit).inspect_image(image)
        except APIError as error:
            if error.response is not None and error.response.status_code == 404:
                return False
            raise
        return True

    # --- doing --------------------------------------------------------------------------

    @_told
    def need_network(self, name: str, owner: str, limit: float) -> bool:
        """Make the network unless it is there; whether it was made."""
        client = self.client(limit)
        if any(one["Name"] == name for one in client.networks(names=[name])):
            return False
        client.create_network(name, driver="bridge", check_duplicate=True, labels={OWNER: owner})
        return True

    @_told
    def create(self, request: Request, limit: float) -> str:
        """Make the container; its id. Nothing runs yet."""
        client = self.client(limit)
        made = client.create_container(
            request.image,
            command=None if request.command is None else list(request.command),
            entrypoint=None if request.entrypoint is None else list(request.entrypoint),
            name=request.name,
            labels=dict(request.labels),
            environment=dict(request.environment),
            user=request.user,
            ports=[(port.inside, port.protocol) for port in request.ports],
            host_config=client.create_host_config(**_host_config(request)),
        )
        return str(made["Id"])

    @_told
    def rename(self, container: str, name: str, limit: float) -> None:
        """Give it another name."""
        self.client(limit).rename(container, name)

    @_told
    def start(self, container: str, limit: float) -> None:
        """Run it."""
        self.client(limit).start(container)

    @_told
    def kill(self, container: str, signal: int, limit: float) -> bool:
        """Send a signal to its main process; False: it does not run (any more)."""
        try:
            self.client(limit).kill(container, signal)
        except APIError as error:
            # 409: it is not running; engines before 1.13 said 500 with the same words.
            if error.response is not None and error.response.status_code in {404, 409}:
                return False
            if "is not running" in str(error.explanation):
                return False
            raise
        return True

    @_told
    def thaw(self, container: str, limit: float) -> None:
        """Let a paused container run: a frozen process does not even hear KILL (cgroup v1)."""
        with contextlib.suppress(APIError):
            self.client(limit).unpause(container)

    @_told
    def remove(self, container: str, limit: float) -> None:
        """Remove it with what it wrote inside, ending it if it runs. Gone is well."""
        try:
            self.client(limit).remove_container(container, force=True, v=True)
        except APIError as error:
            status = error.response.status_code if error.response is not None else 0
            if status not in {404, 409}:
                raise
            # 409: somebody else is removing it already, and its name is free when he is done.
            until = time.monotonic() + min(limit, _OTHERS)
            while self.inspect(container, limit) is not None and time.monotonic() < until:
                time.sleep(0.02)

    # --- streams ------------------------------------------------------------------------

    @_told
    def events(self, client: docker.APIClient, owner: str, since: int) -> Any:
        """What happens to an owner's containers from `since` (Unix seconds) on, as dicts.

        The stream ends when the engine does; `close()` of it ends it from another thread.
        """
        return client.events(
            since=since or None,
            filters={"label": [f"{OWNER}={owner}"], "type": ["container"]},
            decode=True,
        )

    @_told
    def logs(self, client: docker.APIClient, container: str, *, since: float, follow: bool) -> Any:
        """What it printed, one piece with its time before it at a time; `close()` as above."""
        answers: list[requests.Response] = []
        client.hooks["response"] = lambda answer, **_: answers.append(answer)
        try:
            return client.logs(
                container,
                stdout=True,
                stderr=True,
                stream=True,
                follow=follow,
                timestamps=True,
                since=since or None,
            )
        except BaseException:
            # The library asks a second time, how to read the stream it has opened; if that has no
            # answer it drops the open one.
            for answer in answers:
                answer.close()
            raise

    @staticmethod
    def cut(stream: Any) -> None:
        """End a stream that another thread reads: it sees the end, and finishes by itself."""
        # (the library's own `close` takes the socket away under the reader)
        with contextlib.suppress(Exception):
            below = stream._response.raw._fp.fp.raw  # noqa: SLF001
            getattr(below, "_sock", below).shutdown(socket.SHUT_RDWR)

    @staticmethod
    def finish(stream: Any) -> None:
        """Close a stream that is read no more."""
        with contextlib.suppress(Exception):
            stream._response.close()  # noqa: SLF001

    # --- images -------------------------------------------------------------------------

    def build(self, folder: Path, image: str, stall: float) -> Iterator[Step]:
        """Build an image; each line that the engine says. Raises `EngineRefused` with the last.

        `stall`: seconds without a word after which it counts as hung.
        """
        with self.told():
            client = self.new_client(stall)
            try:
                for part in client.build(
                    path=str(folder), tag=image, rm=True, forcerm=True, decode=True, timeout=stall
                ):
                    yield from build_step(part)
            finally:
                client.close()

    def pull(self, image: str, stall: float) -> Iterator[Step]:
        """Pull an image; how far it is, whenever the engine says so."""
        layers: dict[str, tuple[int, int]] = {}
        with self.told():
            client = self.new_client(stall)
            try:
                name, tag = docker.utils.parse_repository_tag(image)
                for part in client.pull(name, tag=tag or "latest", stream=True, decode=True):
                    yield pull_step(part, layers)
            finally:
                client.close()


def _host_config(request: Request) -> dict[str, Any]:
    config: dict[str, Any] = {
        "binds": list(request.binds),
        "port_bindings": {
            f"{port.inside}/{port.protocol}": (port.host, port.outside) for port in request.ports
        },
        "restart_policy": {"Name": "no"},  # restarting is ours
        "init": request.init,
        "log_config": LogConfig(
            type=LogConfig.types.JSON,
            config={"max-size": str(request.log_size), "max-file": _LOG_FILES},
        ),
    }
    if request.network is not None:
        config["network_mode"] = request.network
    if request.shm_size is not None:
        config["shm_size"] = request.shm_size
    if request.ipc is not None:
        config["ipc_mode"] = request.ipc
    if request.memory is not None:
        # Without swap on top: a limit that moves to the disk would only make everything slow.
        config |= {"mem_limit": request.memory, "memswap_limit": request.memory}
    if request.cpu is not None:
        config["nano_cpus"] = int(request.cpu * _NANO)
    if request.tasks is not None:
        config["pids_limit"] = request.tasks
    if request.gpus:
        config["device_requests"] = [_devices(request)]
    return config


def _devices(request: Request) -> DeviceRequest:
    if request.gpu_by == "cdi":
        ids = [f"nvidia.com/gpu={gpu}" for gpu in request.gpus]
        return DeviceRequest(driver="cdi", device_ids=ids)
    return DeviceRequest(device_ids=list(request.gpus), capabilities=[["gpu"]])


# --- failures --------------------------------------------------------------------------------


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and what it carries: HTTP clients wrap in all three ways."""
    waiting, known = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        below = [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
        waiting += [each for each in below if isinstance(each, BaseException)]


def _os_error(error: BaseException) -> OSError | None:
    found = (one for one in _chain(error) if isinstance(one, OSError) and one.errno)
    return next(found, None)


def _status_below(error: BaseException) -> int | None:
    for one in _chain(error):
        if isinstance(one, APIError) and one.response is not None:
            return int(one.response.status_code)
    return None
