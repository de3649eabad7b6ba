"""The gate to Docker, on a real engine: nothing of a conversation that failed stays open."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from lictor.core.drivers.docker.gate import Engine
from lictor.core.drivers.docker.terms import OWNER, EngineAway
from tests.core.drivers.docker.conftest import LOOP
from tests.support.dockerd import IMAGE


def sockets() -> set[str]:
    """Those that this process has open."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add(str(each.readlink()))
    return {one for one in found if one.startswith("socket:")}


def test_a_log_whose_second_question_has_no_answer_leaves_no_connection_open(
    engine, owner, monkeypatch
):
    made = engine.api.create_container(IMAGE, ["sh", "-c", LOOP], labels={OWNER: owner})
    engine.api.start(made)
    before = sockets()
    gate = Engine(engine.address)
    client = gate.new_client(10.0)

    def mute(_container):
        raise requests.exceptions.ReadTimeout("no answer")

    try:
        monkeypatch.setattr(client, "inspect_container", mute)
        with pytest.raises(EngineAway) as failed:
            gate.logs(client, made["Id"], since=0, follow=True)
        client.close()
        # While the error, with all it remembers, is still there. (Others may close theirs.)
        assert sockets() - before == set()
        assert failed.value.reason.code == "docker.unreachable"
    finally:
        engine.remove_of(owner)


def test_a_removal_that_another_began_is_waited_for_so_that_the_name_is_free(engine, owner):
    gate, name = Engine(engine.address), f"twice-{owner[:8]}"

    def made() -> str:
        labels = {OWNER: owner}
        return str(engine.api.create_container(IMAGE, ["true"], name=name, labels=labels)["Id"])

    def remove(container: str) -> None:
        gate.remove(container, 30.0)
        gate.leave()

    try:
        with ThreadPoolExecutor(3) as threads:
            for _ in range(10):
                container = made()
                others = [threads.submit(remove, container) for _ in range(3)]
                remove(container)
                made()  # a name that is still taken would be refused
                for other in others:
                    other.result()
                engine.remove_of(owner)
    finally:
        engine.remove_of(owner)
