"""What may happen next, drawn at random from a world. Pure: the same seed gives the same story."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from tests.e2e.chaos import model as m
from tests.e2e.chaos.model import Burst, Step, World, after

BEGINNING = {
    "xtts": m.Definition(rank=10),
    "openvoice": m.Definition(rank=20),
    "piper": m.Definition(rank=30),
    "web": m.Definition(tags=("one",)),
    "cold": m.Definition(usual="stopped"),
    "worker": m.Definition(served=False),
}
GARBAGE = ("no JSON", "[1, 2]", '{"command": ["rm"]}', "", "{" * 20, "\u0441\u0442\u043e\u043f")
STATES = ("running", "stopped", "maintenance")
TONES = ("low", "high")

#: Deleted documents that would stop more than two services wait for a person.
MOST_DELETED = 2


def story(seed: int, bursts: int) -> Iterator[tuple[Burst, World]]:
    """Bursts, each with the world after it; the last one brings Consul back."""
    rng = random.Random(seed)
    world = after(World(BEGINNING), ())
    for _ in range(bursts):
        burst = _burst(rng, world)
        world = after(world, burst)
        yield burst, world
    if world.consul != "well":
        yield (m.ConsulReturns(),), after(world, (m.ConsulReturns(),))


def _burst(rng: random.Random, world: World) -> Burst:
    great = _great(rng, world)
    emptied = m.ConsulIsEmptied() in great
    names = rng.sample(sorted(BEGINNING), rng.randint(0 if great else 1, 4))
    steps: list[Step] = []
    for name in names:
        kinds: list[list[Step]] = [*_here(rng, world, name)]
        if world.consul == "well" and not emptied:
            deleted = sum(isinstance(step, m.Delete) for step in steps)
            kinds += _in_consul(rng, world, name, delete=deleted < MOST_DELETED)
        if kinds:
            steps.append(rng.choice(rng.choice(kinds)))
    return (*steps, *great)


def _great(rng: random.Random, world: World) -> list[Step]:
    """What concerns everything: the agent, Consul, both at once, or neither."""
    agent: list[Step] = [m.AgentDies(), m.AgentLeaves()]
    consul: dict[str, list[Step]] = {
        "well": [m.ConsulFreezes(), m.ConsulDies(), m.ConsulIsEmptied(), m.DropQuery()],
        "mute": [m.ConsulReturns(), m.ConsulReturns(), m.Quiet(15)],
        "gone": [m.ConsulReturns(), m.ConsulReturns(), m.ConsulIsEmptied(), m.Quiet(5)],
    }
    found = [rng.choice(agent)] if rng.random() < 0.25 else []
    return [*found, *([rng.choice(consul[world.consul])] if rng.random() < 0.4 else [])]


def _here(rng: random.Random, world: World, name: str) -> Iterator[list[Step]]:
    """What needs no Consul: commands, config.yml, the service itself."""
    definition = world.config.get(name)
    if definition is None:
        yield [m.Define(name, BEGINNING[name])]
        return
    if name in world.sick:
        yield [m.Heal(name)]
        yield [m.Define(name, replace(definition, tags=(f"tag{rng.randrange(9)}",)))]
        return
    yield [m.Order("start", name), m.Order("stop", name), m.Order("restart", name)]
    yield [m.Set(name, tone) for tone in TONES]
    yield [m.Release(name)] if name in world.holds else [m.Hold(name, state) for state in STATES]
    yield [
        m.Define(name, replace(definition, tags=(f"tag{rng.randrange(9)}", "two"))),
        m.Define(name, replace(definition, version=definition.version + 1)),
        m.Define(name, replace(definition, rank=definition.rank and rng.randint(1, 99))),
        m.Define(name, replace(definition, rank=definition.rank and None)),
        m.Define(name, None),
    ]
    if name in world.runs and world.state(name) == "running":
        yield [m.Kill(name), *([m.Sicken(name)] if definition.served else [])]


def _in_consul(
    rng: random.Random, world: World, name: str, *, delete: bool
) -> Iterator[list[Step]]:
    """What somebody does in Consul behind the agent's back."""
    yield [m.Intrude(name, rng.choice(("agent", "catalog")))]
    if name in world.runs:
        member = world.config[name].rank is not None and rng.random() < 0.5
        yield [m.TakeOut(name, rng.choice(("agent", "catalog")), member), m.Retag(name, member)]
    if name in world.sick:
        return
    scope = rng.choice(("node", "_all"))
    document = m.Document(rng.choice((*STATES, None)), rng.choice((*TONES, None)))
    yield [m.Put(scope, name, document)]
    yield [m.Spoil(scope, name, rng.choice(GARBAGE))]
    if delete and (scope, name) in world.kv:
        yield [m.Delete(scope, name)]
