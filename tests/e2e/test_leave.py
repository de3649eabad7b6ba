"""A service that is to end: whoever asks for it is sent elsewhere before it is told to go."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeAgent
from tests.e2e.world import diarist
from tests.support.agent import unique, wait_until
from tests.support.children import text_of
from tests.support.consul import ConsulServer
from tests.support.sampling import Sampler

pytestmark = pytest.mark.consul


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_no_answer_of_dns_names_a_service_that_was_told_to_go(
    make_agent: MakeAgent, own_consul: ConsulServer, tmp_path: Path, verb: str
):
    name, moment = unique("goes"), tmp_path / "told"
    definition = diarist(name, tmp_path / "diary", "leave=1", f"told={moment}")
    agent = make_agent({name: definition}, consul=own_consul.http).start()
    agent.wait_ready(name)
    with Sampler(f"{name}.service.consul", own_consul.dns_port) as sampler:
        wait_until(lambda: sampler.seen() and sampler.seen()[-1].ports, what="it is found")
        assert agent.cli(verb, name).code == 0
        wait_until(lambda: "\n" in text_of(moment), what="it was told to go")
        told = float(text_of(moment))
        time.sleep(0.3)
        late = [each for each in sampler.seen() if told < each.begun < told + 0.3]
    assert late
    assert not any(each.ports for each in late), sampler.changes()


def test_a_consul_that_is_mute_holds_nobody_up_for_long(
    make_agent: MakeAgent, own_consul: ConsulServer
):
    name = unique("mute")
    agent = make_agent({name: diarist(name, Path("/dev/null"))}, consul=own_consul.http).start()
    agent.wait_ready(name)
    begun = time.monotonic()
    own_consul.freeze()
    try:
        assert agent.cli("stop", name, "--wait").code == 0
        assert time.monotonic() - begun < 30
    finally:
        own_consul.thaw()
