"""The schema of one entry of `services:` in config.yml.

`ServiceModel` is what may be written for a service; an entry under `instances:` may repeat every
key but `template` and `instances`, and gives plain values for `params`. When this model sees a
service, templates and instances are already merged and every placeholder is expanded; a
`{param.x}` arrives as a marker text (see `expand`) that no check here takes apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from lictor.core.config.fields import (
    Argv,
    Count,
    Duration,
    Endpoint,
    EnvName,
    Flag,
    Host,
    Integer,
    MaxRestarts,
    Name,
    Number,
    Port,
    Positive,
    ProbeUrl,
    Signal,
    Size,
    SocketUrl,
    Tag,
    Text,
    Umask,
    fail,
)
from lictor.core.config.params import bad_default
from lictor.core.config.schema_install import InstallModel
from lictor.core.model.container import mounted, named, published

#: Ways to ask a service whether it works; exactly one per check.
PROBE_KINDS = ("http", "tcp", "command")
#: Further ones: a protocol's own hello.
PROTOCOL_KINDS = (
    *("postgres", "mysql", "redis", "kafka", "amqp", "mongodb", "grpc", "websocket"),
    "minio",
)

Scalar = str | int | float | bool
DriverWord = Literal["process", "docker", "observed", "auto"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Probe(_Part):
    http: ProbeUrl | None = Field(
        default=None, description="URL that answers 2xx when it works, or only its path: /health"
    )
    tcp: Endpoint | None = Field(default=None, description="host:port that accepts a connection")
    command: Argv | None = Field(default=None, description="Program that exits 0 when it works")
    postgres: Endpoint | None = Field(default=None, description="host:port of a PostgreSQL server")
    mysql: Endpoint | None = Field(default=None, description="host:port of a MySQL server")
    redis: Endpoint | None = Field(default=None, description="host:port of a Redis server")
    kafka: Endpoint | None = Field(default=None, description="host:port of a Kafka broker")
    amqp: Endpoint | None = Field(default=None, description="host:port of an AMQP broker")
    mongodb: Endpoint | None = Field(default=None, description="host:port of a MongoDB server")
    grpc: Endpoint | None = Field(
        default=None, description="host:port with the gRPC health service"
    )
    minio: Endpoint | None = Field(default=None, description="host:port of a MinIO server (S3)")
    websocket: SocketUrl | None = Field(
        default=None, description="ws:// URL that accepts a handshake, or only its path"
    )
    interval: Duration = Field(default=10.0, description="Time between two checks, at least 1s")
    timeout: Duration = Field(default=5.0, description="Longest wait for one answer")

    @field_validator("interval", "timeout")
    @classmethod
    def _long_enough(cls, value: float, info: Any) -> float:
        least = 1.0 if info.field_name == "interval" else 0.01
        if value < least:
            word = "1s" if info.field_name == "interval" else "10ms"
            raise fail(f"{info.field_name} must be at least {word}")
        return value


class HealthModel(_Probe):
    """How readiness and health are judged: at most one kind."""

    startup: Duration = Field(
        default=180.0, description="Longest time from start to the first pass"
    )
    failures: Positive = Field(
        default=3, description="Failed checks in a row until it counts as unhealthy"
    )
    on_unhealthy: Literal["restart", "ignore"] = Field(
        default="restart", description="What to do with an unhealthy service"
    )
    stalled: Duration | None = Field(
        default=None,
        description="Unhealthy too when its counters (`metrics`) stand still so long while requests "
        "wait; while they move, its silence counts for nothing",
    )

    @model_validator(mode="after")
    def _one_probe(self) -> HealthModel:
        _one_of(self, at_least=0)
        return self


class CheckModel(_Probe):
    """One further named check: exactly one kind."""

    @model_validator(mode="after")
    def _one_kind(self) -> CheckModel:
        _one_of(self, at_least=1)
        return self


def _one_of(model: BaseModel, *, at_least: int) -> None:
    kinds = (*PROBE_KINDS, *PROTOCOL_KINDS)
    given = [kind for kind in kinds if getattr(model, kind) is not None]
    if len(given) > 1:
        raise fail(f"{' and '.join(given)} are both given", "keep exactly one")
    if len(given) < at_least:
        raise fail("it does not say what to ask", f"give one of {', '.join(PROBE_KINDS)}")


#: `health: none` in the file.
NO_HEALTH = HealthModel.model_validate({})


def _health(value: object) -> object:
    if value == "none":
        return NO_HEALTH
    if isinstance(value, str):
        raise fail("expected a mapping such as {http: /health}, or none", f"got {value[:40]!r}")
    return value


class RestartModel(_Part):
    """What follows an exit that nobody asked for."""

    policy: Literal["always", "on-failure", "never"] = Field(
        default="always", description="Whether to start it again"
    )
    backoff: Duration = Field(default=5.0, description="First delay; it doubles with each failure")
    max_backoff: Duration = Field(default=300.0, description="Longest delay")
    max_restarts: MaxRestarts = Field(
        default=-1, description="Restarts in a row until it counts as failed, or unlimited"
    )
    reset_after: Duration = Field(
        default=600.0, description="Time of being ready that forgets failures"
    )


class StopModel(_Part):
    """How to stop it."""

    signal: Signal = Field(default="TERM", description="Signal to the whole process group")
    timeout: Duration = Field(default=10.0, description="Wait this long, then KILL")
    pause: Duration = Field(
        default=2.0, description="Between stop and start of an operator's restart"
    )


class DependencyModel(_Part):
    """One dependency."""

    required: Flag = Field(
        default=True, description="false: only the order matters, if it runs at all"
    )


def _dependencies(value: object) -> object:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return {item: {} for item in value}
    if isinstance(value, dict):
        return {name: {} if how is None else how for name, how in value.items()}
    raise fail("expected a list of service names, or a mapping of them to {required: false}")


class GpuModel(_Part):
    """What it needs of a GPU."""

    memory: Size | None = Field(default=None, description="GPU memory it will take")
    min_compute_capability: Number | None = Field(
        default=None, description="CUDA compute capability"
    )
    devices: list[Text] | None = Field(default=None, description="Allowed GPUs: index or UUID")
    pinned: Flag = Field(default=False, description="Never stopped to make room for another")
    utilization: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of the whole card that it takes, as vLLM counts"
    )
    placement: Literal["binpack", "spread"] = Field(
        default="binpack", description="Of the cards with room: the fullest or the emptiest"
    )


class LimitsModel(_Part):
    """Most that it may use."""

    memory: Size | None = Field(default=None, description="Memory of all its processes")
    cpu: Number | None = Field(default=None, description="CPUs, 1.5 means one and a half")
    tasks: Positive | None = Field(default=None, description="Processes and threads")


class RecycleModel(_Part):
    """When to start it afresh, while nobody uses it."""

    rss: Size | None = Field(default=None, description="When its memory is above this")
    age: Duration | None = Field(default=None, description="When it has run this long")


class LogModel(_Part):
    """Its own log file."""

    max_size: Size = Field(default=10 * 1024 * 1024, description="Rotate above this size")
    keep: Count = Field(default=5, description="Old files to keep")


class DockerModel(_Part):
    """The container of a service with `driver: docker`."""

    image: Text | None = Field(default=None, description="Image with its tag")
    name: Text | None = Field(default=None, description="Container name; default: made by Lictor")
    network: Text | None = Field(default=None, description="Docker network, host or none")
    volumes: list[Text] = Field(default=[], description="source:target[:ro]")
    ports: list[Text] = Field(default=[], description="[host:]port:port")
    shm_size: Size | None = Field(default=None, description="Size of /dev/shm")
    ipc: Text | None = Field(default=None, description="IPC namespace: host, private, ...")
    build: Text | None = Field(
        default=None, description="Folder with a Dockerfile to build the image from"
    )
    init: Flag = Field(
        default=True,
        description="A small first process that hands on signals; false for images with their own",
    )
    command: Argv | None = Field(
        default=None, description="What follows the image; default: the service's `command`"
    )

    @field_validator("ports", "volumes")
    @classmethod
    def _forms(cls, value: list[str], info: Any) -> list[str]:
        return [_fits(published if info.field_name == "ports" else mounted, one) for one in value]

    @field_validator("name")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        return value if value is None else _fits(named, value)


def _fits(form: Callable[[str], object], text: str) -> str:
    try:
        form(text)
    except ValueError as error:
        raise fail(str(error), f"got {text[:40]!r}") from None
    return text


class ParamModel(_Part):
    """A typed parameter that KV and the API may set; its type is that of `default`."""

    default: Scalar = Field(description="Value when nobody sets one")
    choices: list[Scalar] | None = Field(default=None, description="The values that are allowed")
    pattern: str | None = Field(default=None, description="Regular expression for the whole value")

    @model_validator(mode="after")
    def _fits(self) -> ParamModel:
        problem = bad_default(self.default, tuple(self.choices or ()), self.pattern)
        if problem:
            raise fail(problem)
        return self


class ServiceBase(_Part):
    """Keys that a service and each of its instances may have."""

    description: str = Field(default="", description="One sentence for people")
    driver: DriverWord = Field(
        default="process",
        description="process: Lictor runs `command`; docker: a container; auto: a container where "
        "the Docker engine gives out GPUs, else `command`; observed: something else runs it, Lictor "
        "registers and checks it",
    )
    command: Argv | None = Field(
        default=None,
        description='Program and arguments as a list, never a shell: [python, -m, x, "{port}"]',
    )
    before: list[Argv] = Field(default=[], description="One-shot jobs before each start, in order")
    docker: DockerModel | None = Field(default=None, description="Container, for driver docker")
    cwd: Text = Field(default=".", description="Working folder, from the folder of config.yml")
    env: dict[EnvName, str] = Field(
        default={}, description="Environment variables, over those of env_file"
    )
    env_file: Text | None = Field(default=None, description="File of KEY=VALUE lines")
    inherit_env: list[EnvName] = Field(
        default=[],
        description="Variables of the agent to hand on (only PATH HOME LANG TZ USER TMPDIR go by themselves)",
    )
    user: Text | None = Field(
        default=None, description="Run as this user, or user:group (agent as root)"
    )
    umask: Umask | None = Field(default=None, description="File mode mask, octal")
    host: Host = Field(default="127.0.0.1", description="Address it binds to")
    address: Host | None = Field(
        default=None,
        description="Address to register. Default: host, or agent.advertise for 0.0.0.0",
    )
    port: Port | None = Field(
        default=None,
        description="Port it listens on; left out while {port} is used: Lictor chooses one",
    )
    health: Annotated[
        HealthModel,
        BeforeValidator(_health, json_schema_input_type=HealthModel | Literal["none"]),
    ] = Field(
        default_factory=lambda: HealthModel.model_validate({}),
        description="How to see that it works; default: its port accepts a connection",
    )
    checks: dict[Name, CheckModel] = Field(default={}, description="Further named checks")
    restart: RestartModel = Field(
        default_factory=lambda: RestartModel.model_validate({}), description="After an exit"
    )
    stop: StopModel = Field(
        default_factory=lambda: StopModel.model_validate({}), description="How to stop it"
    )
    depends_on: Annotated[
        dict[str, DependencyModel],
        BeforeValidator(
            _dependencies,
            json_schema_input_type=list[str] | dict[str, DependencyModel | None],
        ),
    ] = Field(default={}, description="Started after these are ready")
    optional: Flag = Field(default=False, description="The whole counts as up without it")
    activation: Literal["always", "on-demand", "manual"] = Field(
        default="always", description="Kept up, started by the first request, or only by hand"
    )
    idle_timeout: Duration | None = Field(
        default=None, description="On-demand: stop after this idle time"
    )
    gpu: GpuModel | None = Field(default=None, description="What it needs of a GPU")
    limits: LimitsModel | None = Field(default=None, description="Most that it may use")
    recycle: RecycleModel | None = Field(default=None, description="When to start it afresh")
    log: LogModel = Field(
        default_factory=lambda: LogModel.model_validate({}), description="Its own log file"
    )
    logs: list[Text] = Field(default=[], description="Further log files to offer, from cwd")
    group: Name | None = Field(
        default=None, description="Name shared by services that replace each other"
    )
    rank: Integer = Field(
        default=100, description="Place in the group; the lowest that works is used"
    )
    modes: list[Literal["full", "local", "cloud"]] = Field(
        default=[], description="Modes of the agent in which it runs; empty: all"
    )
    owner: Text | None = Field(default=None, description="Whose it is, for the role `user`")
    tags: list[Tag] = Field(default=[], description="Tags in Consul, each a DNS label")
    meta: dict[str, str] = Field(
        default={}, description="Key-value pairs in Consul, for everybody to read"
    )
    metrics: Text | None = Field(
        default=None, description="Path of its Prometheus metrics, such as /metrics"
    )
    register_: Flag = Field(
        default=True, alias="register", description="Whether Consul hears of it at all"
    )

    @field_validator("metrics")
    @classmethod
    def _metrics_path(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"/\S*", value):
            raise fail(f"expected a path such as /metrics, got {value[:40]!r}")
        return value


class InstanceModel(ServiceBase):
    """One instance: its own port, parameters, environment, or any other key of the service."""

    params: dict[str, Scalar] = Field(default={}, description="Values of the service's parameters")


class ServiceModel(ServiceBase):
    """One service."""

    template: Text | None = Field(
        default=None,
        description="Ready definition that ships with Lictor; the other keys override it",
    )
    params: dict[str, ParamModel] = Field(
        default={}, description="What KV and the API may set, typed"
    )
    install: InstallModel | None = Field(
        default=None, description="What `lictor install` brings before the first start"
    )
    instances: dict[Name, InstanceModel] = Field(
        default={}, description="Several of it, each called name@instance"
    )
