"""One agent before one Consul, and what the checklist looks at: processes, entries, requests."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.e2e.world import Catalog, web
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.consul import ConsulServer
from tests.support.lying_proxy import LyingProxy

#: Where a test writes what it measured: a name and a value.
Note = Callable[[str, object], None]

#: Puts a proxy that can lie before a Consul: the fixture `proxied`.
Proxied = Callable[[ConsulServer], LyingProxy]

#: Seconds of one round: the agent's complete comparison.
ROUND = 10.0


class Scene:
    """An agent with `count` HTTP services, all of them passing in the catalog of `consul`."""

    def __init__(self, agent: RunningAgent, consul: ConsulServer, names: list[str]) -> None:
        self.agent = agent
        self.consul = consul
        self.names = names
        self.catalog = Catalog(consul)

    @property
    def name(self) -> str:
        """The first of the services."""
        return self.names[0]

    def id(self, name: str = "") -> str:
        return self.agent.entry_id(name or self.name)

    def started(self) -> Scene:
        self.agent.start()
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until everything is as it should be, Lictor's own entry and desired state too."""
        self.agent.wait_ready(*self.names)
        self.wait_all_passing()
        for folder in (self.agent.node, "_all"):
            wait_until(
                lambda f=folder: self.consul.get_kv(f"lictor/desired/{f}/_lictor"), what="sentinels"
            )
        wait_until(lambda: self.agent.consul_state() == "ok")

    def wait_all_passing(self) -> None:
        for name in (*self.names, "lictor"):
            self.catalog.wait_passing(name, self.id(name))

    def pids(self) -> dict[str, int | None]:
        return {row["name"]: row["pid"] for row in self.agent.status()}

    def phases(self) -> set[str]:
        return {row["phase"] for row in self.agent.status()}

    def restarts(self) -> int:
        return sum(int(row["restarts"]) for row in self.agent.status())

    def warnings(self) -> str:
        """What `lictor status` warns of, codes and sentences."""
        return str(self.agent.ask("overview")["warnings"])

    def index(self) -> int:
        """The index of everything that the catalog knows of this agent's services."""
        paths = (f"health/service/{name}" for name in (*self.names, "lictor"))
        return max(self.consul.raw("GET", path).index for path in paths)

    def at_agent(self, service_id: str = "") -> dict[str, Any] | None:
        """The entry as the local Consul agent holds it."""
        found: dict[str, Any] = self.consul.raw("GET", "agent/services").json
        return found.get(service_id or self.id())

    def desired(self, name: str, document: Any, *, where: str = "") -> None:
        self.consul.put_kv(f"lictor/desired/{where or self.agent.node}/{name}", document)

    def journal(self) -> list[str]:
        """The reasons in the journal, the oldest first."""
        found = self.agent.cli("events", "-n", "200", "-o", "json").json
        return [str(row["reason"]) for row in found]


def make_scene(
    make_agent: Callable[..., RunningAgent],
    server: ConsulServer,
    count: int = 1,
    *,
    proxy: LyingProxy | None = None,
    services: dict[str, Any] | None = None,
    **options: Any,
) -> Scene:
    """A scene whose agent is not started; `proxy` stands between it and Consul."""
    made = services or {unique(f"check{number}"): web() for number in range(count)}
    address = proxy.url if proxy is not None else server.http
    options.setdefault("consul", address)
    return Scene(make_agent(made, **options), server, list(made))


class Beside(ABC):
    """What goes on in a thread of its own while a scene plays."""

    def __init__(self) -> None:
        self._end = threading.Event()

    @abstractmethod
    def run(self) -> None:
        """The work, until `_end`."""

    @contextmanager
    def looking(self) -> Iterator[Self]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            thread.join(20)


class Sampler(Beside):
    """Looks at one service's checks every 50 ms, from beside."""

    def __init__(self, scene: Scene, name: str = "") -> None:
        super().__init__()
        self._scene = scene
        self._name = name or scene.name
        self.seen: set[tuple[str, ...]] = set()
        self.samples = 0

    def run(self) -> None:
        while not self._end.wait(0.05):
            entry = self._scene.catalog.checks(self._name, self._scene.id(self._name))
            self.seen.add(tuple(sorted({status for status, _ in entry.values()})))
            self.samples += 1

    @property
    def never_but_passing(self) -> bool:
        return self.samples > 0 and self.seen == {("passing",)}


class Pauses(Beside):
    """The moments in which the machine let nobody run, seen by a thread that only sleeps.

    An agent that waits for Consul, or blocks, does not hold this thread up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._late: list[tuple[float, float]] = []  # when it was to wake, and when it woke

    def run(self) -> None:
        due = time.monotonic() + 0.02
        while not self._end.wait(0.02):
            woke = time.monotonic()
            self._late.append((due, woke))
            due = woke + 0.02

    def between(self, began: float, ended: float) -> float:
        """Seconds of this time (monotonic) in which the machine stood still."""
        return sum(max(0.0, min(woke, ended) - max(due, began)) for due, woke in self._late)


def seconds_until(truth: Callable[[], Any], *, within: float = 60.0, what: str = "") -> float:
    """How long it took until it was true."""
    began = time.monotonic()
    wait_until(truth, within=within, what=what)
    return round(time.monotonic() - began, 2)
