"""What the shell needs from the world, as protocols.

Everything that may fail or take time stands behind one of these. The real ones live in
`core.drivers`, `core.probes` and `consul_integration`; the fakes in `core.testing` pass the same
contract tests (`tests/contracts`). All coroutines may be cancelled at any await.
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lictor.core.model.access import Rule
from lictor.core.model.desired import DesiredChange, HoldOrder, KvSnapshot
from lictor.core.model.explanation import CatalogNode, DnsSeen
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Param, Reason
from lictor.core.model.registration import RegistryView, SeenService, Write
from lictor.core.model.spec import DriverKind, ParamSpec, ProbeSpec, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports_discovery import Discovery, GroupQueries, Instance, InstanceRecord
from lictor.core.ports_leftovers import Attic
from lictor.core.ports_nodes import Nodes

__all__ = [
    "ActualSink",
    "Attic",
    "Clock",
    "ConsulLink",
    "ConsulPorts",
    "DesiredChange",
    "DesiredSource",
    "Discovery",
    "Driver",
    "GroupQueries",
    "Inspection",
    "Instance",
    "InstanceRecord",
    "ProbeResult",
    "Prober",
    "Registry",
    "Running",
    "StopReport",
    "Store",
    "Usage",
    "UsageProbe",
]


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

    @property
    def containment(self) -> str:
        """How its processes are held together, for people; empty where there is none of ours."""
        ...

    @property
    def over(self) -> bool:
        """Whether the end of the main process is known; `wait` may still collect its last words."""
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

    def recover(
        self, spec: ServiceSpec, identity: Identity | None, *, after: float = 0.0
    ) -> Running | None:
        """Take over what an earlier agent started, if it still runs and is provably ours.

        `identity` None: search by our marker for a run that began `after` this moment (seconds of
        `Clock.now`): of earlier ones only children can be left. Never returns a stranger with a
        reused pid.
        """
        ...

    def sweep(self, spec: ServiceSpec) -> Task[None] | None:
        """Begin to end what an earlier agent left of this service, `recover` having found nothing.

        None: nothing is left. Else nothing is, once the task is done.
        """
        ...

    def notes(self, spec: ServiceSpec) -> Sequence[Reason]:
        """What this host cannot do for the service: no cgroup, limits that cannot be kept."""
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
    """What the processes of one service use, the whole tree together.

    `cpu_percent`: 100 is one core; `cpu_seconds` is of their life so far, with the children that
    ended and were waited for. `fds` and `connections` (TCP sockets that are connected) are counted
    only when asked for; None is not measured, or not ours to see.
    """

    cpu_percent: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    processes: int = 0
    threads: int = 0
    fds: int | None = None
    connections: int | None = None


class UsageProbe(Protocol):
    """Samples what services use, in one pass over the process table."""

    def sample(
        self,
        roots: Mapping[ServiceKey, Identity],
        *,
        details: bool = False,
        max_age: float = 2.0,
    ) -> Mapping[ServiceKey, Usage]:
        """Usage of each tree by its main process. Missing key: it is gone.

        `max_age` (seconds) is how old it may be. `details` counts descriptors and connections too:
        it looks at each of them, so it is to be called in a thread.
        """
        ...

    def age(self) -> float:
        """Seconds since the last look; what the next one says of CPU is the mean over them."""
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

    async def in_catalog(self) -> Mapping[str, SeenService]:
        """What the catalog has of this node, by id; empty also where it may not be read."""
        ...

    def credential(self) -> str:
        """A mark of the token used now, which changes when the token does; empty without one.

        Consul remembers with each entry which token registered it.
        """
        ...

    async def ready(self) -> None:
        """Return if Consul can be written to by us now; else raise the `ConsulError` that says why."""
        ...

    def watch_health(self) -> AsyncIterator[Known[Mapping[str, tuple[str, str]]] | Unknown]:
        """Status and output of every check of this node, by check id, on each change, for ever.

        Yields `Unknown` once when Consul stops answering and `Known` again when it is back.
        """
        ...


class DesiredSource(Protocol):
    """Desired state in Consul KV."""

    def watch(self) -> AsyncIterator[Known[KvSnapshot] | Unknown]:
        """The documents of this node and `_all`, on each real change, for ever.

        Yields `Unknown` once when a read fails, is forbidden, or lacks its sentinel.
        """
        ...

    async def change(
        self, key: ServiceKey, change: DesiredChange, *, node: str | None = None, within: float = 0
    ) -> None:
        """Edit one document and keep the rest; each compare-and-set `within` seconds (0: any)."""
        ...

    async def order_hold(self, order: HoldOrder, *, node: str) -> None:
        """Order a hold, or its end, of the agent of another node; a new order replaces an old one."""
        ...

    async def taken_up(self, order: HoldOrder) -> None:
        """Take away an order to this node, unless another one has replaced it."""
        ...

    def current(self) -> KvSnapshot | None:
        """The last good read, parsed with what the host defines *now*; None before the first."""
        ...

    def memory(self) -> Mapping[str, object] | None:
        """What the next agent should be given, as a plain row; None before the first good read."""
        ...

    async def confirm(self) -> None:
        """Accept that the documents are gone: the operator says so after they were deleted."""
        ...


class ActualSink(Protocol):
    """Where the actual state is published for other nodes (`lictor/actual/<node>/...`)."""

    async def publish(self, records: Mapping[ServiceKey, Mapping[str, object] | None]) -> None:
        """Write the records that changed, in as few transactions as fit; None deletes."""
        ...

    async def published(self) -> frozenset[ServiceKey]:
        """The services that have a record now, those of an earlier agent included."""
        ...

    def forget(self) -> None:
        """Consul was away: what it was told before does not count any more."""
        ...


class Inspection(Protocol):
    """What Consul says about itself and about us. Each call has a deadline; raises `ConsulError`."""

    async def denied(self, rules: Sequence[Rule]) -> tuple[Rule, ...] | None:
        """Those of the rules that our token lacks; None: this Consul has no access control."""
        ...

    async def node(self) -> CatalogNode:
        """The local agent's node, as it and as the catalog know it."""
        ...

    async def dns(self, name: str) -> DnsSeen:
        """What Consul's DNS answers for `<name>.service.<domain>`, asked as anybody would."""
        ...


