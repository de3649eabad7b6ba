"""Watches services load their models: how far they are, and how long such a start usually takes.

For every service with a parameter `model`, not only during a switch: a person who waits three minutes
wants to know that it is the weights and not a fault. It reads what the service prints from the moment
its run began, looks how its model's folder grows, and remembers of each service and model how long
the last starts took. It decides nothing and changes nothing; all reading is done in a thread, and a
disk that hangs holds up nobody but this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lictor.core.errors import LictorError
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning.model_names import PARAM, offers_choice
from lictor.core.planning.model_progress import KEPT, Loading, estimate, median, percent_in
from lictor.core.probes import hub_cache
from lictor.core.runtime.logs.pieces import LogReader
from lictor.core.runtime.supervision.runner import Runner

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

log = logging.getLogger(__name__)

_EVERY = 0.5  # seconds between two looks at a model that loads
_CALM = 0.01  # seconds between two looks at all, however often the bell rings
_MOST_LOG = 1024 * 1024  # bytes of a log that one look reads at most
_OVERLAP = 400  # bytes that are read again: a progress bar rewrites its line without ending it
_STARTS, _RUNS = "model_starts", "model_runs"
_MOST_REMEMBERED = 64  # models of one service


@dataclass(slots=True)
class _Run:
    """One start as it goes on. `started` names it; `offset` is where its part of the log begins."""

    started: float
    model: str
    offset: int
    held: int  # bytes of the model that were there before
    percent: int | None = None
    grown: int = 0
    looked: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a service and a model: seconds of its last starts, size, last use."""

    durations: tuple[float, ...] = ()
    size: int | None = None
    used: float | None = None  # Unix seconds
    of: float | None = None  # the run that was counted last


