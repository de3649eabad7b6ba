"""Looks at the GPUs through a process of its own, which has a time limit.

`core.probes.nvml` is that process. Here it is started when somebody looks, asked one question at a
time, killed when it does not answer in time and started again after a pause that doubles. A process
that hangs inside the kernel does not even die of KILL: then no second one is started beside it, and
the answer is `Unknown` until it is gone. On a host without a driver the process is ended at once and
the answer kept for a while: looking must cost next to nothing where there is nothing to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lictor.core.model.gpu import Gpu, GpuProcess, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import because
from lictor.core.probes.text import one_line

log = logging.getLogger(__name__)

_FIRST = 20.0  # seconds; without persistence mode the driver wakes every card when it is opened
_NEXT = 5.0  # seconds for each look after that
_PAUSES = (1.0, 60.0)  # seconds until the next start after a failure: the first, and the longest
_NONE_FOR = (5.0, 60.0)  # seconds that "no driver" is believed: at first, and after many times
_DIES_WITHIN = 1.0  # seconds a killed helper has before it counts as stuck in the kernel
_LIMIT = 1 << 20  # bytes of one answer

#: Made by the driver when it is loaded, so a change of it is worth a look at once.
_NODE = "/dev/nvidiactl"

#: Our own interpreter on our own module. -P: nothing from the folder that the agent runs in.
COMMAND = (sys.executable, "-P", "-m", "lictor.core.probes.nvml")


@dataclass(frozen=True, slots=True)
class _Nothing:
    """There was nothing to see. `until` is monotonic seconds; `node`: the driver's device was there."""

    inventory: Inventory
    pause: float
    until: float
    node: bool

    @classmethod
    def again(cls, before: _Nothing | None, found: Inventory) -> _Nothing:
        """Nothing once more: believed for longer each time."""
        pause = _NONE_FOR[0] if before is None else min(2 * before.pause, _NONE_FOR[1])
        return cls(found, pause, time.monotonic() + pause, _node())


class GpuHelper:
    """The `GpuProbe` over a helper process. Belongs to one event loop.

    `limits` are the seconds that the first look of a process and each later one may take.
    """

    def __init__(
        self, command: Sequence[str] = COMMAND, *, limits: tuple[float, float] = (_FIRST, _NEXT)
    ) -> None:
        self._command = tuple(command)
        self._limits = limits
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._stuck: asyncio.subprocess.Process | None = None
        self._fresh = True
        self._pause = 0.0
        self._not_before = 0.0
        self._none: _Nothing | None = None
        self._why = ""
        self._told = ""

    @property
    def pid(self) -> int | None:
        """The helper that runs now, if one does."""
        return self._process.pid if self._process is not None else None

    async def look(self) -> Known[Inventory] | Unknown:
        """Every card as it is now; see `GpuProbe.look`. Callers at the same time wait in a row."""
        async with self._lock:
            now = time.monotonic()
            if self._none is not None and now < self._none.until and _node() == self._none.node:
                return Known(self._none.inventory)
            if now < self._not_before:
                return Unknown(because("gpu.unknown", why=self._why))
            try:
                return await self._ask()
            except (OSError, ValueError, TimeoutError) as error:
                return await self._failed(_words(error))
            except asyncio.CancelledError:
                await self._end()  # its answer would be taken for that of the next question
                raise

    async def close(self) -> None:
        """End the helper."""
        async with self._lock:
            await self._end()

    async def _ask(self) -> Known[Inventory] | Unknown:
        process = await self._running()
        limit = self._limits[0] if self._fresh else self._limits[1]
        async with asyncio.timeout(limit):
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
            process.stdin.write(b"look\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        if not line:
            raise ValueError("the helper ended")
        answer = json.loads(line)
        if not isinstance(answer, dict) or "error" in answer:
            text = answer.get("error") if isinstance(answer, dict) else "no answer"
            raise ValueError(one_line(str(text), 120))
        found = inventory_from(answer)
        self._fresh, self._pause = False, 0.0
        if found.problem:
            await self._end()
            self._none = _Nothing.again(self._none, found)
        else:
            self._none = None
        self._tell(found.problem or "found")
        return Known(found)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._stuck is not None:
            if self._stuck.returncode is None:
                raise ValueError("the driver hangs, and so does the process that asked it")
            self._stuck = None
        if self._process is None or self._process.returncode is not None:
            await self._end()
            self._fresh = True
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=_environment(os.environ),
                limit=_LIMIT,
            )
        return self._process

    async def _failed(self, why: str) -> Unknown:
        await self._end()
        self._pause = min(max(_PAUSES[0], 2 * self._pause), _PAUSES[1])
        self._not_before = time.monotonic() + self._pause
        self._why = why
        self._tell(why)
        return Unknown(because("gpu.unknown", why=why))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_DIES_WITHIN):
                await process.wait()
        except TimeoutError:
            self._stuck = process
            log.warning("pid %d hangs in the GPU driver and cannot be killed", process.pid)

    def _tell(self, what: str) -> None:
        """Said once, and again only when it has changed."""
        if what == self._told:
            return
        self._told = what
        if what in {"no_library", "no_driver", "no_cards"}:
            log.info("no NVIDIA driver here: no GPUs")
        elif what != "found":
            log.warning("the GPUs cannot be read: %s", what)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The helper needs no credential of ours: it talks to a driver and to nobody else."""
    return {name: value for name, value in ours.items() if not name.startswith("CONSUL_")}


def _node() -> bool:
    return os.path.exists(_NODE)  # noqa: PTH110 - asked with every look


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the driver does not answer"
    return one_line(str(error), 120) or type(error).__name__


def inventory_from(answer: Mapping[str, Any]) -> Inventory:
    """What the helper wrote. Raises `ValueError` for what is no answer of it."""
    try:
        cards = tuple(_card(row) for row in answer["cards"])
        return Inventory(
            cards=tuple(sorted(cards, key=lambda card: card.index)),
            driver=answer.get("driver"),
            cuda=answer.get("cuda"),
            problem=str(answer.get("problem") or ("" if cards else "no_cards")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no answer of the helper: {error}") from None


def _card(row: Mapping[str, Any]) -> Gpu:
    given = dict(row)
    processes = given.pop("processes", None)
    told = None if processes is None else tuple(GpuProcess(**one) for one in processes)
    return Gpu(**given, processes=told)
