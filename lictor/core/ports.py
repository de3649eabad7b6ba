"""What the shell needs from the world, as protocols.

Everything that may fail or take time stands behind one of these. The real ones live in
`core.drivers`, `core.probes` and `consul_integration`; the fakes in `core.testing` pass the same
contract tests (`tests/contracts`). All coroutines may be cancelled at any await.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lictor.core.model.desired import KvSnapshot
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Param, Reason
from lictor.core.model.registration import RegistryView, Write
from lictor.core.model.spec import DriverKind, ProbeSpec, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity


class Clock(Protocol):
    """Time, so that tests can hold it still."""

    def now(self) -> float:
        """Monotonic seconds since boot (CLOCK_BOOTTIME): comparable across agents of one boot."""
        ...

    def wall(self) -> float:
        """Unix seconds, for people only; no decision may depend on differences of it."""
        ...


# --- drivers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a stop went: the exit of the main process, and whether KILL was needed."""

    exit: Exit
    killed: bool = False
    survivors: int = 0


class Running(Protocol):
    """One running service, as its driver holds it.

    | state of the process | `wait` | `stop` |
    |---|---|---|
    | runs | returns when the main process ends | TERM to the whole tree, KILL after the timeout |
    | main process ended, children left | returns at once | ends the children |
    | all gone | returns at once, always the same `Exit` | returns at once |
    """

    @property
    def identity(self) -> Identity:
        """What to write down so that another agent can take this over."""
        ...

    async def wait(self) -> Exit:
        """Wait until the main process has ended. Any number of callers, any number of times."""
        ...

    async def stop(self, how: StopSpec) -> StopReport:
        """End every process of the service. Returns when none is left (or none can be ended)."""
        ...


class Driver(Protocol):
    """Starts services of one kind. Raises `StartFailed` (with a reason code), nothing else."""

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        ...

    async def start(self, spec: ServiceSpec) -> Running:
        """Start the service's command. Returns as soon as the program was executed."""
        ...

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:
        """Run one `before` job to its end, in the service's environment and log.

        Cancelling it ends the job's processes.
        """
        ...

    def recover(self, spec: ServiceSpec, identity: Identity | None) -> Running | None:
        """Take over what an earlier agent started, if it still runs and is provably ours.

        `identity` None: search by our marker. Never returns a stranger with a reused pid.
        """
        ...

    def log_path(self, spec: ServiceSpec) -> Path | None:
        """The file that the service writes itself, if this driver has one."""
        ...


# --- probes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One answer of a probe. `output` is short, one line, safe to show; `took` is seconds."""

    passed: bool
    output: str
    took: float = 0.0


class Prober(Protocol):
    """Asks services whether they work."""

    async def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Ask once, within `spec.timeout` seconds. Never raises but for cancellation."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of one service use, the whole tree together."""

    cpu_percent: float | None = None
    memory_bytes: int | None = None
    processes: int = 0
    threads: int = 0


class UsageProbe(Protocol):
    """Samples what services use, in one pass over the process table."""

    def sample(self, roots: Mapping[ServiceKey, Identity]) -> Mapping[ServiceKey, Usage]:
        """Usage of each tree by its main process. Missing key: it is gone. At most 2 s old."""
        ...


# --- Consul ----------------------------------------------------------------------------------


class Registry(Protocol):
    """The local Consul agent's list of services. Every call has a deadline; raises `ConsulError`."""

    async def read(self) -> RegistryView:
        """Everything the local agent holds, ours and foreign."""
        ...

    async def apply(self, write: Write) -> None:
        """Do one write. Idempotent: repeating it changes nothing."""
        ...

    async def ready(self) -> None:
        """Return if Consul can be written to by us now; else raise the `ConsulError` that says why."""
        ...

    def watch_health(self) -> AsyncIterator[Known[Mapping[str, tuple[str, str]]] | Unknown]:
        """Status and output of every check of this node, by check id, on each change, for ever.

        Yields `Unknown` once when Consul stops answering and `Known` again when it is back.
        """
        ...


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """A change of one desired document. None leaves a field alone; `remove` deletes the key.

    `unset_params` removes these parameters; `clear_state` returns the state to the config.
    """

    state: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    unset_params: tuple[str, ...] = ()
    clear_state: bool = False
    restart: str | None = None
    until: str | None = None
    by: str = ""
    reason: str = ""
    remove: bool = False


class DesiredSource(Protocol):
    """Desired state in Consul KV."""

    def watch(self) -> AsyncIterator[Known[KvSnapshot] | Unknown]:
        """The documents of this node and `_all`, on each real change, for ever.

        Yields `Unknown` once when a read fails, is forbidden, or lacks its sentinel.
        """
        ...

    async def change(
        self, key: ServiceKey, change: DesiredChange, *, node: str | None = None
    ) -> None:
        """Edit one document with compare-and-set, keeping what it does not mention."""
        ...


class ActualSink(Protocol):
    """Where the actual state is published for other nodes (`lictor/actual/<node>/...`)."""

    async def publish(self, records: Mapping[ServiceKey, Mapping[str, object] | None]) -> None:
        """Write the records that changed, in as few transactions as fit; None deletes."""
        ...


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a service as discovery sees it. `health` is the worst of its checks."""

    service: str
    id: str
    node: str
    address: str
    port: int
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    health: str
    output: str


class Discovery(Protocol):
    """Finding services, ours and others'."""

    async def discover(
        self, name: str | None = None, *, tag: str | None = None, dc: str | None = None
    ) -> list[Instance]:
        """Every instance of `name` (None: of all services), whatever its health."""
        ...


@dataclass(frozen=True, slots=True)
class ConsulPorts:
    """Everything the agent needs of Consul, made by the composition root."""

    registry: Registry
    desired: DesiredSource
    actual: ActualSink
    discovery: Discovery


# --- storage ---------------------------------------------------------------------------------


class Store(Protocol):
    """The agent's memory on disk. Never raises for a broken disk: it reports through `trouble`."""

    def load(self, table: str) -> Mapping[str, Mapping[str, object]]:
        """All rows of one table, by key; rows that cannot be read are left out and reported."""
        ...

    def save(self, table: str, key: str, row: Mapping[str, object] | None) -> None:
        """Remember (None: forget) a row. Returns at once; written in order, by one writer."""
        ...

    def record(
        self,
        *,
        at: float,
        kind: str,
        subject: str,
        reason: Reason,
        who: str,
        data: Mapping[str, Param],
    ) -> None:
        """Append one event to the journal."""
        ...

    def trouble(self) -> Reason | None:
        """What is wrong with the storage at present, if anything."""
        ...
