"""Services that run in memory: a driver, what it starts, and a prober that says what it was told.

The tables in the docstrings of `ports.Running` and `ports.Driver` hold for these too; time passes in
them only through the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.model.spec import DriverKind, ProbeSpec, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports import ProbeResult, StopReport

_KILL, _TERM = 9, 15  # signal numbers, signal(7)


class FakeRunning:
    """A service that runs until `end` is called or it is stopped.

    `stop_takes`: seconds from the stop signal until it is gone; KILL ends it at once.
    """

    def __init__(self, key: ServiceKey, identity: Identity, *, stop_takes: float = 0.0) -> None:
        self.key = key
        self.stop_takes = stop_takes
        self.stops: list[StopSpec] = []
        self._identity = identity
        self._exit: Exit | None = None
        self._ended = asyncio.Event()
        self._gone = asyncio.Event()
        self._killed = False

    @property
    def identity(self) -> Identity:
        """A pid that no other fake of this driver has."""
        return self._identity

    @property
    def containment(self) -> str:
        """There are no processes to hold."""
        return ""

    @property
    def over(self) -> bool:
        """Whether the main process has ended, told or not."""
        return self._exit is not None

    @property
    def alive(self) -> bool:
        """Whether the main process runs."""
        return self._exit is None

    @property
    def gone(self) -> bool:
        """Whether every process is gone, children too."""
        return self._gone.is_set()

    def end(
        self, exit_: Exit | None = None, *, children: bool = False, told_after: float = 0.0
    ) -> None:
        """The main process ends by itself (default: with status 1); `children` stay if so said.

        `told_after`: seconds that its last words hold `wait` up, as a container's do.
        """
        self._exit = self._exit or exit_ or Exit(code=1)
        if told_after:
            asyncio.get_running_loop().call_later(told_after, self._ended.set)
        else:
            self._ended.set()
        if not children:
            self._gone.set()

    async def wait(self) -> Exit:
        """Wait until the main process has ended."""
        await self._ended.wait()
        return self._exit or Exit()

    async def stop(self, how: StopSpec) -> StopReport:
        """End it: after `stop_takes` seconds, or by KILL after `how.timeout`."""
        self.stops.append(how)
        if not self._gone.is_set():
            in_time = self.stop_takes < how.timeout
            try:
                async with asyncio.timeout(min(self.stop_takes, how.timeout)):
                    await self._gone.wait()
            except TimeoutError:
                if not self._gone.is_set():
                    self._killed = not in_time and self.stop_takes > 0
                    self.end(Exit(signal=_KILL if self._killed else _TERM))
        return StopReport(self._exit or Exit(), killed=self._killed)


class FakeDriver:
    """A driver whose services are `FakeRunning`; give one to several agents to test adoption.

    `started` and `jobs` record what was asked; `fail` and `job_exits` script failures. `log_dir`,
    if given, is where `log_path` points: write the files yourself.
    """

    def __init__(self, kind: DriverKind = "process", log_dir: Path | None = None) -> None:
        self._kind = kind
        self._log_dir = log_dir
        self._pids = 1000
        self._failures: deque[StartFailed] = deque()
        self.start_takes = 0.0
        self.stop_takes = 0.0
        self.job_takes = 0.0
        self.job_exits: dict[str, Exit] = {}
        self.jobs: list[tuple[str, ...]] = []
        self.jobs_cut = 0
        self.started: list[ServiceSpec] = []
        self.runs: list[FakeRunning] = []

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        return self._kind

    def fail(self, *failures: StartFailed) -> None:
        """The next starts fail with these, one each."""
        self._failures.extend(failures)

    def live(self, key: ServiceKey) -> list[FakeRunning]:
        """The runs of this service of which a process is left."""
        return [run for run in self.runs if run.key == key and not run.gone]

    async def start(self, spec: ServiceSpec) -> FakeRunning:
        """Start, after `start_takes` seconds, or raise the next scripted failure."""
        if self.start_takes:
            await asyncio.sleep(self.start_takes)
        if self._failures:
            raise self._failures.popleft()
        self._pids += 1
        self.started.append(spec)
        identity = Identity(self._pids, self._pids * 7, "fake-boot")
        self.runs.append(FakeRunning(spec.key, identity, stop_takes=self.stop_takes))
        return self.runs[-1]

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:  # noqa: ARG002 - the port
        """Record the job; its exit is `job_exits[argv[0]]`, else status 0."""
        self.jobs.append(tuple(argv))
        try:
            await asyncio.sleep(self.job_takes)
        except asyncio.CancelledError:
            self.jobs_cut += 1
            raise
        return self.job_exits.get(argv[0], Exit(code=0))

    def recover(
        self,
        spec: ServiceSpec,
        identity: Identity | None,
        *,
        after: float = 0.0,  # noqa: ARG002 - a main process that lives is never one of a run that ended
    ) -> FakeRunning | None:
        """The live run of this service with that identity, else any live run of it."""
        found = [run for run in self.live(spec.key) if run.alive]
        exact = [run for run in found if run.identity == identity]
        return next(iter(exact or found), None)

    def sweep(self, spec: ServiceSpec) -> asyncio.Task[None] | None:
        """Stop the runs of this service of which only children are left."""
        left = [run for run in self.live(spec.key) if not run.alive]
        return asyncio.create_task(_stopped(left, spec.stop)) if left else None

    def notes(self, spec: ServiceSpec) -> tuple[Reason, ...]:  # noqa: ARG002 - the port
        """Nothing: every limit is kept."""
        return ()

    def log_path(self, spec: ServiceSpec) -> Path | None:
        """`log_dir/<key>.log`."""
        return None if self._log_dir is None else self._log_dir / f"{spec.key}.log"


async def _stopped(runs: list[FakeRunning], how: StopSpec) -> None:
    for run in runs:
        await run.stop(how)


class FakeProber:
    """Answers what it was told, by target (of a command: its words joined by spaces)."""

    def __init__(self, *, passing: bool = True) -> None:
        self.passing = passing
        self.takes = 0.0
        self.asked: list[ProbeSpec] = []
        self._answers: dict[str, ProbeResult] = {}
        self._scripts: dict[str, deque[ProbeResult]] = {}

    def say(self, target: str, *, passed: bool, output: str = "") -> None:
        """From now on the answer of this target."""
        self._answers[target] = ProbeResult(passed, output)

    def script(self, target: str, *answers: ProbeResult) -> None:
        """The next answers of this target, one each; after them what `say` said."""
        self._scripts.setdefault(target, deque()).extend(answers)

    async def probe(self, spec: ProbeSpec) -> ProbeResult:
        """Answer; a target that takes as long as the timeout has failed."""
        self.asked.append(spec)
        await asyncio.sleep(min(self.takes, spec.timeout))
        if self.takes >= spec.timeout:
            return ProbeResult(passed=False, output="no answer in time", took=spec.timeout)
        target = spec.target or " ".join(spec.argv)
        if self._scripts.get(target):
            return self._scripts[target].popleft()
        output = "" if self.passing else "told to fail"
        return self._answers.get(target, ProbeResult(self.passing, output))
