"""What should be, as a pure function of what was done: `after(world, burst)`.

A `World` is what an operator has in mind: the config, the documents in KV, the holds, what runs, who is
sick, how Consul is. A burst is a handful of steps at the same time; no two of them are about the same
service, so their order does not matter. Nothing here touches a process or a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import takewhile
from typing import Literal, TypeAlias

State: TypeAlias = Literal["running", "stopped", "maintenance"]
Scope: TypeAlias = Literal["node", "_all"]
Place: TypeAlias = Literal["agent", "catalog"]

#: Version and parameter: another one of these is another process.
Program: TypeAlias = tuple[int, str]

GROUP = "voice"


@dataclass(frozen=True)
class Definition:
    """A service in config.yml. Those with a `rank` are the engines of the group."""

    usual: State = "running"
    rank: int | None = None
    served: bool = True
    tags: tuple[str, ...] = ()
    version: int = 0


@dataclass(frozen=True)
class Document:
    """A document in KV, as far as it was ever readable. `spoiled`: what is there now is not."""

    state: State | None = None
    tone: str | None = None
    spoiled: bool = False


@dataclass(frozen=True)
class World:
    """Everything that the oracle needs to know.

    `runs` names what each process was started as; `anew` are those that the last burst started.
    `lost` are the engines that ever failed: they get their place back after a time of trial.
    """

    config: Mapping[str, Definition]
    kv: Mapping[tuple[Scope, str], Document] = field(default_factory=dict)
    holds: Mapping[str, State] = field(default_factory=dict)
    sick: frozenset[str] = frozenset()
    strangers: frozenset[tuple[Place, str]] = frozenset()
    consul: Literal["well", "mute", "gone"] = "well"
    runs: Mapping[str, Program] = field(default_factory=dict)
    anew: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()

    def state(self, name: str) -> State:
        """Hold before the node's document before everybody's before config."""
        said = (self._said(scope, name).state for scope in ("node", "_all"))
        states = (self.holds.get(name), *said, self.config[name].usual)
        return next(state for state in states if state is not None)

    def tone(self, name: str) -> str:
        """The parameter in force; a hold leaves it alone."""
        said = (self._said(scope, name).tone for scope in ("node", "_all"))
        return next((tone for tone in said if tone is not None), "low")

    def program(self, name: str) -> Program:
        """What it is to run as."""
        return self.config[name].version, self.tone(name)

    def fit(self, name: str) -> bool:
        """Whether people may be sent to it."""
        return name in self.runs and name not in self.sick and self.state(name) == "running"

    @property
    def engines(self) -> list[str]:
        """The members of the group that can answer, the best first."""
        ranks = {name: it.rank for name, it in self.config.items() if it.rank and self.fit(name)}
        return sorted(ranks, key=lambda name: (ranks[name] or 0, name))

    @property
    def best(self) -> list[str]:
        """Those of them that may have the place: nobody better is there but on trial."""
        better = list(takewhile(lambda name: name in self.lost, self.engines))
        return self.engines[: len(better) + 1]

    def _said(self, scope: Scope, name: str) -> Document:
        return self.kv.get((scope, name), Document())

    def say(self, scope: Scope, name: str, document: Document | None) -> World:
        others = {key: old for key, old in self.kv.items() if key != (scope, name)}
        return replace(self, kv=others if document is None else {**others, (scope, name): document})


@dataclass(frozen=True)
class Step:
    """Something that somebody does."""

    @property
    def subject(self) -> str:
        """The service that it is about; no two steps of a burst have the same."""
        return getattr(self, "name", "")

    def after(self, world: World) -> World:
        """What should be once it was done."""
        return world


@dataclass(frozen=True)
class Order(Step):
    """`lictor start|stop|restart NAME`."""

    verb: Literal["start", "stop", "restart"]
    name: str

    def refused(self, world: World) -> bool:
        """A held service is moved by nobody, but to restart one that is held running is no move."""
        held = world.holds.get(self.name)
        return held is not None and (self.verb, held) != ("restart", "running")

    def after(self, world: World) -> World:
        target: State = "stopped" if self.verb == "stop" else "running"
        if self.refused(world) or (self.verb != "restart" and world.state(self.name) == target):
            return world
        if self.verb == "restart":
            world = replace(world, anew=world.anew | {self.name})
        return world.say("node", self.name, replace(in_force(world, self.name), state=target))


@dataclass(frozen=True)
class Set(Step):
    """`lictor set NAME tone=…`."""

    name: str
    tone: str

    def after(self, world: World) -> World:
        return world.say("node", self.name, replace(in_force(world, self.name), tone=self.tone))


@dataclass(frozen=True)
class Hold(Step):
    """`lictor hold NAME --state …`."""

    name: str
    state: State

    def after(self, world: World) -> World:
        return replace(world, holds={**world.holds, self.name: self.state})


@dataclass(frozen=True)
class Release(Step):
    """`lictor release NAME`."""

    name: str

    def after(self, world: World) -> World:
        holds = {name: state for name, state in world.holds.items() if name != self.name}
        return replace(world, holds=holds)


@dataclass(frozen=True)
class Put(Step):
    """`consul kv put` of a whole document."""

    scope: Scope
    name: str
    document: Document

    def after(self, world: World) -> World:
        return world.say(self.scope, self.name, self.document)


@dataclass(frozen=True)
class Delete(Step):
    """`consul kv delete`."""

    scope: Scope
    name: str

    def after(self, world: World) -> World:
        return world.say(self.scope, self.name, None)


@dataclass(frozen=True)
class Spoil(Step):
    """`consul kv put` of something that is no document: the last good one stays in force."""

    scope: Scope
    name: str
    text: str

    def after(self, world: World) -> World:
        good = world.kv.get((self.scope, self.name), Document())
        return world.say(self.scope, self.name, replace(good, spoiled=True))


@dataclass(frozen=True)
class Define(Step):
    """Another definition in config.yml (None: none any more); one reload for all of a burst."""

    name: str
    definition: Definition | None

    def after(self, world: World) -> World:
        others = {name: old for name, old in world.config.items() if name != self.name}
        added = {} if self.definition is None else {self.name: self.definition}
        return replace(world, config={**others, **added})


@dataclass(frozen=True)
class Kill(Step):
    """`kill -9` of a service that runs."""

    name: str

    def after(self, world: World) -> World:
        return replace(world, anew=world.anew | {self.name})


@dataclass(frozen=True)
class Sicken(Step):
    """Its health URL turns bad."""

    name: str

    def after(self, world: World) -> World:
        return replace(world, sick=world.sick | {self.name})


@dataclass(frozen=True)
class Heal(Step):
    """Its health URL turns good again."""

    name: str

    def after(self, world: World) -> World:
        return replace(world, sick=world.sick - {self.name})


@dataclass(frozen=True)
class TakeOut(Step):
    """Somebody deregisters its entry by hand; `member`: the one under the group's name."""

    name: str
    place: Place
    member: bool = False


