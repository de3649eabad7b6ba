"""What the parts of the docker driver say to each other: containers as seen, and two ways to fail.

It stands apart so that everything but `gate` can be read, tested and typed without the Docker
library. An engine that does not answer (`EngineAway`) says nothing about any container; one that
answers and refuses (`EngineRefused`) does. Nothing here does anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from lictor.core.model.reason import Reason
from lictor.core.model.state import Exit

#: Labels of every container and network that Lictor makes.
OWNER = "lictor.owner"
SERVICE = "lictor.service"
NODE = "lictor.node"
FINGERPRINT = "lictor.fingerprint"
JOB = "lictor.job"

#: States of a container in which processes of it exist (Docker Engine API, ContainerState).
_ALIVE = frozenset({"running", "paused", "restarting"})
_TOLD_SIGNAL = 128  # a main process that was ended by signal n gives 128 + n


class EngineAway(Exception):
    """No answer: whatever was asked may or may not have been done. `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


class EngineRefused(Exception):
    """The engine answered, and said no. `status` is the HTTP status, `said` its own words."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.said = said
        self.status = status

    @property
    def missing(self) -> bool:
        """Whether there is no such thing."""
        return self.status == 404


@dataclass(frozen=True, slots=True)
class Seen:
    """One container of ours in a listing. `service` is the text of its key."""

    id: str
    name: str
    service: str
    state: str
    fingerprint: str = ""
    job: bool = False

    @property
    def alive(self) -> bool:
        """Whether it has processes."""
        return self.state in _ALIVE


@dataclass(frozen=True, slots=True)
class Inspected:
    """One container, looked at. `code`, `oom` and `error` count once it is not `alive`."""

    id: str
    name: str
    image: str
    state: str
    pid: int = 0
    code: int | None = None
    oom: bool = False
    error: str = ""
    owner: str = ""
    service: str = ""
    fingerprint: str = ""

    @property
    def alive(self) -> bool:
        """Whether it has processes."""
        return self.state in _ALIVE

    def exit(self) -> Exit:
        """How its main process ended."""
        return exit_of(self.code, oom=self.oom)


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself. `gpu`: how it gives out GPUs (`nvidia`, `cdi`), or nothing."""

    version: str
    gpu: str = ""


def exit_of(code: int | None, *, oom: bool) -> Exit:
    """An exit code as Docker gives it: 128 + n stands for signal n, as in a shell.

    137 is KILL from anybody; only `State.OOMKilled` tells that it was the kernel's, for memory. It
    is also set when a child was ended so, which explains an exit with an error, but no other signal.
    """
    if code is None:
        return Exit()
    signal = code - _TOLD_SIGNAL
    if 0 < signal < 32:
        return Exit(signal=signal, oom=oom and signal == 9)
    return Exit(code=code, oom=oom and code != 0)
