"""A docker driver of its own for each test, on the one engine, and nothing of it left at the end."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Self

import pytest

from lictor.core.drivers.docker.driver import DockerDriver
from lictor.core.model.container import ContainerSpec
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from tests.support.dockerd import IMAGE

MakeSpec = Callable[..., ServiceSpec]
LOOP = "while :; do sleep 0.05; done"


class Ears:
    """Hears what the agent would."""

    def __init__(self) -> None:
        self.troubles = []
        self.progress = []
        self.strays = []
        self.knows = True

    def doubt(self, trouble) -> None:
        self.troubles.append(None if trouble is None else trouble.code)

    def told(self, key, progress) -> None:
        self.progress.append((str(key), progress))

    def found(self, key) -> bool:
        self.strays.append(str(key))
        return self.knows


class Pauses:
    """The longest pause of a thread that only sleeps: what this machine does to anybody."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        last, done = time.monotonic(), False
        while not done:
            done = self._done.wait(0.02)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


@pytest.fixture
def last_words(monkeypatch) -> None:
    """An exit waits for the last lines as long as they take: it ends when they are there."""
    monkeypatch.setattr("lictor.core.drivers.docker.running._LAST_WORDS", 20.0)


@pytest.fixture
def owner() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
async def make_driver(tmp_path, owner, ears):
    """Makes drivers that have begun; each further one is a later agent of the same installation."""
    made = []

    def make(address, **options) -> DockerDriver:
        driver = DockerDriver(tmp_path / "logs", owner, node="n1", address=address, **options)
        driver.listen(ears)
        driver.begin()
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
async def driver(make_driver, engine, owner):
    yield make_driver(engine.address)
    engine.remove_of(owner)


@pytest.fixture
def spec(tmp_path) -> MakeSpec:
    """A service in a busybox container without a network; `docker` are keys of `ContainerSpec`."""

    def make(*command: str, key: str = "piper", docker=None, **fields) -> ServiceSpec:
        container = ContainerSpec(**{"image": IMAGE, "network": "none", **(docker or {})})
        return ServiceSpec(
            key=ServiceKey.parse(key),
            driver="docker",
            command=command or ("sh", "-c", LOOP),
            cwd=str(tmp_path),
            docker=container,
            **fields,
        )

    return make