@dataclass(frozen=True)
class Retag(Step):
    """Somebody writes other tags into such an entry at the agent by hand."""

    name: str
    member: bool = False


@dataclass(frozen=True)
class DropQuery(Step):
    """Somebody deletes the group's prepared query."""


@dataclass(frozen=True)
class Intrude(Step):
    """Somebody registers an entry of their own that looks like one of ours."""

    name: str
    place: Place

    def after(self, world: World) -> World:
        return replace(world, strangers=world.strangers | {(self.place, self.name)})


@dataclass(frozen=True)
class AgentDies(Step):
    """`kill -9` of the agent, and the next one."""


@dataclass(frozen=True)
class AgentLeaves(Step):
    """`lictor down --keep`, and the next one."""


@dataclass(frozen=True)
class ConsulFreezes(Step):
    """SIGSTOP."""

    def after(self, world: World) -> World:
        return replace(world, consul="mute")


@dataclass(frozen=True)
class ConsulDies(Step):
    """`kill -9`."""

    def after(self, world: World) -> World:
        return replace(world, consul="gone")


@dataclass(frozen=True)
class ConsulReturns(Step):
    """SIGCONT, or a new start with its data."""

    def after(self, world: World) -> World:
        return replace(world, consul="well")


@dataclass(frozen=True)
class ConsulIsEmptied(Step):
    """Killed and started with an empty disk: of each document the last good text comes back."""

    def after(self, world: World) -> World:
        good = {key: replace(document, spoiled=False) for key, document in world.kv.items()}
        kept = {key: document for key, document in good.items() if document != Document()}
        return replace(world, consul="well", strangers=frozenset(), kv=kept)


@dataclass(frozen=True)
class Quiet(Step):
    """Nothing happens for some seconds: what is amiss is felt."""

    seconds: int


Burst: TypeAlias = tuple[Step, ...]


def in_force(world: World, name: str) -> Document:
    """What a command edits: the node's document, or what was last good of a spoiled one."""
    return replace(world.kv.get(("node", name), Document()), spoiled=False)


def after(before: World, burst: Iterable[Step]) -> World:
    """What should be once everything has calmed down."""
    done = reduce(lambda world, step: step.after(world), burst, replace(before, anew=frozenset()))
    runs: dict[str, Program] = {}
    for name in done.config:
        if done.state(name) == "running":
            runs[name] = done.program(name)
        elif done.state(name) == "maintenance" and name in before.runs:
            runs[name] = before.runs[name]  # hands off
    anew = {name for name in runs if name in done.anew or runs[name] != before.runs.get(name)}
    then = replace(done, runs=runs, anew=frozenset(anew))
    lost = {name for name in before.engines if name in anew or not then.fit(name)}
    return replace(then, lost=before.lost | lost)
