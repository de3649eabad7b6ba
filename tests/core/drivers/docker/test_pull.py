"""Pulling from a real engine and a small registry: progress, and refusals in the registry's words."""

from __future__ import annotations

import pytest

from lictor.core.drivers.docker.images import EnginePuller, pull
from lictor.core.errors import OperationFailed
from tests.support.dockerd import IMAGE
from tests.support.registry import ImageRegistry


@pytest.fixture
def registry():
    with ImageRegistry() as served:
        yield served


def test_a_pull_says_how_far_it_is_and_then_the_image_is_there(engine, registry):
    said = []
    pull(registry.image, lambda *step: said.append(step), address=engine.address)
    try:
        assert engine.api.images(name=registry.image)
        assert any(word == "Downloading" and 0 < done <= total for word, done, total in said)
        assert said[-1][1] == said[-1][2] > 2_900_000
        pull(registry.image, lambda *step: said.append(step), address=engine.address)
        assert "up to date" in said[-1][0]
    finally:
        engine.api.remove_image(registry.image, force=True)


def test_a_puller_says_what_is_there_and_the_share_of_what_is_coming(engine, registry, tmp_path):
    puller, shares = EnginePuller(engine.address), []
    assert puller.has(IMAGE)
    assert not puller.has(registry.image)
    puller.pull(registry.image, lambda said, share: shares.append(share))
    assert puller.has(registry.image)
    assert None in shares
    assert shares[-1] == 1.0
    engine.api.remove_image(registry.image, force=True)
    with pytest.raises(OperationFailed) as failed:
        EnginePuller(f"unix://{tmp_path}/none.sock").has(IMAGE)
    assert failed.value.code == "docker.absent"


@pytest.mark.parametrize(
    ("refuse", "hint"),
    [
        ((404, "MANIFEST_UNKNOWN"), "name and its tag"),
        ((403, "DENIED"), "docker login"),
        ((500, "UNKNOWN"), ""),
    ],
)
def test_a_pull_that_is_refused_says_so_with_the_next_step(engine, registry, refuse, hint):
    registry.refuse = refuse
    with pytest.raises(OperationFailed) as failed:
        pull(registry.image, lambda *_: None, address=engine.address)
    assert failed.value.code == "docker.pull_refused"
    assert registry.image in failed.value.message
    assert hint in failed.value.hint


def test_a_registry_that_is_not_there_is_named(engine):
    with pytest.raises(OperationFailed) as failed:
        pull("127.0.0.1:9/nobody/nothing:1", lambda *_: None, address=engine.address)
    assert "127.0.0.1:9" in failed.value.message


def test_a_pull_without_an_engine_says_that(tmp_path):
    with pytest.raises(OperationFailed) as failed:
        pull(IMAGE, lambda *_: None, address=f"unix://{tmp_path}/none.sock")
    assert failed.value.code == "docker.absent"
