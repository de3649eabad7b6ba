"""What a service is, after config.yml was read, checked and expanded.

A `ServiceSpec` is complete: every default is filled in, every `{placeholder}` but `{param.x}` is
expanded. `{param.x}` stays a `ParamRef`, because KV and the API may change a parameter while the
agent runs; `planning.overrides` fills it in. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from lictor.core.model.container import ContainerSpec
from lictor.core.model.gpu import GpuSpec
from lictor.core.model.install import InstallSpec
from lictor.core.model.names import ServiceKey

DriverKind: TypeAlias = Literal["process", "docker", "observed", "auto"]
Activation: TypeAlias = Literal["always", "on-demand", "manual"]
ParamValue: TypeAlias = str | int | float | bool

#: Kinds of probes that Consul asks itself, so that they stay true when Lictor is dead; also the last
#: part of the ids of such checks.
ASKED_BY_CONSUL = frozenset({"http", "tcp"})


@dataclass(frozen=True, slots=True)
class ParamRef:
    """A `{param.name}` that fills one whole argv element or one whole env value."""

    name: str


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """A typed parameter that KV and the API may set.

    The type is that of `default`. `choices` or `pattern` (a full-match regular expression) narrow
    it. A value may never begin with `-`: it must not turn into an option of the service's program.
    """

    default: ParamValue
    choices: tuple[ParamValue, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """One question whose answer says whether a service works.

    `target` is a URL for `http`, `host:port` for `tcp`; `argv` is used by `command` only. Other
    kinds (`postgres`, `kafka`, ...) speak a protocol's hello to `target`.
    """

    kind: str
    target: str = ""
    argv: tuple[str, ...] = ()
    interval: float = 10.0
    timeout: float = 5.0

    @property
    def asked_by_consul(self) -> bool:
        """Whether Consul can ask this itself; else only Lictor can, and tells Consul."""
        return self.kind in ASKED_BY_CONSUL


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """How readiness and health are judged.

    `probe` None: ready as soon as it runs. `startup`: seconds from start until the first pass, or
    the start has failed. `failures`: consecutive failed checks until `unhealthy`. `stalled`: seconds
    for which its own counters (`metrics`) may stand still while requests wait; None: not looked at.
    """

    probe: ProbeSpec | None = None
    startup: float = 180.0
    failures: int = 3
    on_unhealthy: Literal["restart", "ignore"] = "restart"
    stalled: float | None = None


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """What follows an exit nobody asked for.

    The first restart of a service that was ready for 10 s is immediate; after that the delay
    starts at `backoff` and doubles up to `max_backoff`, and the count of failures is forgotten
    after `reset_after` seconds of being ready. `max_restarts` None: never give up.
    """

    policy: Literal["always", "on-failure", "never"] = "always"
    backoff: float = 5.0
    max_backoff: float = 300.0
    max_restarts: int | None = None
    reset_after: float = 600.0


@dataclass(frozen=True, slots=True)
class StopSpec:
    """How to stop: `signal` to the whole group, KILL after `timeout` seconds.

    `pause` is the time in seconds between stop and start of an operator's restart.
    """

    signal: str = "TERM"
    timeout: float = 10.0
    pause: float = 2.0


@dataclass(frozen=True, slots=True)
class LogSpec:
    """Rotation: `max_size` bytes a file, `keep` old files."""

    max_size: int = 10 * 1024 * 1024
    keep: int = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a service may use, all its processes together; None: as much as there is.

    `memory` is bytes, `cpu` a number of CPUs (1.5: one and a half), `tasks` processes and threads.
    """

    memory: int | None = None
    cpu: float | None = None
    tasks: int | None = None

    def given(self) -> Mapping[str, float]:
        """Those that are set, by the words of config.yml."""
        named = {"memory": self.memory, "cpu": self.cpu, "tasks": self.tasks}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RecycleSpec:
    """When to start it afresh although nothing is wrong with it yet; None: never.

    `rss` is resident memory in bytes, of all its processes together; `age` is seconds since its
    start. For programs that leak: an orderly restart now is better than an out-of-memory kill.
    """

    rss: int | None = None
    age: float | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """Start after `name` is *ready*. Not `required`: only the order matters, if it runs at all."""

    name: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service (or one instance of one) as this host's config defines it.

    `address` is what is registered, `host` where it binds. `registered` False: Consul never hears
    of it. `env_names` are those that the definition itself lists under `env`, of all that `env` has.
    `meta` goes to Consul. `modes` empty: every mode. `gpus` are the UUIDs of the GPUs that its next
    run was given; config.yml never sets them. `container_command` is what a container gets instead of
    `command`, if that is not None. What only a later version uses is plain data under
    `later`.
    """

    key: ServiceKey
    driver: DriverKind = "process"
    description: str = ""
    display_name: str = ""
    command: tuple[str | ParamRef, ...] = ()
    before: tuple[tuple[str | ParamRef, ...], ...] = ()
    cwd: str = "."
    env: Mapping[str, str | ParamRef] = field(default_factory=dict, repr=False)
    env_names: tuple[str, ...] = ()
    user: str | None = None
    group: str | None = None
    umask: int | None = None
    host: str = "127.0.0.1"
    address: str = "127.0.0.1"
    port: int | None = None
    health: HealthSpec = field(default_factory=HealthSpec)
    checks: Mapping[str, ProbeSpec] = field(default_factory=dict)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    stop: StopSpec = field(default_factory=StopSpec)
    limits: Limits = field(default_factory=Limits)
    depends_on: tuple[Dependency, ...] = ()
    optional: bool = False
    activation: Activation = "always"
    recycle: RecycleSpec = field(default_factory=RecycleSpec)
    log: LogSpec = field(default_factory=LogSpec)
    logs: tuple[str, ...] = ()
    params: Mapping[str, ParamSpec] = field(default_factory=dict)
    param_values: Mapping[str, ParamValue] = field(default_factory=dict)
    voice_group: str | None = None
    rank: int = 100
    owner: str | None = None
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)
    modes: tuple[str, ...] = ()
    registered: bool = True
    docker: ContainerSpec | None = None
    container_command: tuple[str | ParamRef, ...] | None = None
    gpu: GpuSpec | None = None
    gpus: tuple[str, ...] = ()
    install: InstallSpec = field(default_factory=InstallSpec)
    later: Mapping[str, object] = field(default_factory=dict)
    _fingerprint: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def with_params(self, values: Mapping[str, ParamValue]) -> ServiceSpec:
        """This spec with some parameters set; the values have been checked by the caller."""
        return replace(self, param_values={**self.param_values, **values})

    def on_gpus(self, uuids: tuple[str, ...]) -> ServiceSpec:
        """This spec for a run on these GPUs.

        A program of ours is told by CUDA's own variables; UUIDs mean the same card whatever the order
        in which a program counts them (by speed, unless CUDA_DEVICE_ORDER says otherwise).
        """
        env = {
            **self.env,
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(uuids),
        }
        return replace(self, gpus=uuids, env=env if self.driver == "process" else self.env)

    def param(self, name: str) -> ParamValue:
        """The value in force of one parameter."""
        if name in self.param_values:
            return self.param_values[name]
        return self.params[name].default

    def argv(self, command: tuple[str | ParamRef, ...] | None = None) -> tuple[str, ...]:
        """`command` (default: the service's own) with every parameter filled in."""
        parts = self.command if command is None else command
        return tuple(self._fill(part) for part in parts)

    def container_argv(self) -> tuple[str, ...]:
        """What stands behind the image, with every parameter filled in."""
        return self.argv(self.container_command)

    def environment(self) -> dict[str, str]:
        """`env` with every parameter filled in."""
        return {name: self._fill(value) for name, value in self.env.items()}

    def fingerprint(self) -> str:
        """A short hash of everything that only takes effect at a start.

        Two specs with one fingerprint can be exchanged under a running service; a different one
        means that it must be restarted.
        """
        if not self._fingerprint:  # every plan asks, for every service
            self._fingerprint.append(self._hashed())
        return self._fingerprint[0]

    def _hashed(self) -> str:
        parts = (
            self.driver,
            self.argv(),
            tuple(self.argv(job) for job in self.before),
            self.cwd,
            sorted(self.environment().items()),
            (self.user, self.group, self.umask),
            (self.host, self.port),
            [],  # kept, so that an upgrade takes no unchanged service for a changed one
            *([self.limits] if self.limits != Limits() else []),
            *(part for part in (self.docker, self.gpu) if part is not None),
            *([self.container_argv()] if self.container_command is not None else []),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _fill(self, part: str | ParamRef) -> str:
        if isinstance(part, ParamRef):
            value = self.param(part.name)
            return str(value).lower() if isinstance(value, bool) else str(value)
        return part
