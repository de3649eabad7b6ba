"""A group on several nodes: who answers where, through the DNS of each node's own Consul."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import pytest

from tests.e2e.world import service
from tests.support.agent import RunningAgent, unique, wait_until
from tests.support.children import child, free_port
from tests.support.consul_cluster import Cluster

pytestmark = pytest.mark.consul

#: The engines of each node, the best first; node c has but the least of them.
ENGINES = {"a": ("xtts", "piper"), "b": ("openvoice", "piper"), "c": ("piper",)}
RANKS = {"xtts": 10, "openvoice": 20, "piper": 30}


def engine(port: int, **keys: Any) -> dict[str, Any]:
    """One that is away for a second at least when it is killed: else nobody needs to replace it."""
    return service(child("slow-start", port=port, seconds=1), port, **keys)


class Choir:
    """Three servers that are nodes as well, an agent on each, and their engines of one group."""

    def __init__(self, cluster: Cluster) -> None:
        self.group = unique("voice")
        self.servers = dict(zip(ENGINES, cluster.servers, strict=True))
        self.ports = {(node, word): free_port() for node in ENGINES for word in ENGINES[node]}
        self.agents = {
            node: RunningAgent(
                {
                    word: engine(self.ports[node, word], group=self.group, rank=RANKS[word])
                    for word in words
                },
                consul=self.servers[node].http,
                node=node,
            )
            for node, words in ENGINES.items()
        }

    def answers(self, asked: str, kind: str) -> list[tuple[str, str]]:
        """Node and engine of each answer of `<group>.<kind>.consul`, in the order of the answer."""
        server = self.servers[asked]
        question = dns.message.make_query(f"{self.group}.{kind}.consul", "SRV", use_edns=0)
        found = dns.query.udp(question, server.address, port=server.dns_port, timeout=5)
        known = {port: place for place, port in self.ports.items()}
        return [
            known[record.port]
            for rrset in found.answer
            if rrset.rdtype == dns.rdatatype.SRV
            for record in rrset
        ]

    def wait_answers(self, asked: str, kind: str, expected: set[tuple[str, str]]) -> float:
        """Seconds until a node's DNS gives exactly these."""
        began = time.monotonic()
        wait_until(
            lambda: set(self.answers(asked, kind)) == expected,
            what=f"{kind} as {asked} sees it: {sorted(expected)}",
        )
        return time.monotonic() - began

    def kill(self, node: str, word: str) -> None:
        os.kill(self.agents[node].service_pid(word), signal.SIGKILL)


@pytest.fixture(scope="module")
def choir(consul_bin: str) -> Iterator[Choir]:
    with Cluster(consul_bin) as cluster:
        made = Choir(cluster)
        try:
            for agent in made.agents.values():
                agent.start()
            for node, agent in made.agents.items():
                agent.wait_ready(*ENGINES[node])
            # Each test may be the first, and takes this for granted.
            best = {(node, words[0]) for node, words in ENGINES.items()}
            for node in ENGINES:
                made.wait_answers(node, "service", set(made.ports))
                made.wait_answers(node, "query", best)
            yield made
        finally:
            for agent in made.agents.values():
                agent.close()


def test_every_node_has_every_live_engine_and_its_own_best_first(choir: Choir):
    best = {("a", "xtts"), ("b", "openvoice"), ("c", "piper")}
    for node in ENGINES:
        choir.wait_answers(node, "service", set(choir.ports))
        choir.wait_answers(node, "query", best)
    for node, words in ENGINES.items():
        for _ in range(5):  # the asking node's own engine is the first answer, always
            assert choir.answers(node, "query")[0] == (node, words[0])


def test_a_killed_engine_is_replaced_on_every_node_and_comes_back(choir: Choir):
    rest = {("b", "openvoice"), ("c", "piper")}
    choir.kill("a", "xtts")
    for node in ENGINES:
        assert choir.wait_answers(node, "query", {("a", "piper"), *rest}) < 15
    assert choir.answers("a", "query")[0] == ("a", "piper")
    choir.agents["a"].wait_ready("xtts")
    for node in ENGINES:
        choir.wait_answers(node, "service", set(choir.ports))
        choir.wait_answers(node, "query", {("a", "xtts"), *rest})


def test_a_node_without_an_engine_of_its_own_is_answered_with_those_of_the_others(choir: Choir):
    assert choir.agents["c"].cli("stop", "piper", "--wait").code == 0
    others = {("a", "xtts"), ("b", "openvoice")}
    for node in ENGINES:
        choir.wait_answers(node, "query", others)
        choir.wait_answers(node, "service", set(choir.ports) - {("c", "piper")})
    assert choir.agents["c"].cli("start", "piper", "--wait").code == 0
    choir.wait_answers("c", "query", {*others, ("c", "piper")})
    assert choir.answers("c", "query")[0] == ("c", "piper")
