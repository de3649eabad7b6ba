"""Stories drawn at random: a host, its agent and its Consul, and what must be true after each burst.

The test's id is the seed: the same one tells the same story again. `model.py` says what should be,
`oracle.py` what is looked at, `script.py` what may happen. `make soak` tells many and long ones.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.chaos.model import Burst, World, after
from tests.e2e.chaos.oracle import Oracle
from tests.e2e.chaos.script import BEGINNING, story
from tests.e2e.chaos.stage import Stage
from tests.support.consul import ConsulServer
from tests.support.scale import many

pytestmark = pytest.mark.consul

BURSTS = many(4, 12)

#: Seconds: everything is promised within ten of quiet; the rest is for a busy machine.
CALM = 25.0


def calm(oracle: Oracle, world: World) -> None:
    """Wait until the oracle has nothing to complain of."""
    deadline = time.monotonic() + CALM
    while found := list(oracle.complaints(world)):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join([f"after {CALM:g} s of quiet:", *found]))
        time.sleep(0.1)
    oracle.settled()


def tell(number: int, burst: Burst) -> None:
    """Shown by pytest where the test failed."""
    print(f"burst {number}:", *burst, sep="\n    ")  # noqa: T201


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(many(3, 40)))
def test_whatever_happens_the_host_and_consul_are_soon_as_they_should_be(
    seed: int, own_consul: ConsulServer, tmp_path: Path
):
    before = after(World(BEGINNING), ())
    stage = Stage(own_consul, tmp_path, before)
    oracle = Oracle(stage)
    try:
        stage.agent.start()
        calm(oracle, before)
        for number, (burst, world) in enumerate(story(seed, BURSTS), 1):
            tell(number, burst)
            stage.play(burst, before, world)
            calm(oracle, world)
            before = world
        time.sleep(2)  # whatever still begins now, no step has ordered
        calm(oracle, after(before, ()))
        assert not list(oracle.journal())
    finally:
        own_consul.thaw()
        stage.agent.close()