class ModelLoads:
    """The loads of one agent. Lives in the event loop's thread."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._runs: dict[ServiceKey, _Run] = {}
        self._first: dict[ServiceKey, tuple[float, asyncio.Future[tuple[int, int]]]] = {}

    def of(self, key: ServiceKey) -> Loading | None:
        """How far the start of a service is; None: it does not load, or nobody has looked yet."""
        runner = self._agent.reconciler.runners.get(key)
        run = self._runs.get(key)
        if runner is None or run is None or runner.state.phase is not Phase.STARTING:
            return None
        if runner.state.started != run.started:
            return None
        past = self.history(key, run.model)
        return estimate(
            run.model,
            elapsed=max(0.0, self._agent.tools.clock.now() - run.started),
            marked=run.percent,
            grown=run.grown,
            size=past.size,
            durations=past.durations,
        )

    def history(self, key: ServiceKey, model: str) -> History:
        """What is remembered of a service with a model."""
        return _history_from(self._agent.tools.store.load(_STARTS).get(f"{key}|{model}", {}))

    def usual(self, key: ServiceKey, model: str) -> float | None:
        """Seconds that a start with this model takes: the middle of the last ones; None: no idea."""
        return median(self.history(key, model).durations)

    def changed(self, runner: Runner, before: ServiceState) -> None:
        """A runner's state changed: a start that begins is looked at before it can print anything.

        `attend` may come late, because it is busy with another service or not called yet, and what
        was printed before the first look is not the start's own any more.
        """
        phase, started = runner.state.phase, runner.state.started
        if phase is not Phase.STARTING or started is None or started == before.started:
            return
        if offers_choice(runner.spec.params):
            self._first[runner.key] = started, self._look_first(runner)

    async def attend(self) -> None:
        """Look for ever: when something changed, and twice a second while something loads."""
        bell = self._agent.bell
        while True:
            rings = bell.rings
            busy = [await self._look(key, runner) for key, runner in list(self._those())]
            if rings == bell.rings:
                await bell.wait(_EVERY if any(busy) else None)
            await asyncio.sleep(_CALM)

    def _those(self) -> Iterator[tuple[ServiceKey, Runner]]:
        for key, runner in self._agent.reconciler.runners.items():
            if offers_choice(runner.spec.params):
                yield key, runner

    async def _look(self, key: ServiceKey, runner: Runner) -> bool:
        """One look at one service; whether it loads."""
        state = runner.state
        if state.started is None:
            return False
        run = self._runs.get(key)
        if state.phase is Phase.STARTING:
            if run is None or run.started != state.started:
                run = self._runs[key] = await self._begun(key, runner, state.started)
            before, now = (run.percent, run.grown), self._agent.tools.clock.now()
            if run.looked is None or now - run.looked >= _EVERY:
                run.looked = now
                await self._read(runner, run)
            if before != (run.percent, run.grown):
                self._agent.bell.ring()
            return True
        if state.phase is Phase.READY and state.ready_since is not None:
            await self._count(key, runner, state.started, state.ready_since - state.started)
        return False

    async def _begun(self, key: ServiceKey, runner: Runner, started: float) -> _Run:
        """A start that is seen for the first time, or was begun under an earlier agent."""
        model, store = str(runner.spec.param(PARAM)), self._agent.tools.store
        row = store.load(_RUNS).get(str(key), {})
        with suppress(KeyError, TypeError, ValueError):
            if row["started"] == started and row["model"] == model:
                return _Run(started, model, int(str(row["offset"])), int(str(row["held"])))
        told, first = self._first.pop(key, (None, None))
        if first is None or told != started:
            first = self._look_first(runner)
        end, held = await first
        row = {"started": started, "model": model, "offset": end, "held": held}
        store.save(_RUNS, str(key), row)
        return _Run(started, model, end, held)

    def _look_first(self, runner: Runner) -> asyncio.Future[tuple[int, int]]:
        """Begun at once, in a thread."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(None, _first_look, runner.log_path(), runner.spec)

    async def _read(self, runner: Runner, run: _Run) -> None:
        path, hub = runner.log_path(), _hub(runner)
        percent, offset, size = await asyncio.to_thread(_look_at, path, hub, run.model, run.offset)
        run.offset = offset
        if percent is not None:
            run.percent = max(percent, run.percent or 0)
        run.grown = max(0, size - run.held)

    async def _count(
        self, key: ServiceKey, runner: Runner, started: float, duration: float
    ) -> None:
        """Remember a start that got ready, once."""
        model = str(runner.spec.param(PARAM))
        if runner.state.fingerprint != runner.spec.fingerprint() or runner.state.adopted:
            # Either the definition is newer than the run, so that this is the model before; or an
            # agent that was not there cannot say when the run got ready.
            return
        past = self.history(key, model)
        if past.of == started:
            return
        size = await asyncio.to_thread(_size, _hub(runner), model)
        now = replace(
            past,
            durations=(*past.durations, round(duration, 1))[-KEPT:],
            size=size or past.size,
            used=round(self._agent.tools.clock.wall()),
            of=started,
        )
        self._agent.tools.store.save(_STARTS, f"{key}|{model}", asdict(now))
        self._forget_oldest(key)

    def _forget_oldest(self, key: ServiceKey) -> None:
        store, begin = self._agent.tools.store, f"{key}|"
        mine = {
            name: _history_from(row).used or 0.0
            for name, row in store.load(_STARTS).items()
            if name.startswith(begin)
        }
        for name in sorted(mine, key=mine.__getitem__)[:-_MOST_REMEMBERED]:
            store.save(_STARTS, name, None)


def _hub(runner: Runner) -> Path | None:
    return hub_cache.hub_folder(runner.spec)


def _size(hub: Path | None, model: str) -> int:
    """Bytes of a model in the cache; 0 where it is none of the hub's."""
    if hub is None:
        return 0
    try:
        return hub_cache.size_of(hub, model)
    except LictorError:
        return 0


def _first_look(path: Path | None, spec: ServiceSpec) -> tuple[int, int]:
    """Where the log ends, and what of the model is there. In a thread."""
    end = 0
    if path is not None:
        with suppress(LictorError, OSError):
            end = LogReader(path).settled().end
    return end, _size(hub_cache.hub_folder(spec), str(spec.param(PARAM)))


def _look_at(
    path: Path | None, hub: Path | None, model: str, offset: int
) -> tuple[int | None, int, int]:
    """Percent that the log tells from `offset` on, where to go on, bytes of the model. In a thread."""
    percent = None
    if path is not None:
        with suppress(LictorError, OSError):
            reader = LogReader(path)
            end = reader.settled().end
            text = reader.span(max(offset, end - _MOST_LOG), end).decode(errors="replace")
            percent = percent_in(text)
            offset = max(offset, end - _OVERLAP)
    return percent, offset, _size(hub, model)


def _history_from(row: Mapping[str, Any]) -> History:
    try:
        return History(
            durations=tuple(float(each) for each in row["durations"]),
            size=row["size"],
            used=row["used"],
            of=row["of"],
        )
    except (KeyError, TypeError, ValueError):
        return History()