@dataclass(frozen=True, slots=True)
class ConsulPorts:
    """Everything the agent needs of Consul, made by the composition root."""

    registry: Registry
    desired: DesiredSource
    actual: ActualSink
    discovery: Discovery
    inspection: Inspection
    queries: GroupQueries
    nodes: Nodes
    attic: Attic


class ConsulLink(Protocol):
    """The way to one Consul, chosen once at start: somebody's, or an embedded one of our own."""

    @property
    def address(self) -> str | None:
        """Its HTTP address; None when there is no Consul at all."""
        ...

    @property
    def problem(self) -> Reason | None:
        """Why there is none, if so."""
        ...

    def service(self) -> ServiceSpec | None:
        """The embedded Consul as a service for us to run; None when it is somebody's."""
        ...

    async def connect(
        self,
        *,
        params_of: Callable[[ServiceKey], Mapping[str, ParamSpec] | None],
        memory: Mapping[str, object] | None,
        notify: Callable[[Reason], None],
    ) -> ConsulPorts:
        """Make the adapters (no contact yet).

        `memory` is what `DesiredSource.memory` gave to an earlier agent; `notify` hears of what is
        done to KV unasked (sentinels made, documents restored).
        """
        ...

    async def prepare(self) -> None:
        """What a fresh embedded Consul needs once (its ACLs); idempotent; raises `ConsulError`."""
        ...

    def remember(self) -> None:
        """The first good contact: from now on this data_dir belongs to this kind of Consul."""
        ...

    async def about(self) -> Mapping[str, str | int | None]:
        """For people: `ui`, `dns` (host:port), `domain`; empty values where unknown."""
        ...

    def exports(self) -> Mapping[str, str]:
        """What `lictor env` prints."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


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
