"""What must be true of a host once it has calmed down: one generator of complaints per promise."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.e2e.chaos.model import GROUP, World
from tests.e2e.chaos.stage import Stage
from tests.support.agent import argv_of
from tests.support.children import alive
from tests.support.sampling import srv_ports

#: What `lictor/actual` and `status` both say.
PUBLISHED = ("desired", "phase", "health", "sentence", "reason", "reason_params", "pid", "restarts")


class Oracle:
    """Compares a stage with a world; it remembers how often each service had begun before."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.begun: Mapping[str, int] = {}

    def complaints(self, world: World) -> Iterator[str]:
        """What is not (yet) as it should be."""
        rows = {row["name"]: row for row in self.stage.agent.status()}
        yield from self._processes(world, rows)
        yield from self._rows(world, rows)
        if world.consul != "well":
            return
        yield from self._entries(world, rows)
        yield from self._strangers(world)
        yield from self._group(world)
        yield from self._published(rows)
        yield from self._pending()

    def settled(self) -> None:
        """From here on, only what the next burst orders may begin."""
        self.begun = Counter({name: len(pids) for name, pids in self.stage.marks().items()})

    def journal(self) -> Iterator[str]:
        """Every start and every end has its line and its reason.

        But for what an agent did in the very moment in which it was killed.
        """
        said: dict[str, list[str]] = {name: [] for name in self.stage.ports}
        for row in self.stage.journal():
            if row["kind"] == "phase":
                if not row["sentence"] or not row["reason"] or "{" in row["sentence"]:
                    yield f"no reason in {row}"
                if row["reason"] != "starting.loading":
                    said[row["service"]].append(row["phase"])
        for name, pids in self.stage.marks().items():
            unsaid = len(pids) - said[name].count("starting")
            if not 0 <= unsaid <= self.stage.deaths:
                yield f"{name} began {len(pids)} times, the journal says {said[name]}"
            ended = " ".join(said[name]).split("starting")[1:-1]
            if not unsaid and not all("stopped" in life or "backoff" in life for life in ended):
                yield f"{name} began again without an end: the journal says {said[name]}"

    # --- the promises -----------------------------------------------------------------------------

    def _processes(self, world: World, rows: Mapping[str, Any]) -> Iterator[str]:
        """What should run runs exactly once, as it should; nothing began that no step ordered."""
        marks = self.stage.marks()
        living = {name: [pid for pid in pids if alive(pid)] for name, pids in marks.items()}
        for name, pids in living.items():
            told = rows[name]["pid"] if name in rows else None
            if pids != ([told] if name in world.runs else []):
                yield f"{name} has the processes {pids}, status names {told}"
            fresh = len(marks[name]) - self.begun.get(name, 0)
            if fresh != (name in world.anew):
                yield f"{name} began {fresh} times in this burst"
            if pids and name in world.runs:
                version, tone = world.runs[name]
                if (argv := argv_of(pids[0]))[-2:] != [f"v{version}", tone]:
                    yield f"{name} runs as {argv[-2:]}"
        every = {pid for pids in living.values() for pid in pids}
        if set(self.stage.agent.processes()) != every:
            yield f"processes {self.stage.agent.processes()}, of which {every} said that they began"

    def _rows(self, world: World, rows: Mapping[str, Any]) -> Iterator[str]:
        """`status` says so too, and nothing is left to do."""
        if rows.keys() != world.config.keys():
            yield f"status lists {sorted(rows)}"
        for name in rows.keys() & world.config.keys():
            phase = "stopped"
            if name in world.runs:
                phase = "unhealthy" if name in world.sick else "ready"
            found = (rows[name]["desired"], rows[name]["phase"])
            if found != (world.state(name), phase):
                yield f"{name} is {found}, not {(world.state(name), phase)}: {rows[name]['sentence']}"
        if plan := self.stage.agent.ask("plan"):
            yield f"still to do: {plan}"

    def _entries(self, world: World, rows: Mapping[str, Any]) -> Iterator[str]:
        """Consul's agent and its catalog hold what runs, and nothing else."""
        consul, expected = self.stage.consul, self._expected(world)
        places = {
            "agent": consul.raw("GET", "agent/services").json,
            "catalog": consul.raw("GET", f"catalog/node/{consul.node}").json["Services"],
        }
        for place, services in places.items():
            found = {
                key: (
                    it["Service"],
                    it["Address"],
                    it["Port"],
                    sorted(set(it["Tags"]) - {"standby"}),
                )
                for key, it in services.items()
                if key != "consul" and not key.endswith("-theirs")
            }
            for key in sorted(found.keys() | expected.keys()):
                if found.get(key) != expected.get(key):
                    yield f"the {place} has {key} as {found.get(key)}, not {expected.get(key)}"
        health: dict[str, dict[str, str]] = {}
        for check in consul.raw("GET", f"health/node/{consul.node}").json:
            service_id, _, kind = check["CheckID"].rpartition(":")
            health.setdefault(service_id, {})[kind] = check["Status"]
        for name in world.runs:
            good, bad = "passing", "critical"
            wanted = {"lictor": bad if world.state(name) == "maintenance" else good}
            if world.config[name].served:
                wanted["http"] = bad if name in world.sick else good
            if (checks := health.get(self.stage.agent.entry_id(name))) != wanted:
                yield f"the checks of {name} are {checks}, not {wanted}"
            if rows.get(name, {}).get("registered") is not True:
                yield f"status does not say that {name} is registered"
            if world.config[name].rank:
                alias = {"alias": good if {*wanted.values()} == {good} else bad}
                member = self.stage.agent.entry_id(f"{GROUP}:{name}")
                if health.get(member) != alias:
                    yield f"the check of {member} is {health.get(member)}, not {alias}"

    def _expected(self, world: World) -> dict[str, tuple[str, str, int, list[str]]]:
        """Name, address, port and tags (but `standby`) of each entry, by id."""
        agent = self.stage.agent
        found = {agent.entry_id("lictor"): ("lictor", "127.0.0.1", self.stage.web, list[str]())}
        for name in world.runs:
            it = world.config[name]
            where = ("127.0.0.1", self.stage.ports[name] if it.served else 0)
            found[agent.entry_id(name)] = (name, *where, sorted(it.tags))
            if it.rank:
                tags = sorted({name, *it.tags})
                found[agent.entry_id(f"{GROUP}:{name}")] = (GROUP, *where, tags)
        return found

    def _strangers(self, world: World) -> Iterator[str]:
        """What others registered is as they left it."""
        consul = self.stage.consul
        elsewhere = (consul.raw("GET", "catalog/node/elsewhere").json or {}).get("Services", {})
        here = consul.raw("GET", "agent/services").json
        for (place, name), entry in self.stage.strangers.items():
            found = (here if place == "agent" else elsewhere).get(entry["ID"], {})
            if (now := {key: found.get(key) for key in entry}) != entry:
                yield f"the stranger {place}/{name} is {now}"
        if world.strangers != self.stage.strangers.keys():
            yield "the stage has lost a stranger"

    def _group(self, world: World) -> Iterator[str]:
        """`voice.query.consul` is the best that works, and nobody else."""
        ports = srv_ports(f"{GROUP}.query.consul", self.stage.consul.dns_port)
        found = [name for name in self.stage.ports if self.stage.ports[name] in ports]
        if len(found) != bool(world.best) or not {*found} <= {*world.best}:
            yield f"{GROUP}.query.consul names {found}, not one of {world.best}"

    def _published(self, rows: Mapping[str, Any]) -> Iterator[str]:
        """`lictor/actual` agrees with `status`."""
        folder = f"lictor/actual/{self.stage.agent.node}/"
        keys = self.stage.consul.raw("GET", f"kv/{folder}?keys").json or []
        if {key.removeprefix(folder) for key in keys} != rows.keys():
            yield f"lictor/actual has {keys}"
        for name, row in rows.items():
            said = json.loads(self.stage.consul.get_kv(f"{folder}{name}") or "{}")
            for key in PUBLISHED:
                if said.get(key) != row[key]:
                    yield f"lictor/actual of {name} has {key}={said.get(key)!r}, not {row[key]!r}"

    def _pending(self) -> Iterator[str]:
        """The agent has nothing to warn of but documents for services that it does not have."""
        for warning in self.stage.agent.ask("overview")["warnings"]:
            if warning["reason"] != "kv.stray":
                yield f"a warning: {warning['sentence']}"
