"""What `lictor doctor` asks of a Docker engine: whether it answers, gives out GPUs, has the images.

Blocking and short, for a command that ends. It changes nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lictor.core.drivers.docker.terms import EngineAway, EngineFacts, EngineRefused
from lictor.core.model.finding import Finding, Level
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec

if TYPE_CHECKING:
    from lictor.core.drivers.docker.gate import Engine

_LIMIT = 5.0  # seconds


def examine_engine(specs: Iterable[ServiceSpec], address: str | None = None) -> list[Finding]:
    """What is found; nothing where no service needs an engine."""
    boxed = [spec for spec in specs if spec.docker is not None]
    if not boxed:
        return []
    # A service that may be a process as well does without an engine.
    bad = Level.FAIL if any(spec.driver == "docker" for spec in boxed) else Level.WARN
    engine: Engine = importlib.import_module("lictor.core.drivers.docker.gate").Engine(address)
    try:
        facts = engine.facts(_LIMIT)
        return [_about(facts, boxed), *_images(engine, boxed)]
    except EngineAway as away:
        return [Finding("docker", bad, away.reason)]
    except EngineRefused as refused:
        return [Finding("docker", bad, because("docker.refused", error=refused.said))]
    finally:
        engine.leave()


def _about(facts: EngineFacts, boxed: Iterable[ServiceSpec]) -> Finding:
    if not facts.gpu and any(spec.gpu is not None and spec.driver == "docker" for spec in boxed):
        return Finding(
            "docker", Level.FAIL, because("docker.no_gpu_support", version=facts.version)
        )
    told = because("doctor.docker_gpus" if facts.gpu else "doctor.docker_ok", version=facts.version)
    return Finding("docker", Level.OK, told)


def _images(engine: Engine, boxed: Iterable[ServiceSpec]) -> Iterable[Finding]:
    for spec in boxed:
        docker = spec.docker
        if docker is None or docker.build or engine.has_image(docker.image, _LIMIT):
            continue
        why: Reason = because("docker.image_missing", image=docker.image, service=str(spec.key))
        yield Finding("docker", Level.WARN, why, subject=str(spec.key))
